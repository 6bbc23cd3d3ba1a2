"""The CPU's cost model: a roofline over its kernels, which read weights that are decoded when it loads."""

from dataclasses import replace

from tersor.cost import Cost
from tersor.factor import why_no_factor
from tersor.formats.grids import group_of
from tersor.formats.size import stored_bytes
from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.scheme import FP32, INT8, Scheme
from tersor.sparsity import NM, Channels
from tersor.targets.accelerator import roofline
from tersor.weight_format import Binary, Integer, without_groups

LARGEST_PRODUCT = 255 * 128
# Weights among which N:M keeps some.
MOST_PLACES = 16
# Inputs whose row one core searches for its largest and rounds, per cycle.
ROUNDED_PER_CYCLE = 2.0
# Seconds of a tensor that changes between codes and floats, and of each of its elements.
CONVERSION, CONVERSION_OF_ONE = 1e-6, 0.3e-9


def estimate(layer: Layer, scheme: Scheme, hardware: Hardware) -> Cost:
    """Estimate one run of `layer` on the CPU; what is decoded once costs a run nothing."""
    layer, scheme = without_channels(layer, scheme)
    running = replace(INT8 if scheme.input else FP32, factor=scheme.factor)
    if layer.operator == "gather" and scheme.weight == Integer(8):
        running = scheme  # a table's codes stay codes
    cost = replace(roofline.estimate(layer, running, hardware), size=stored_bytes(layer, scheme))
    return cost + Cost(seconds=rounding_seconds(layer, scheme, hardware))


def without_channels(layer: Layer, scheme: Scheme) -> tuple[Layer, Scheme]:
    """Give what is left of a layer of which channels are dropped, and its scheme without that."""
    if isinstance(scheme.sparsity, Channels):
        return _narrowed(layer, scheme.sparsity), replace(scheme, sparsity=None)
    return layer, scheme


def rounding_seconds(layer: Layer, scheme: Scheme, hardware: Hardware) -> float:
    """What it takes to find the ranges of an input's rows and to round them, under a dynamic scheme."""
    if not scheme.dynamic:
        return 0.0
    return layer.input_count / hardware.cores / (ROUNDED_PER_CYCLE * hardware.clock)


def conversion_seconds(elements: int) -> float:
    """What a tensor takes that changes between codes and floats, a pass of its own. Nominal."""
    return CONVERSION + CONVERSION_OF_ONE * elements


def why_not(layer: Layer, scheme: Scheme, hardware: Hardware) -> str | None:
    """Say why the CPU has no kernel for `layer` under `scheme`, or None if it has one."""
    if isinstance(scheme.sparsity, Channels):
        # What is left is an ordinary dense layer; which channels may go the network says, not the layer.
        if layer.operator == "gather" or layer.recurrent or not layer.weight_bearing:
            return f"only convolutions and dense layers lose {scheme.sparsity}"
        scheme = replace(scheme, sparsity=None)
    reason = (
        _why_no_operator(layer, scheme) or _why_no_numbers(layer, scheme) or _why_no_pattern(layer, scheme)
    )
    input = Integer(8) if scheme.input else None  # codes of fewer bits are bytes to a kernel
    return reason or roofline.why_not(layer, replace(scheme, input=input, dynamic=False), hardware)


def _why_no_operator(layer: Layer, scheme: Scheme) -> str | None:
    """Say what the layer's operator cannot have done to it."""
    if layer.operator == "gather" and (scheme.input or scheme.factor):
        alone = replace(scheme, input=None, factor=None, sparsity=None, dynamic=False)
        return f"rows are looked up in {layer.name}, not multiplied: write {alone}"
    if layer.operator == "gather" and scheme.sparsity:
        return f"the rows of a table are not thinned: leave out {scheme.sparsity}"
    if layer.recurrent and (scheme.factor or scheme.sparsity):
        return "the weight of a recurrent layer is neither factored nor thinned"
    if layer.recurrent and scheme.dynamic:
        return "the range of a recurrent state is known before it runs"
    if not layer.weight_bearing and scheme.weight and not scheme.input:
        return f"{layer.name} has no weight to store as {scheme.weight}"
    if (
        not layer.weight_bearing
        and scheme.weight
        and (scheme.weight, scheme.input) != (Integer(8), Integer(8))
    ):
        return f"{layer.name} multiplies two inputs, of 8 bits each: write {INT8}"
    if scheme.dynamic and (layer.operator != "matmul" or not layer.weight_bearing):
        return "only dense layers find ranges row by row"
    if scheme.factor:
        return why_no_factor(layer, scheme.factor)
    return None


def _why_no_numbers(layer: Layer, scheme: Scheme) -> str | None:
    """Say why no kernel multiplies such weights and inputs."""
    if isinstance(scheme.weight, Integer) and scheme.weight.bits > 8:
        return f"kernels read weights of at most 8 bits: write {replace(scheme, weight=Integer(8))}"
    if scheme.input and scheme.input.bits > 8:
        return f"kernels read inputs of at most 8 bits: write {replace(scheme, input=Integer(8))}"
    if scheme.input and scheme.input != Integer(8) and (scheme.dynamic or layer.recurrent):
        read = "rows on grids of their own" if scheme.dynamic else "recurrent states"
        return f"{read} are read in 8 bits: write {replace(scheme, input=Integer(8))}"
    plain = without_groups(scheme.weight) if scheme.weight else None
    if scheme.input and scheme.weight != plain and group_of(scheme.weight, integer=True) is None:
        return f"codes of 8 bits have no room for scales of groups: write {replace(scheme, weight=plain)}"
    if scheme.input and layer.C * layer.R * layer.S * LARGEST_PRODUCT >= 1 << 31:
        return f"sums of {layer.C * layer.R * layer.S} products of bytes can overflow 32 bits"
    return None


def _why_no_pattern(layer: Layer, scheme: Scheme) -> str | None:
    """Say why the zeros of a pattern cannot be stored."""
    if not scheme.sparsity:
        return None
    if isinstance(scheme.weight, Binary):
        return f"binary weights have no zero: write {replace(scheme, sparsity=None)} or ternary"
    if isinstance(scheme.sparsity, NM) and scheme.sparsity.m > MOST_PLACES:
        return f"positions are stored among at most {MOST_PLACES}: give {scheme.sparsity} a smaller m"
    return None


def _narrowed(layer: Layer, channels: Channels) -> Layer:
    """Give a layer with fewer multiplications: those of fewer outputs, for fewer inputs."""
    part = channels.density**0.5
    return replace(layer, K=max(1, round(part * layer.K)), C=max(1, round(part * layer.C)))
