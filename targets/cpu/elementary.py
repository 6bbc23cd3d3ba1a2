"""Elementary functions as arithmetic that vectorises: TVM's end in one call of libm for each element.

Errors are those of float32 itself, or a few of its steps: 1e-7 of the result, of erf 5e-7 absolutely.
"""

from collections.abc import Callable
from math import factorial, log, pi, sqrt
from typing import Any

from tersor.ir.graph import Expr
from tersor.ir.untyped import te, tirx, tvm

Legalize = Callable[[Any, Any], Expr]

# Beyond these exp is infinite or no normal number.
LEAST, MOST = -86.6, 88.7228
# ln 2 in two parts: the first has few enough digits for its products with small integers to be exact.
LN2_HIGH = 355 / 512
LN2_LOW = log(2) - LN2_HIGH
EXP_TERMS = 7
# Below this magnitude a series gives tanh, above it exp: there little cancels.
TANH_SERIES = 0.6
TANH_TERMS = (1.0, -1 / 3, 2 / 15, -17 / 315, 62 / 2835, -1382 / 155925, 21844 / 6081075, -929569 / 638512875)
# Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26.
ERF_P = 0.3275911
ERF_TERMS = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def exp(x: Expr) -> Expr:
    """Give e^x: 2^n e^r with n = round(x / ln 2) and |r| <= ln 2 / 2, e^r by its series."""

    def of_bounded(x: Expr) -> Expr:
        n = tirx.nearbyint(x * _float(1 / log(2)))
        return _let(n, lambda n: _let(_remainder(x, n), lambda r: power(n, r)))

    def power(n: Expr, r: Expr) -> Expr:
        # Twice the series times 2^(n - 1): the largest results need an n whose 2^n is no float.
        exponent = (n.astype("int32") + tirx.const(126, "int32")) << tirx.const(23, "int32")
        series = _polynomial(r, [2 / factorial(k) for k in range(EXP_TERMS + 1)])
        return series * tirx.reinterpret("float32", exponent)

    bounded = _let(tirx.min(tirx.max(x, _float(LEAST)), _float(MOST)), of_bounded)
    small = tirx.Select(x < _float(LEAST), _float(0.0), bounded)
    return tirx.Select(x > _float(MOST), _float(float("inf")), small)


def sigmoid(x: Expr) -> Expr:
    """Give 1 / (1 + e^-x)."""
    return _float(1.0) / (_float(1.0) + exp(-x))


def tanh(x: Expr) -> Expr:
    """Give tanh x: near zero its series, else 1 - 2 / (e^2|x| + 1) with the sign of x."""

    def of_magnitude(a: Expr) -> Expr:
        return _float(1.0) - _float(2.0) / (exp(a * _float(2.0)) + _float(1.0))

    def near_zero(x: Expr) -> Expr:
        return x * _let(x * x, lambda square: _polynomial(square, TANH_TERMS))

    far = _let(of_magnitude(tirx.abs(x)), lambda y: tirx.Select(x < _float(0.0), -y, y))
    return tirx.Select(tirx.abs(x) < _float(TANH_SERIES), near_zero(x), far)


def erf(x: Expr) -> Expr:
    """Give erf x: 1 - (a1 t + ... + a5 t^5) e^-x^2 with t = 1 / (1 + p |x|), and the sign of x."""

    def of_magnitude(a: Expr) -> Expr:
        t = _float(1.0) / (_float(1.0) + a * _float(ERF_P))
        tail = _let(t, lambda t: _polynomial(t, (0.0, *ERF_TERMS)))
        return _float(1.0) - tail * exp(-(a * a))

    positive = _let(tirx.abs(x), of_magnitude)
    return _let(positive, lambda y: tirx.Select(x < _float(0.0), -y, y))


def gelu(x: Expr) -> Expr:
    """Give x times the normal distribution below x (Hendrycks and Gimpel, GELUs, 2016)."""
    return x * _float(0.5) * (_float(1.0) + erf(x * _float(1 / sqrt(2))))


def gelu_tanh(x: Expr) -> Expr:
    """Give the same by the approximation of its authors."""
    inner = x * _float(sqrt(2 / pi)) * (_float(1.0) + _float(0.044715) * x * x)
    return x * _float(0.5) * (_float(1.0) + _let(inner, tanh))


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


def _remainder(x: Expr, n: Expr) -> Expr:
    return x - n * _float(LN2_HIGH) - n * _float(LN2_LOW)


def _polynomial(x: Expr, terms: Any) -> Expr:
    """Evaluate terms[0] + terms[1] x + ... by Horner's rule."""
    *others, value = (_float(term) for term in terms)
    for term in reversed(others):
        value = value * x + term
    return value


def _let(value: Expr, body: Callable[[Expr], Expr]) -> Expr:
    """Name a value that is read several times."""
    var = tirx.Var("v", "float32")
    return tirx.Let(var, value, body(var))


def _float(value: float) -> Expr:
    return tirx.const(value, "float32")
