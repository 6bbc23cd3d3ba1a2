"""Join: several modules become one, with a function for each and equal kernels once.

    {main: A, main_32: B}   ->   one module with the functions main and main_32

Constants need no care: TVM's virtual machine keeps equal ones once.
"""

from collections.abc import Mapping

from tvm.relax.expr_functor import PyExprMutator, mutator

from tersor.ir.graph import Expr, Module
from tersor.ir.untyped import relax, tvm


def join(mods: Mapping[str, Module]) -> Module:
    """Give one module in which each module's `main` has the name that it has in `mods`."""
    builder = relax.BlockBuilder()  # keeps equal functions once, and gives each a name of its own
    mains = {}
    for name, mod in mods.items():
        kernels = {var: f for var, f in mod.functions.items() if not isinstance(f, relax.Function)}
        renamed = {var: builder.add_func(function, var.name_hint) for var, function in kernels.items()}
        main: Expr = _Renaming(renamed).visit_expr(mod["main"])
        mains[tvm.ir.GlobalVar(name)] = main.with_attr("global_symbol", name)
    return tvm.IRModule({**mains, **builder.get().functions})


@mutator
class _Renaming(PyExprMutator):
    """Calls other functions, as `renamed` says."""

    def __init__(self, renamed: Mapping[Expr, Expr]) -> None:
        super().__init__()
        self.renamed = renamed

    def visit_global_var_(self, op: Expr) -> Expr:
        """Give the variable that stands for a function in the joined module."""
        return self.renamed[op]
