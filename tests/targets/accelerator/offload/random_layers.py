"""Random integer layers as networks have them after Integerize: stored weights, epilogues, what they give."""

from dataclasses import dataclass, replace
from functools import cached_property
from random import Random
from typing import Any

import numpy as np

from tersor import arithmetic
from tersor.factor import LowRank
from tersor.formats.encoded import Encoded
from tersor.ir import operators
from tersor.ir.untyped import relax
from tersor.layer import Layer
from tersor.scheme import Scheme
from tersor.sparsity import NM, Block
from tests.relax_modules import Array, Net
from tests.targets.accelerator.simulator.layer_cases import input_shape, stored, thinned

WEIGHTS = (
    "int8", "int8", "w6a8", "w5a8", "w4a8", "w4a8", "w3a8", "w2a8", "w2a8",
    "ternary-a8", "binary-a8", "codebook3-a8", "pot4-a8", "w4g16a8",
    "int4", "int4", "w2a4", "w8a4", "w4a6", "w3a2",
)  # fmt: skip
SPARSITIES = ("", "", "2:4", "1:4", "4:8", "2:8", "sparse50", "sparse90", "block2x4-50", "block4x2-75")
Step = operators.Requantize | operators.RequantizeAdd | operators.RescaleAccumulator


@dataclass(frozen=True)
class RandomLayer:
    """A layer with its last step and seeded numbers; products of two activations have no scheme of a weight.

    The input has as many rows and columns to spare as a stride steps over.
    """

    layer: Layer
    scheme: Scheme
    step: Step
    zero_point: int
    right_zero_point: int
    spare: tuple[int, int]
    seed: int

    @property
    def name(self) -> str:
        return self.layer.name

    @property
    def is_product(self) -> bool:
        return not self.layer.weight_bearing

    @cached_property
    def weight(self) -> Encoded:
        """Zeros where the pattern has them, stored as the scheme says."""
        values = np.random.default_rng(self.seed).normal(size=self.layer.weight_shape).astype(np.float32)
        if self.scheme.sparsity is not None:
            values = thinned(values, self.layer, self.scheme.sparsity)
        return stored(values, self.layer, self.scheme)

    @cached_property
    def constants(self) -> tuple[Array, Array]:
        """Bias and multiplier, [G*K] each, such that outputs use most codes; of a product only the latter."""
        rng = np.random.default_rng(self.seed + 1)
        layer, outputs = self.layer, self.layer.K * (1 if self.is_product else self.layer.G)
        terms = layer.C * layer.R * layer.S
        bias = rng.integers(-500 * terms, 500 * terms + 1, outputs).astype(np.int32)
        largest = 128.0 if self.is_product else max(1.0, float(np.abs(self.weight.decode()).max()))
        multiplier = rng.uniform(0.2, 3, outputs) / (np.sqrt(terms) * largest)
        return bias, multiplier.astype(np.float32)

    @cached_property
    def inputs(self) -> list[Array]:
        """The tensors that `emit` reads: codes, of a product those of the right operand, and the residual."""
        rng = np.random.default_rng(self.seed + 2)
        shape = list(input_shape(self.layer))
        if self.layer.operator == "conv2d":
            shape[2], shape[3] = shape[2] + self.spare[0], shape[3] + self.spare[1]
        shapes = [tuple(shape)]
        if self.is_product:
            shapes.append(self.layer.weight_shape)
        if isinstance(self.step, operators.RequantizeAdd):
            shapes.append(self.output_shape)
        found = [rng.integers(0, 256, each).astype(np.uint8) for each in shapes]
        found[0] >>= 8 - self.scheme.input_bits
        found[0][rng.random(found[0].shape) < rng.choice([0, 0.5])] = self.zero_point
        return found

    @property
    def output_shape(self) -> tuple[int, ...]:
        layer = self.layer
        if layer.operator == "conv2d":
            return layer.N, layer.G * layer.K, layer.P, layer.Q
        return (layer.N, layer.K) if layer.G == 1 else (layer.G, layer.N, layer.K)

    def emit(self, net: Net, inputs: list[Any]) -> Any:
        """Write the layer as integerized networks have it: the input's zero point is a part of the bias."""
        x, *others = inputs
        bias, multiplier = self.constants
        if self.is_product:
            acc = net.call(operators.Product(self.zero_point, self.right_zero_point), x, others.pop(0))
        else:
            weight = self._emit_weight(net)
            if self.layer.operator == "conv2d":
                product = self._emit_convolution(net, x, weight)
            else:
                product = net.emit(relax.op.matmul(x, weight, out_dtype="int32"))
            codes, axis = self.weight.decode(), self.weight.axis
            others_of = tuple(each for each in range(codes.ndim) if each != axis)
            folded = (bias - self.zero_point * codes.sum(axis=others_of, dtype=np.int64)).astype(np.int32)
            shape = (1, -1, 1, 1) if self.layer.operator == "conv2d" else (-1,)
            acc = net.emit(relax.op.add(product, net.weight(f"{self.name}.bias", folded.reshape(shape))))
        return net.call(self.step, acc, net.weight(f"{self.name}.multiplier", multiplier), *others)

    def _emit_weight(self, net: Net) -> Any:
        if self.weight.is_plain:
            return net.weight(self.name, self.weight.decode())
        return net.decoded(self.name, self.weight)

    def _emit_convolution(self, net: Net, x: Any, weight: Any) -> Any:
        layer = self.layer
        if any(layer.padding):
            top, left, bottom, right = layer.padding
            widths = [0, 0, 0, 0, top, bottom, left, right]
            x = net.emit(relax.op.nn.pad(x, widths, "constant", self.zero_point))
        return net.emit(
            relax.op.nn.conv2d(
                x, weight, layer.stride, dilation=layer.dilation, groups=layer.G, out_dtype="int32"
            )
        )

    def expected(self, inputs: list[Array]) -> Array:
        """What arithmetic gives."""
        x, *others = inputs
        bias, multiplier = self.constants
        layer, step = self.layer, self.step
        if self.is_product:
            acc = arithmetic.product(x, self.zero_point, others.pop(0), self.right_zero_point)
        elif layer.operator == "matmul":
            acc = arithmetic.matmul(x, self.weight.decode(), bias, self.zero_point)
        else:
            acc = arithmetic.conv2d(
                x, self.weight.decode(), bias, self.zero_point, layer.stride, layer.padding, layer.dilation,
                layer.G,
            )  # fmt: skip
        match step:
            case operators.RescaleAccumulator(axis):
                return arithmetic.rescale_accumulator(acc, multiplier, axis)
            case operators.Requantize(zero_point, bounds, axis):
                return arithmetic.requantize(acc, multiplier, zero_point, bounds, axis)
            case operators.RequantizeAdd(scale, other_zero_point, zero_point, bounds, axis):
                return arithmetic.requantize_add(
                    acc, multiplier, others[0], scale, other_zero_point, zero_point, bounds, axis
                )


