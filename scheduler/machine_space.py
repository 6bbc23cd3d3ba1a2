"""Machine space: the schemes of a layer that a described machine gains from, and why it gains from no others.

What is worth a try is read off the description: its number formats, the patterns its arithmetic skips, the
zeros its datapath looks at or its memories leave out. The first scheme is the one that changes least.
"""

from collections.abc import Iterator
from dataclasses import replace

from tersor.factor import Factor, LowRank, Spatial, why_no_factor
from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.scheduler.as_run import as_run
from tersor.scheduler.space import Space, explore
from tersor.scheme import FP32, INT8, W8A32, Scheme
from tersor.sparsity import NM, Unstructured
from tersor.targets.accelerator import roofline
from tersor.targets.accelerator.legality import why_no_layer
from tersor.weight_format import Integer

# Bits of weights and inputs, those that lose less first.
NUMBERS = ((8, 8), (4, 8), (2, 8), (8, 4), (4, 4), (2, 4))
WITH_PATTERN = ((8, 8), (4, 8), (4, 4))
ZEROS = (50.0, 70.0, 85.0)  # percent of the weights, anywhere
WITH_FACTOR = ((8, 8), (4, 8), (4, 4))
MAC_SHARES = (0.75, 0.5)  # of the layer, that the factors of its weight multiply: nothing is trained
RANK_STEP = 4


def machine_space(layer: Layer, hardware: Hardware) -> Space:
    """The schemes of `layer` that `hardware` can run and that another one, of less loss, is not run as."""
    first: dict[Scheme, Scheme] = {}

    def why_not(layer: Layer, scheme: Scheme) -> str | None:
        running, reason = as_run(scheme, layer, hardware)
        if why := why_not_run(layer, running, hardware):
            return why
        if running in first:
            return f"{reason}; {first[running]} runs so, too"
        first[running] = scheme
        return None

    return explore(layer, why_not, machine_candidates(layer, hardware))


def whole_space(layer: Layer, hardware: Hardware) -> Space:
    """All schemes that `hardware` can run in some way: also in a wider format, or with zeros as values.

    A compression that knows nothing of the machine chooses from these.
    """

    def why_not(layer: Layer, scheme: Scheme) -> str | None:
        return why_not_run(layer, as_run(scheme, layer, hardware)[0], hardware)

    return explore(layer, why_not, machine_candidates(layer, hardware))


def machine_candidates(layer: Layer, hardware: Hardware) -> tuple[Scheme, ...]:
    """What may be worth a try, in a fixed order: a scheme that is run as another comes after it."""
    if layer.operator == "gather":
        return (FP32, W8A32)
    if layer.recurrent or not layer.weight_bearing:
        return (FP32, INT8)
    patterns = dict.fromkeys((NM(2, 4), *(each for unit in hardware.compute for each in unit.skips)))
    numbers = tuple(_integers(*bits) for bits in NUMBERS)
    thinned = (replace(_integers(*bits), sparsity=nm) for nm in patterns for bits in WITH_PATTERN)
    sparse = (replace(INT8, sparsity=Unstructured(zeros)) for zeros in ZEROS)
    factored = (replace(_integers(*bits), factor=factor) for bits in WITH_FACTOR for factor in factors(layer))
    return (FP32, *numbers, *thinned, *sparse, *factored)


def factors(layer: Layer) -> tuple[Factor, ...]:
    """Factors of the weight, whose layers multiply about `MAC_SHARES` of what the layer does.

    A dense layer and a pointwise convolution have ranks, one with a filter also its rows and columns.
    """
    found: dict[Factor, None] = {}
    for share in MAC_SHARES:
        found.update(dict.fromkeys(_factors(layer, share)))
    return tuple(factor for factor in found if why_no_factor(layer, factor) is None)


def why_not_run(layer: Layer, scheme: Scheme, hardware: Hardware) -> str | None:
    """Say why `hardware` cannot run `layer`, or what its factor makes of it, or None if it can."""
    if layer.operator == "gather":
        if layer.operator not in hardware.operators:
            return f"{hardware.name} runs {', '.join(hardware.operators)}, not {layer.operator}"
        return roofline.why_not(layer, scheme, hardware)
    parts = layer.factored(scheme.factor) if scheme.factor else (layer,)
    alone = replace(scheme, factor=None)
    return next((why for part in parts if (why := why_no_layer(part, alone, hardware))), None)


def _factors(layer: Layer, share: float) -> Iterator[Factor]:
    if layer.operator != "conv2d" and layer.operator != "matmul":
        return
    one = sum(part.macs for part in LowRank(1).layers(layer))
    if rank := _rank(layer.macs * share / one):
        yield LowRank(rank)
    if min(layer.R, layer.S) == 1:
        return
    one = sum(part.macs for part in Spatial(1).layers(layer))
    if rank := _rank(layer.macs * share / one):
        yield Spatial(rank)


def _rank(largest: float) -> int:
    """The multiple of `RANK_STEP` below it."""
    return int(largest) // RANK_STEP * RANK_STEP


def _integers(weight: int, input: int) -> Scheme:
    return Scheme(weight=Integer(weight), input=Integer(input))
