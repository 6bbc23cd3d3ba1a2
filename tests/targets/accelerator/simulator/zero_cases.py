"""Random layers whose zeros lie anywhere, units that skip them, and how far cycles may be from the mean."""

from dataclasses import dataclass
from math import prod
from random import Random

import numpy as np

from tersor.hardware import Axis, Compute, Datapath, Hardware, Memory
from tersor.layer import DIMS, Dim, Layer
from tersor.mapping import Keep, Loop, Mapping
from tersor.scheme import INT8
from tersor.targets.accelerator.density import Densities
from tersor.targets.accelerator.imbalance import Bout, Factor
from tersor.targets.accelerator.isa import instruction as isa
from tersor.targets.accelerator.isa.program import Program
from tersor.targets.accelerator.model import evaluate
from tersor.targets.accelerator.nest import Nest
from tersor.targets.accelerator.simulator.tensors import Tensors
from tests.targets.accelerator.simulator.layer_cases import ZERO_POINT, input_shape, stored
from tests.targets.accelerator.tiny_cases import OPERANDS

LEAST_ELEMENTS = (
    200  # of weights and of inputs, for their zeros to be about as many as their probability says
)


@dataclass(frozen=True)
class ZeroCase:
    """A layer on a machine that skips zeros of one factor or both, without any transfer to wait for."""

    layer: Layer
    hardware: Hardware
    mapping: Mapping
    weight: float
    input: float

    def tensors(self, seed: int) -> Tensors:
        """Factors of which each is other than zero with the probabilities of the case."""
        random = np.random.default_rng(seed)
        weights = np.where(random.random(self.layer.weight_shape) < self.weight, 1, 0).astype(np.float32)
        there = random.random(input_shape(self.layer)) < self.input
        codes = np.where(there, ZERO_POINT + 1, ZERO_POINT).astype(np.uint8)
        bias = np.zeros(self.layer.G * self.layer.K, np.int32)
        return Tensors(codes, ZERO_POINT, stored(weights, self.layer, INT8), bias=bias)

    @property
    def expected(self) -> float:
        """The cycles that the model predicts."""
        nest = Nest.of(self.mapping, self.layer, self.hardware)
        return float(evaluate(*nest, INT8, Densities(self.weight, self.input)).cycles[0])

    def sigma(self, program: Program) -> float:
        """The standard deviation of the cycles, where each weight and input is zero on its own account.

        The most products that a unit has in a bout depends on the bout's weights and on its inputs. Its
        variance is that of its mean for given weights, that for given inputs, and what is left (Hoeffding's
        decomposition): V_w, V_i and V_wi; how large these parts are is seen of bouts that are drawn. Bouts of
        the same weights share the first, those of the same inputs the second. Of B bouts with W different
        sets of weights and I of inputs, all as often, the sum has the variance

            B^2 / W V_w  +  B^2 / I V_i  +  B V_wi

        and, as cycles are whole numbers, the square of half of one.
        """
        bout = bout_of(program, self)
        of_weights, of_inputs, of_both = (variance(bout) * part for part in parts(bout))
        side = bout.channels * bout.apart
        weights = self.layer.weight_count / (side * bout.weight.each * bout.weight.units)
        inputs = self.layer.input_count / (side * bout.input.each * bout.input.units)
        bouts = self.layer.macs / bout_products(bout)
        return float(np.sqrt(bouts**2 * (of_weights / weights + of_inputs / inputs) + bouts * of_both + 0.25))


def variance(bout: Bout) -> float:
    """Of the most products of a unit."""
    scale, bout = bout.reduced()
    counts = np.arange(bout.channels * bout.weight.each * bout.input.each, dtype=np.float64)
    above = 1 - bout.at_most(counts)
    return float(scale**2 * (((2 * counts + 1) * above).sum() - above.sum() ** 2))


def parts(bout: Bout, draws: int = 64) -> tuple[float, float, float]:
    """The parts of that variance: by a bout's weights, by its inputs, and by both together."""
    random = np.random.default_rng(0)
    weights, inputs = (
        random.binomial(each.each, each.density, (bout.apart, draws, each.units, bout.channels)).astype(
            np.float32
        )
        for each in (bout.weight, bout.input)
    )
    most = np.zeros((draws, draws))
    for left, right in zip(weights, inputs, strict=True):
        products = left.reshape(-1, bout.channels) @ right.reshape(-1, bout.channels).T
        products = products.reshape(draws, bout.weight.units, draws, bout.input.units)
        most = np.maximum(most, products.max(axis=(1, 3)))
    of_weights, of_inputs = most.mean(axis=1), most.mean(axis=0)
    rest = most - of_weights[:, None] - of_inputs + most.mean()
    both = float((rest**2).sum() / (draws - 1) ** 2)
    found = [max(0.0, float(each.var(ddof=1)) - both / draws) for each in (of_weights, of_inputs)]
    if (total := sum(found) + both) == 0:  # too rarely another number for any to be drawn
        found = [float(each.density < 1) for each in (bout.weight, bout.input)]
        total = sum(found)
    return found[0] / total, found[1] / total, both / total


