"""The CPU's cost model: a roofline over its kernels, and what decoding a compressed weight adds."""

from dataclasses import replace

from tersor.cost import Cost
from tersor.factor import why_no_factor
from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.scheme import FP32, W8A32, Scheme
from tersor.sparsity import Channels
from tersor.targets.accelerator import roofline

LARGEST_PRODUCT = 255 * 128
# Codes that one core decodes and packs per cycle before a layer can use them.
DECODED_PER_CYCLE = 0.06
# Inputs whose row one core searches for its largest and rounds, per cycle.
ROUNDED_PER_CYCLE = 2.0


def estimate(layer: Layer, scheme: Scheme, hardware: Hardware) -> Cost:
    """Estimate one run of `layer` on the CPU."""
    if isinstance(scheme.sparsity, Channels):
        layer, scheme = _narrowed(layer, scheme.sparsity), replace(scheme, sparsity=None)
    cost = roofline.estimate(layer, replace(scheme, dynamic=False), hardware)
    if scheme.dynamic:
        rounded = layer.input_count / hardware.cores
        cost = cost + Cost(seconds=rounded / (ROUNDED_PER_CYCLE * hardware.clock))
    if scheme.sparsity is None:
        return cost
    parts = layer.factored(scheme.factor) if scheme.factor else (layer,)
    codes = sum(part.weight_count for part in parts)
    return cost + Cost(seconds=codes / (DECODED_PER_CYCLE * hardware.clock))


def why_not(layer: Layer, scheme: Scheme, hardware: Hardware) -> str | None:
    """Say why the CPU has no kernel for `layer` under `scheme`, or None if it has one."""
    if isinstance(scheme.sparsity, Channels):
        # What is left is an ordinary dense layer; which channels may go the network says, not the layer.
        if layer.operator == "gather" or layer.recurrent or not layer.weight_bearing:
            return f"only convolutions and dense layers lose {scheme.sparsity}"
        scheme = replace(scheme, sparsity=None)
    if layer.operator == "gather":
        return _why_no_gather(layer, scheme)
    if layer.recurrent and (scheme.factor or scheme.sparsity):
        return "the weight of a recurrent layer is neither factored nor thinned"
    if layer.recurrent and scheme.dynamic:
        return "the range of a recurrent state is known before it runs"
    if layer.recurrent and scheme == W8A32:
        return None
    if not layer.weight_bearing and scheme.weight and not scheme.input:
        return f"{layer.name} has no weight to store in integers"
    if scheme.dynamic and (layer.operator != "matmul" or not layer.weight_bearing):
        return "only dense layers find ranges row by row"
    if scheme.factor and (reason := why_no_factor(layer, scheme.factor)):
        return reason
    if scheme.sparsity and layer.operator != "matmul":
        return f"only dense layers have a kernel for {scheme.sparsity}"
    if scheme.sparsity and not scheme.weight:
        return f"{scheme.sparsity} weights are stored as int8: write int8+{scheme.sparsity}"
    if scheme.weight and (scheme.weight.bits != 8 or scheme.input_bits != 8):
        return f"no kernel multiplies {scheme.weight_bits}-bit weights with {scheme.input_bits}-bit inputs"
    if scheme.weight and layer.C * layer.R * layer.S * LARGEST_PRODUCT >= 1 << 31:
        return f"sums of {layer.C * layer.R * layer.S} products of bytes can overflow 32 bits"
    return roofline.why_not(layer, replace(scheme, dynamic=False), hardware)


def _narrowed(layer: Layer, channels: Channels) -> Layer:
    """Give a layer with fewer multiplications: those of fewer outputs, for fewer inputs."""
    part = channels.density**0.5
    return replace(layer, K=max(1, round(part * layer.K)), C=max(1, round(part * layer.C)))


def _why_no_gather(layer: Layer, scheme: Scheme) -> str | None:
    if scheme not in (FP32, W8A32):
        return f"rows are looked up in {layer.name}, not multiplied: write {W8A32} to store them as int8"
    return None
