"""Borrow: a module calls the kernels of one that is compiled already, instead of equal ones of its own.

    def main(x): y = kernel(x); return more(y)    ->   def main(x): y = theirs(x); return more(y)

Code for kernels is what compiling takes longest for. A network that is compiled again, to look at its
tensors, has them already.
"""

from collections.abc import Mapping

import tvm_ffi
from tvm.relax.expr_functor import PyExprMutator, mutator

from tersor.ir.graph import Expr, Module
from tersor.ir.join import EXTERNAL, external_of
from tersor.ir.untyped import relax, tirx, tvm


def borrow(mod: Module, lender: Module, library: Module) -> Module:
    """Give the module without the kernels that `library` has, the executable compiled of `lender`.

    Both modules are lowered for the same machine, with nothing left to do but to make code of their kernels.
    """
    lent, found = _kernels(lender), _lent(mod, lender)
    calls: dict[Expr, Expr] = {var: relax.ExternFunc(symbol) for var, symbol in found.items()}
    kept = {}
    for var, function in mod.functions.items():
        if isinstance(function, tirx.PrimFunc) and var not in found:
            # A name means one function in all that an executable is made of.
            name = _unused(var.name_hint, lent)
            calls[var] = tvm.ir.GlobalVar(name)
            relax.expr._update_type(calls[var], var.ty)
            kept[calls[var]] = function.with_attr("global_symbol", name)
    mains = {
        var: _Calling(calls).visit_expr(function)
        for var, function in mod.functions.items()
        if isinstance(function, relax.Function)
    }
    # Among these is the check of the CPU, which the module has itself, too: no symbol may be there twice.
    code = [each for each in library.mod.imports if each.kind == "llvm"]
    others = [each for each in external_of(mod) if each.kind != "llvm"]
    return tvm.IRModule({**mains, **kept}, attrs={**(mod.attrs or {}), EXTERNAL: [*others, *code]})


def _lent(mod: Module, lender: Module) -> dict[Expr, str]:
    """Give the symbols of the lender's kernels by the variables of the equal ones in a module."""
    by_hash: dict[int, list[tuple[str, Expr]]] = {}
    for symbol, function in _kernels(lender).items():
        by_hash.setdefault(tvm_ffi.structural_hash(function), []).append((symbol, function))
    found = {}
    for var, function in mod.functions.items():
        if isinstance(function, tirx.PrimFunc):
            plain = function.without_attr("global_symbol")
            for symbol, other in by_hash.get(tvm_ffi.structural_hash(plain), []):
                if tvm_ffi.structural_equal(plain, other):
                    found[var] = symbol
    if len(found) == len(_kernels(mod)) > 0:
        # Without any kernel of its own TVM would write all code again, to files, for the system's linker.
        found.popitem()
    return found


def _kernels(mod: Module) -> dict[str, Expr]:
    """Give the kernels by their symbols, without these."""
    return {
        str(function.attrs["global_symbol"]): function.without_attr("global_symbol")
        for function in mod.functions.values()
        if isinstance(function, tirx.PrimFunc)
    }


def _unused(name: str, taken: Mapping[str, Expr]) -> str:
    while name in taken:
        name += "_own"
    return name


@mutator
class _Calling(PyExprMutator):
    """Calls other functions, as `calls` says."""

    def __init__(self, calls: Mapping[Expr, Expr]) -> None:
        super().__init__()
        self.calls = calls

    def visit_global_var_(self, op: Expr) -> Expr:
        """Give what stands for a function from now on."""
        return self.calls.get(op, op)