def bout_products(bout: Bout) -> int:
    """All products between two changes of a tile."""
    each = bout.weight.each * bout.weight.units * bout.input.each * bout.input.units
    return bout.channels * bout.apart * each


def bout_of(program: Program, case: ZeroCase) -> Bout:
    """Read off a program what its units do between two changes of a tile."""
    inside: list[isa.Loop] = []
    spreads: list[isa.Spread] = []
    for each in program.instructions:
        match each:
            case isa.Compute():
                break
            case isa.Loop():
                inside.append(each)
            case isa.Spread():
                spreads.append(each)
            case _:
                inside = []

    def size(found: list[isa.Loop] | list[isa.Spread], dims: str) -> int:
        return prod(each.size for each in found if each.dim in dims)

    assert case.hardware.datapath
    skips = case.hardware.datapath.skips
    weight, input = case.weight if "weight" in skips else 1.0, case.input if "input" in skips else 1.0
    return Bout(
        size(inside, "GCRS"),
        size(spreads, "GCRS"),
        Factor(size(inside, "K"), size(spreads, "K"), weight),
        Factor(size(inside, "NPQ"), size(spreads, "NPQ"), input),
    )


def zero_case(seed: int, units: bool) -> ZeroCase:
    """The case of a seed: one unit, or several that share weights, or inputs, or neither."""
    random = Random(seed)
    convolution = random.random() < 0.5
    dims: tuple[Dim, ...] = ("N", "G", "K", "C", "P", "Q") if convolution else ("N", "K", "C")
    skips = random.choice((("weight",), ("input",), ("weight", "input"), ("weight", "input")))
    while True:
        parts: dict[Dim, list[int]] = {
            dim: [random.choice((1, 1, 2, 3, 4, 6)) for _ in range(2)] for dim in dims
        }
        shared: tuple[Dim, ...] = random.choice((("K",), tuple(dim for dim in dims if dim in "NPQ"), ()))
        spread: dict[Dim, int] = dict.fromkeys(dims, 1)
        for dim in dict.fromkeys((*shared[:1], "C")) if units else ():
            spread[dim] = random.choice((1, 2, 4, 8))
        sizes = {dim: prod(parts[dim]) * spread[dim] for dim in dims}
        count = prod(spread.values())
        layer = Layer("it", "conv2d" if convolution else "matmul", **sizes)  # type: ignore[arg-type]
        many = min(layer.weight_count, layer.input_count) >= LEAST_ELEMENTS
        if many and 20_000 <= layer.macs <= 100_000 and (count > 1) == units:
            break
    loops = [_loops(random, parts, place, memory) for place, memory in enumerate(("dram", "buffer"))]
    on_axes = [Loop(dim, size, f"by_{dim}") for dim, size in spread.items() if size > 1]
    axes = tuple(Axis(loop.at, loop.size, "buffer") for loop in on_axes)
    keep = [Keep(operand, "dram") for operand in OPERANDS]
    for operand in OPERANDS:
        if random.random() < 0.6:
            keep.append(Keep(operand, "buffer", random.choice((0, 0, random.randint(0, len(loops[1]))))))
    hardware = Hardware(
        "skipping",
        1e9,
        (Compute("int8", count),),
        (Memory("dram", 1 << 30, 1e30), Memory("buffer", 1 << 30, 1e30)),
        axes=axes,
        datapath=Datapath(skips=skips),  # type: ignore[arg-type]
    )
    mapping = Mapping((*loops[0], *loops[1], *on_axes), tuple(keep))
    return ZeroCase(layer, hardware, mapping, random.uniform(0.1, 0.9), random.uniform(0.1, 0.9))


def _loops(random: Random, parts: dict[Dim, list[int]], place: int, memory: str) -> list[Loop]:
    found = [Loop(dim, parts[dim][place], memory) for dim in DIMS if dim in parts]
    return random.sample(found, len(found))