def draw_chain(random: Random, name: str) -> list[RandomLayer]:
    """One layer, or, of one in eight, the two that a low rank makes of it: the second reads the first."""
    scheme = _scheme(random)
    layer = _layer(random, name, scheme)
    most = min(layer.K, layer.C * layer.R * layer.S)
    if layer.weight_bearing and layer.G == 1 and most > 1 and random.random() < 0.25:
        rank = random.randint(1, most)
        layers = layer.factored(LowRank(rank))
        first = _with_numbers(random, layers[0], _fitting(layers[0], scheme), codes_out=True)
        second = _with_numbers(random, layers[1], _fitting(layers[1], scheme))
        assert isinstance(first.step, operators.Requantize)
        return [first, replace(second, zero_point=first.step.zero_point, spare=(0, 0))]
    return [_with_numbers(random, layer, scheme)]


def _scheme(random: Random) -> Scheme:
    precision, pattern = random.choice(WEIGHTS), random.choice(SPARSITIES)
    if not pattern or precision.startswith(("binary", "codebook")):
        return Scheme.parse(precision)
    return Scheme.parse(f"{precision}+{pattern}")


def _fitting(layer: Layer, scheme: Scheme) -> Scheme:
    """Without a pattern that the weight cannot have."""
    match scheme.sparsity:
        case NM(_, m) if layer.C % m:
            return replace(scheme, sparsity=None)
        case Block(outputs, inputs) if (layer.C * layer.R * layer.S) % inputs or (
            layer.G * layer.K
        ) % outputs:
            return replace(scheme, sparsity=None)
        case _:
            return scheme


