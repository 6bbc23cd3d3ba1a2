"""Join: several modules become one, with a function for each and equal kernels once.

    {main: A, main_32: B}   ->   one module with the functions main and main_32

Constants need no care: TVM's virtual machine keeps equal ones once.
"""

from collections.abc import Mapping, Sequence

from tvm.relax.expr_functor import PyExprMutator, mutator

from tersor.ir.graph import Expr, Module
from tersor.ir.untyped import relax, tvm

EXTERNAL = "external_mods"  # the attribute of a module with what other compilers have made of its parts


def join(mods: Mapping[str, Module]) -> Module:
    """Give one module in which each module's `main` has the name that it has in `mods`."""
    builder = relax.BlockBuilder()  # keeps equal functions once, and gives each a name of its own
    mains = {}
    for name, mod in mods.items():
        kernels = {var: f for var, f in mod.functions.items() if not isinstance(f, relax.Function)}
        renamed = {var: builder.add_func(function, var.name_hint) for var, function in kernels.items()}
        main: Expr = _Renaming(renamed).visit_expr(mod["main"])
        mains[tvm.ir.GlobalVar(name)] = main.with_attr("global_symbol", name)
    joined = tvm.IRModule({**mains, **builder.get().functions})
    return with_external(joined, [each for mod in mods.values() for each in external_of(mod)])


def external_of(mod: Module) -> list[Expr]:
    """Give the libraries that other compilers have made of parts of a module."""
    return list((mod.attrs or {}).get(EXTERNAL, []))


def with_external(mod: Module, libraries: Sequence[Expr]) -> Module:
    """Give the module with libraries beside those that it has."""
    return mod.with_attr(EXTERNAL, [*external_of(mod), *libraries]) if libraries else mod


def renamed(mod: Module, names: Mapping[Expr, str]) -> Module:
    """Give the module with other names for some of its Relax functions; these are the keys of `names`."""
    targets: dict[Expr, Expr] = {}
    for var, name in names.items():
        targets[var] = tvm.ir.GlobalVar(name)
        relax.expr._update_type(targets[var], var.ty)
    functions: dict[Expr, Expr] = dict(mod.functions.items())
    for var, function in mod.functions.items():
        if isinstance(function, relax.Function):
            functions[var] = _Renaming(targets).visit_expr(function)
    for var, name in names.items():
        functions[targets[var]] = functions.pop(var).with_attr("global_symbol", name)
    return tvm.IRModule(functions, attrs=mod.attrs)


@mutator
class _Renaming(PyExprMutator):
    """Calls other functions, as `renamed` says."""

    def __init__(self, renamed: Mapping[Expr, Expr]) -> None:
        super().__init__()
        self.renamed = renamed

    def visit_global_var_(self, op: Expr) -> Expr:
        """Give the variable that stands for a function in the joined module."""
        return self.renamed.get(op, op)
