"""Roofline: the least time and energy that a layer can take on a machine (Williams et al., CACM 2009).

Either the arithmetic or one of the memories is the bottleneck, everything else hides behind it, and each
tensor passes each memory once (biases are left out). So it is a lower bound: tiles that do not fit, and the
skew of an array, only add to it.
"""

from dataclasses import replace

from tersor.cost import Cost
from tersor.factor import why_no_chain
from tersor.formats.size import stored_bytes
from tersor.hardware import Hardware, Memory
from tersor.hardware.memory import OPERANDS
from tersor.layer import Layer
from tersor.scheme import Scheme
from tersor.sparsity import NM, Block, Channels


def why_not(layer: Layer, scheme: Scheme, hardware: Hardware) -> str | None:
    """Say why `hardware` cannot run `layer` under `scheme`, or None if it can."""
    if isinstance(scheme.sparsity, Channels):
        return f"which channels may go the network says, not a layer: leave out {scheme.sparsity}"
    if hardware.unit(scheme.compute) is None:
        return f"{hardware.name} computes in {', '.join(hardware.precisions)}, not in {scheme.compute}"
    if scheme.dynamic:
        return f"{hardware.name} finds no ranges while it runs"
    if scheme.factor and (reason := why_no_chain(layer, scheme.factor)):
        return reason
    if scheme.sparsity and not layer.weight_bearing:
        return f"{layer.name} has no weight to prune"
    if reason := _why_sparsity_does_not_fit(layer, scheme):
        return reason
    outermost = hardware.memories[0]
    moved = sum(_traffic(part, scheme) for part in _parts(layer, scheme))
    if moved > outermost.size:
        return f"{layer.name} needs {moved} bytes, {outermost.name} of {hardware.name} has {outermost.size}"
    return None


def _why_sparsity_does_not_fit(layer: Layer, scheme: Scheme) -> str | None:
    for part in _parts(layer, scheme):
        match scheme.sparsity:
            case NM(_, m) if part.C % m:
                return f"{scheme.sparsity} needs a multiple of {m} input channels, got {part.C}"
            case Block(outputs, inputs) if part.C % inputs or part.G * part.K % outputs:
                return (
                    f"{scheme.sparsity} needs multiples of {outputs} output and {inputs} input channels, "
                    f"got {part.G * part.K} and {part.C}"
                )
    return None


def estimate(layer: Layer, scheme: Scheme, hardware: Hardware) -> Cost:
    """The lower bound for one run of `layer`; the factors of a low-rank weight run one after the other.

    Zeros of a sparsity that the unit skips cost neither time nor energy. Raises ValueError with `why_not`'s
    reason if the machine cannot run it.
    """
    if reason := why_not(layer, scheme, hardware):
        raise ValueError(reason)
    first, *others = (_estimate_part(part, scheme, hardware) for part in _parts(layer, scheme))
    return sum(others, start=first) + Cost(size=stored_bytes(layer, scheme))


def _estimate_part(layer: Layer, scheme: Scheme, hardware: Hardware) -> Cost:
    cost = _compute(layer, scheme, hardware)
    for memory in hardware.memories:
        if set(memory.keeps) == set(OPERANDS):  # of the others only a mapping knows what passes them
            cost = cost | _transfer(hardware, memory, _traffic(layer, scheme))
    return cost


def _compute(layer: Layer, scheme: Scheme, hardware: Hardware) -> Cost:
    unit = hardware.unit(scheme.compute)
    assert unit  # why_not has looked
    skipped = scheme.sparsity if scheme.sparsity in unit.skips else None
    macs = layer.macs * (skipped.density if skipped else 1.0)
    peak = _activation_bytes(layer, scheme)
    return Cost(macs / unit.macs_per_cycle / hardware.clock, macs * unit.energy_per_mac, peak_memory=peak)


def _transfer(hardware: Hardware, memory: Memory, moved: int) -> Cost:
    bandwidth = hardware.instances(memory) * hardware.read_bandwidth(memory)
    return Cost(moved / bandwidth, moved * memory.energy_per_byte, {memory.name: moved})


def _parts(layer: Layer, scheme: Scheme) -> tuple[Layer, ...]:
    return layer.factored(scheme.factor) if scheme.factor else (layer,)


def _traffic(layer: Layer, scheme: Scheme) -> int:
    """Bytes of the weight as stored, the input and the output of a part, not to be factored again."""
    if layer.operator == "gather":  # only the rows that are looked up move
        weight = stored_bytes(replace(layer, C=layer.N), replace(scheme, factor=None))
    elif layer.weight_bearing:
        weight = stored_bytes(layer, replace(scheme, factor=None), bias=False)
    else:
        weight = _elements(layer.weight_count, scheme)
    return weight + _activation_bytes(layer, scheme)


def _activation_bytes(layer: Layer, scheme: Scheme) -> int:
    """The output has the input's precision: the next layer reads it so."""
    return _elements(layer.input_count, scheme) + _elements(layer.output_count, scheme)


def _elements(count: int, scheme: Scheme) -> int:
    return -(-count * scheme.input_bits // 8)
