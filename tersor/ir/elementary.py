"""Elementary functions as arithmetic that vectorises: TVM's end in one call of libm for each element.

They take scalars and vectors. Errors are those of float32 itself, or a few of its steps: 2e-7 of the result,
of erf and tanh 5e-7. The coefficients are minimax: linear programs on Chebyshev points found them.
"""

from collections.abc import Callable
from math import log, pi, sqrt
from typing import Any

from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tersor.ir.graph import Expr
from tersor.ir.untyped import te, tirx, tvm

Legalize = Callable[[Any, Any], Expr]

# Beyond these exp is infinite or no normal number; the bounds let the arithmetic below say so by itself.
LEAST, MOST = -87.4, 89.0
# ln 2 in two parts: the first has few enough digits for its products with small integers to be exact.
LN2_HIGH = 355 / 512
LN2_LOW = log(2) - LN2_HIGH
# Of e^r for |r| <= ln 2 / 2, to 2e-9.
EXP_TERMS = (
    1.0, 1.0, 0.49999991059303284, 0.16666418313980103, 0.04166821390390396, 0.008374911732971668,
    0.001383748953230679,
)  # fmt: skip
# A float32 sum with this is rounded to a whole number, which the last bits of the sum hold, 126 more.
ROUNDING = 1.5 * 2**23 + 126
# Of tanh x / x in x^2, to 2e-8 where |x| is at most this; beyond, tanh is 1.
TANH_MOST = 9.01
TANH_ABOVE = (1.0, 0.13380371034145355, 0.003494811011478305, 2.0596275135176256e-05, 1.3336850734901873e-08)
TANH_BELOW = (1.0, 0.46713685989379883, 0.025874026119709015, 0.00032843631925061345, 7.769284025016532e-07)
# Of erf x / x in x^2, likewise.
ERF_MOST = 3.92
ERF_ABOVE = (
    1.1283791065216064, 0.1904071867465973, 0.052748825401067734, 0.003765649860724807,
    0.00028488380485214293, 2.050086095550796e-06,
)  # fmt: skip
ERF_BELOW = (
    1.0, 0.5020767450332642, 0.11410941928625107, 0.01496928185224533, 0.0011625441256910563,
    3.809175905189477e-05,
)  # fmt: skip


def exp(x: Expr) -> Expr:
    """Give e^x: 2^n e^r with n = round(x / ln 2) and |r| <= ln 2 / 2, e^r by a polynomial.

    Where 2^n is no normal number the result is zero or infinite.
    """

    def of_bounded(x: Expr) -> Expr:
        # Not written as a sum: of vectors, TVM would cancel what is added with what is subtracted.
        terms = x, _float(1 / log(2), x), _float(ROUNDING, x)
        return _let(tirx.call_llvm_pure_intrin(_dtype(x), "llvm.fmuladd", *terms), lambda s: of_sum(x, s))

    def of_sum(x: Expr, sum: Expr) -> Expr:
        n = sum - _float(ROUNDING, x)
        remainder = _let(n, lambda n: x - n * _float(LN2_HIGH, x) - n * _float(LN2_LOW, x))
        return _let(remainder, lambda r: power(sum, r))

    def power(sum: Expr, r: Expr) -> Expr:
        # Twice the polynomial times 2^(n - 1): the largest results need an n whose 2^n is no float.
        integer = _retyped(r, "int32")
        exponent = tirx.reinterpret(integer, sum) << tirx.const(23, integer)
        return _polynomial(r, [2 * term for term in EXP_TERMS]) * tirx.reinterpret(_dtype(r), exponent)

    return _let(tirx.min(tirx.max(x, _float(LEAST, x)), _float(MOST, x)), of_bounded)


def sigmoid(x: Expr) -> Expr:
    """Give 1 / (1 + e^-x)."""
    return _float(1.0, x) / (_float(1.0, x) + exp(-x))


def tanh(x: Expr) -> Expr:
    """Give tanh x as a ratio of polynomials."""
    return _ratio(x, TANH_MOST, TANH_ABOVE, TANH_BELOW)


def erf(x: Expr) -> Expr:
    """Give erf x as a ratio of polynomials."""
    return _ratio(x, ERF_MOST, ERF_ABOVE, ERF_BELOW)


def gelu(x: Expr) -> Expr:
    """Give x times the normal distribution below x (Hendrycks and Gimpel, GELUs, 2016)."""
    return x * _float(0.5, x) * (_float(1.0, x) + erf(x * _float(1 / sqrt(2), x)))


