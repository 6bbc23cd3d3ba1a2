"""As run: what a machine makes of a scheme, some of whose number formats or zeros it has no use for.

Numbers that it has no arithmetic for are stored, moved and multiplied in the next wider format that it has:
nothing on it would unpack them. Zeros that it neither skips nor stores in fewer bits are ordinary values.
"""

from dataclasses import replace

from tersor.hardware import Hardware
from tersor.hardware.datapath import Factor
from tersor.layer import Layer
from tersor.scheme import Scheme
from tersor.sparsity import Channels, Sparsity
from tersor.targets.accelerator.bits import Factors
from tersor.weight_format import Integer, WeightFormat


def as_run(scheme: Scheme, layer: Layer, hardware: Hardware) -> tuple[Scheme, str]:
    """Give what `hardware` carries out for a scheme of `layer`, and why that is another; "" if it is not.

    Integers that no format of it covers become float32 where it has that, else they stay, for
    `why_no_layer` to refuse. Rows of a table are moved as they are stored. What channels a network loses is
    not for a machine to say: the layer is a smaller one.
    """
    reasons: list[str] = []
    found = _in_its_numbers(scheme, layer, hardware, reasons)
    if found.dynamic:
        reasons.append("it finds no ranges while it runs")
        found = replace(found, dynamic=False)
    if found.sparsity and not (
        isinstance(found.sparsity, Channels) or uses_zeros(found.sparsity, found, hardware)
    ):
        reasons.append(f"the zeros of {found.sparsity} are values as any other to it")
        found = replace(found, sparsity=None)
    if not reasons:
        return scheme, ""
    return found, f"{hardware.name} runs {scheme} as {found}: {', '.join(reasons)}"


def uses_zeros(sparsity: Sparsity, scheme: Scheme, hardware: Hardware) -> bool:
    """Whether a machine skips or gates such zeros of weights, or stores them in fewer bits."""
    unit = Factors.of(scheme).unit(hardware)
    if unit and sparsity in unit.skips:
        return True
    datapath = hardware.datapath
    if datapath and "weight" in (*datapath.skips, *datapath.gates):
        return True
    forms = [memory.formats.weight for memory in hardware.memories]
    return any(form.pattern == sparsity if form.pattern else form.kind != "dense" for form in forms)


def widths(hardware: Hardware, factor: Factor) -> tuple[int, ...]:
    """Bits of the integers that a machine multiplies as weights or inputs, the fewest first.

    They are those of its formats and, of bricks and of a factor that comes bit after bit, those in between.
    """
    listed = {unit.bits for unit in hardware.compute if unit.is_integer}
    datapath, most = hardware.datapath, max(listed, default=0)
    if datapath and datapath.mode == "bit_serial" and factor == datapath.serial:
        listed |= set(range(2, most))
    if datapath and datapath.mode == "bit_brick":
        listed |= {datapath.brick << step for step in range(most) if datapath.brick << step < most}
    return tuple(sorted(listed))


def _in_its_numbers(scheme: Scheme, layer: Layer, hardware: Hardware, reasons: list[str]) -> Scheme:
    if scheme.weight is None:
        return scheme
    if layer.operator == "gather":
        return _table(scheme, hardware, reasons)
    if scheme.input is None:
        return scheme
    weight = _wider(_integer(scheme.weight), widths(hardware, "weight"))
    input = _wider(scheme.input, widths(hardware, "input"))
    if weight is None or input is None:
        if hardware.unit("fp32") is None:
            return scheme
        reasons.append("it has no integers as wide")
        return replace(scheme, weight=None, input=None, dynamic=False)
    found = replace(scheme, weight=weight, input=input)
    if found != scheme:
        reasons.append(_numbers(hardware))
    return found


def _table(scheme: Scheme, hardware: Hardware, reasons: list[str]) -> Scheme:
    assert scheme.weight
    weight = _wider(_integer(scheme.weight), widths(hardware, "weight"))
    if weight is None:
        return scheme
    if weight != scheme.weight:
        reasons.append(_numbers(hardware))
    elif scheme.input is None:
        reasons.append("rows of a table are moved as they are stored")
    return replace(scheme, weight=weight, input=Integer(weight.bits))


def _numbers(hardware: Hardware) -> str:
    bits = sorted({*widths(hardware, "weight"), *widths(hardware, "input")})
    return f"its integers have {', '.join(map(str, bits))} bits"


def _integer(weight: WeightFormat) -> Integer:
    """The integers that the codes of a format are: powers of two and tables decode to 8 bits."""
    if isinstance(weight, Integer):
        return weight
    return Integer(8 if weight.bits > 2 else 2)


def _wider(numbers: Integer, those_there: tuple[int, ...]) -> Integer | None:
    """The narrowest integers there that cover these."""
    bits = next((each for each in those_there if each >= numbers.bits), None)
    return None if bits is None else replace(numbers, bits=bits)