def _layer(random: Random, name: str, scheme: Scheme) -> Layer:
    """A layer of up to 30,000 products whose channels the pattern divides."""
    inputs, outputs = 1, 1
    match scheme.sparsity:
        case NM(_, m):
            inputs = m
        case Block(across, along):
            inputs, outputs = along, across
    while True:
        layer = _any_layer(random, name, inputs, outputs)
        if layer.macs <= 30_000 and min(input_shape(layer)) > 0:
            return layer


def _any_layer(random: Random, name: str, inputs: int, outputs: int) -> Layer:
    c, k = inputs * random.randint(1, 12 // inputs + 1), outputs * random.randint(1, 12 // outputs)
    kind = random.choice(("dense", "dense", "product", "1x1", "kxk", "kxk", "any", "grouped", "depthwise"))
    if kind == "dense":
        return Layer(name, "matmul", N=random.randint(1, 9), K=2 * k, C=3 * c)
    n, g, r, s = random.choice((1, 1, 2)), 1, random.randint(1, 4), random.randint(1, 4)
    if kind == "product":
        rows = random.randint(1, 8)
        return Layer(name, "matmul", N=rows, G=random.choice((1, 2, 3)), K=k, C=2 * c, weight_bearing=False)
    if kind == "1x1":
        r = s = 1
    elif kind == "grouped":
        g, c, k = random.randint(2, 3), inputs, outputs * random.randint(1, 3)
    elif kind == "depthwise":
        g, c, k = random.choice((2, 4, 8, 11)), 1, 1
    stride, dilation = (tuple(random.choice((1, 1, 2, 3)) for _ in range(2)) for _ in range(2))
    padding = tuple(random.randint(0, 2) for _ in range(4)) if kind != "1x1" else (0, 0, 0, 0)
    p, q = random.randint(1, 9), random.randint(1, 9)
    return Layer(name, "conv2d", n, g, k, c, p, q, r, s, stride, padding, dilation)  # type: ignore[arg-type]


def _with_numbers(random: Random, layer: Layer, scheme: Scheme, codes_out: bool = False) -> RandomLayer:
    scheme = _fitting(layer, scheme) if layer.weight_bearing else Scheme.parse("int8")
    points = [random.choice((0, 255, random.randint(1, 254))) for _ in range(4)]
    points[0] >>= 8 - scheme.input_bits
    bounds = random.choice(((0, 255), (min(points[1], 200), 255), (10, 190)))
    if codes_out:  # for a layer of the same scheme
        points[1] >>= 8 - scheme.input_bits
        bounds = (0, 2**scheme.input_bits - 1)
    axis = 1 if len(_output(layer)) != 3 else 2
    kind = "requantize" if codes_out else random.choice(("requantize", "requantize", "residual", "rescale"))
    step: Step = operators.Requantize(points[1], bounds, axis)
    if kind == "rescale":
        step = operators.RescaleAccumulator(axis)
    elif kind == "residual" and layer.weight_bearing:
        multiplier = float(np.float32(random.uniform(0.1, 2)))
        step = operators.RequantizeAdd(multiplier, points[2], points[1], bounds, axis)
    spare = random.randrange(layer.stride[0]), random.randrange(layer.stride[1])
    return RandomLayer(layer, scheme, step, points[0], points[3], spare, random.randrange(1 << 30))


def _output(layer: Layer) -> tuple[int, ...]:
    if layer.operator == "conv2d":
        return layer.N, layer.G * layer.K, layer.P, layer.Q
    return (layer.N, layer.K) if layer.G == 1 else (layer.G, layer.N, layer.K)