def gelu_tanh(x: Expr) -> Expr:
    """Give the same by the approximation of its authors."""
    inner = x * _float(sqrt(2 / pi), x) * (_float(1.0, x) + _float(0.044715, x) * x * x)
    return x * _float(0.5, x) * (_float(1.0, x) + tanh(inner))


def silu(x: Expr) -> Expr:
    """Give x sigmoid(x)."""
    return x * sigmoid(x)


def legalizations() -> dict[str, Legalize]:
    """Give what `relax.transform.LegalizeOps` takes for these operators on float32."""
    functions = {
        "relax.exp": exp,
        "relax.sigmoid": sigmoid,
        "relax.tanh": tanh,
        "relax.erf": erf,
        "relax.nn.gelu": gelu,
        "relax.nn.gelu_tanh": gelu_tanh,
        "relax.nn.silu": silu,
    }
    each = {name: _elementwise(name, function) for name, function in functions.items()}
    return {**each, "relax.nn.softmax": _legalize_softmax}


def _elementwise(name: str, function: Callable[[Expr], Expr]) -> Legalize:
    hint = name.rpartition(".")[2]

    def legalize(builder: Any, call: Any) -> Expr:
        if str(call.ty.dtype) != "float32":
            return _default(name, builder, call)
        return builder.call_te(
            lambda x: te.compute(x.shape, lambda *i: _let(x(*i), function)),
            call.args[0],
            primfunc_name_hint=hint,
        )

    return legalize


def _legalize_softmax(builder: Any, call: Any) -> Expr:
    if str(call.ty.dtype) != "float32":
        return _default("relax.nn.softmax", builder, call)
    axis = int(call.attrs.axis) % len(call.ty.shape)
    return builder.call_te(lambda x: _softmax(x, axis), call.args[0], primfunc_name_hint="softmax")


def _softmax(x: Expr, axis: int) -> Expr:
    rows = [extent for i, extent in enumerate(x.shape) if i != axis]
    k = te.reduce_axis((0, x.shape[axis]), "k")
    j = te.reduce_axis((0, x.shape[axis]), "j")

    def along(i: tuple[Expr, ...], at: Expr) -> list[Expr]:
        return [*i[:axis], at, *i[axis:]]

    def without(i: tuple[Expr, ...]) -> list[Expr]:
        return [*i[:axis], *i[axis + 1 :]]

    largest = te.compute(rows, lambda *i: te.max(x(*along(i, k)), axis=[k]), "largest")
    power = te.compute(x.shape, lambda *i: _let(x(*i) - largest(*without(i)), exp), "power")
    total = te.compute(rows, lambda *i: te.sum(power(*along(i, j)), axis=[j]), "total")
    return te.compute(x.shape, lambda *i: power(*i) / total(*without(i)), "softmax")


def _default(name: str, builder: Any, call: Any) -> Expr:
    return tvm.ir.Op.get(name).get_attr("FLegalize")(builder, call)


def _ratio(x: Expr, most: float, above: Any, below: Any) -> Expr:
    """Give x above(x^2) / below(x^2) for x clipped to +-most."""

    def of_bounded(x: Expr) -> Expr:
        return _let(x * x, lambda square: x * _polynomial(square, above) / _polynomial(square, below))

    return _let(tirx.min(tirx.max(x, _float(-most, x)), _float(most, x)), of_bounded)


def _polynomial(x: Expr, terms: Any) -> Expr:
    """Evaluate terms[0] + terms[1] x + ... by Horner's rule."""
    *others, value = (_float(term, x) for term in terms)
    for term in reversed(others):
        value = value * x + term
    return value


def held(value: Expr) -> Expr:
    """Store a value of a kernel that is being built: TVM writes out a mere name wherever it is read."""
    dtype, _, lanes = _dtype(value).partition("x")
    place = T.alloc_buffer((int(lanes or 1),), dtype, scope="local")
    index = T.ramp(0, 1, int(lanes)) if lanes else 0
    T.buffer_store(place, value, [index])
    return place[index]


def _let(value: Expr, body: Callable[[Expr], Expr]) -> Expr:
    """Name a value that is read several times."""
    if IRBuilder.is_in_scope():
        return body(held(value))
    var = tirx.Var("v", _dtype(value))
    return tirx.Let(var, value, body(var))


def _float(value: float, like: Expr) -> Expr:
    """Give a constant with as many lanes as `like`."""
    return tirx.const(value, _dtype(like))


def _dtype(value: Expr) -> str:
    return str(value.ty.dtype)


def _retyped(value: Expr, kind: str) -> str:
    """Give the dtype of `kind` with as many lanes as a float32 value."""
    return _dtype(value).replace("float32", kind)
