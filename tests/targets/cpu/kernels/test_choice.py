"""Random quantized layers equal arithmetic: on this CPU's unit, without it, and on plain llvm."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tersor.targets.cpu.host.detect import cpu_flags
from tersor.targets.cpu.host.isa import AMX, AVX2, AVX512, AVX512_VNNI, ISAS, PLAIN, Isa
from tersor.targets.cpu.kernels.choice import choose_kernel, dense_geometry, dense_order
from tersor.targets.cpu.kernels.epilogue import Activation, Rescale
from tersor.targets.cpu.layout.geometry import Geometry
from tersor.targets.cpu.layout.order import Order
from tests.quantized_layers import QuantizedLayer, draw, mismatches
from tests.relax_modules import Net, compiled

LAYERS = 100
MANY_LAYERS = 200
ALL_LAYERS = 1000
FLAGS = cpu_flags()
NATIVE = next(isa for isa in ISAS if set(isa.flags) <= FLAGS)


def runs_here(isa: Isa) -> bool:
    return set(isa.flags) <= FLAGS


def runnable(isa: Isa) -> Isa:
    """The instruction set itself where the CPU has it, else its scalar description."""
    return isa if runs_here(isa) else isa.described()


def failures(isa: Isa, layers: Sequence[QuantizedLayer], default_tiling: bool = False) -> list[str]:
    """Compile all layers at once and name those whose codes differ from arithmetic's."""
    kernels = [layer.kernel(isa, default_tiling) for layer in layers]
    return mismatches(layers, kernels, isa)


def drawn(start: int, stop: int) -> list[QuantizedLayer]:
    return [draw(seed) for seed in range(start, stop)]


@pytest.mark.parametrize("start", range(0, LAYERS, 50))
def test_layers_on_this_cpu_are_arithmetic(start: int) -> None:
    assert failures(NATIVE, drawn(start, start + 50)) == []


def test_layers_in_the_tilings_chosen_for_them_are_arithmetic() -> None:
    assert failures(NATIVE, drawn(1000, 1010), default_tiling=True) == []


@pytest.mark.parametrize("isa", [AMX, AVX512_VNNI, AVX512, AVX2, PLAIN], ids=lambda isa: isa.name)
def test_layers_of_other_instruction_sets_are_arithmetic(isa: Isa) -> None:
    if isa is NATIVE:
        pytest.skip("tested with all layers")
    assert failures(runnable(isa), drawn(0, 12)) == []


@pytest.mark.slow
@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("start", range(0, ALL_LAYERS, 50))
def test_all_layers_of_all_instruction_sets_are_arithmetic(isa: Isa, start: int) -> None:
    assert failures(isa.described(), drawn(start, start + 50)) == []
    if runs_here(isa):
        assert failures(isa, drawn(start, start + 50)) == []


@pytest.mark.slow
@pytest.mark.parametrize("isa", [AMX, NATIVE], ids=lambda isa: isa.name)
@pytest.mark.parametrize("start", range(0, MANY_LAYERS, 50))
def test_all_layers_in_the_tilings_chosen_for_them_are_arithmetic(isa: Isa, start: int) -> None:
    assert failures(runnable(isa), drawn(start, start + 50), default_tiling=True) == []


def plain_failures(layers: Sequence[QuantizedLayer], level: int) -> list[str]:
    """As `failures`, for the layers as one Relax module on plain llvm, with no lowering of ours."""
    inputs = [each for layer in layers for each in layer.inputs()]
    shapes = [each.shape for each in inputs]
    net = Net(shapes[0], "uint8", *shapes[1:])
    declared = iter(net.inputs)
    outputs = [
        layer.emit(net, [next(declared) for _ in layer.inputs()], f"w{i}") for i, layer in enumerate(layers)
    ]
    results = compiled(net.finish(*outputs), level)(*inputs)
    pairs = zip(layers, results, strict=True)
    return [str(layer) for layer, result in pairs if not np.array_equal(layer.read(result), layer.expected)]


@pytest.mark.parametrize("start", range(0, LAYERS, 50))
def test_layers_on_plain_llvm_are_arithmetic(start: int) -> None:
    assert plain_failures(drawn(start, start + 50), level=0) == []


def test_layers_on_plain_llvm_with_its_optimisations_are_arithmetic() -> None:
    assert plain_failures(drawn(0, 20), level=3) == []


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 3])
def test_many_layers_on_plain_llvm_are_arithmetic(level: int) -> None:
    assert plain_failures(drawn(0, MANY_LAYERS), level) == []


def test_the_layers_are_of_all_kinds() -> None:
    layers = drawn(0, LAYERS)
    geometries = [layer.geometry for layer in layers]
    conditions: dict[str, Any] = {
        "batches": [g for g in geometries if g.batch > 1],
        "one row dense": [layer for layer in layers if layer.is_dense and layer.geometry.width == 1],
        "many rows dense": [layer for layer in layers if layer.is_dense and layer.geometry.width > 1],
        "1x1": [g for g in geometries if g.window == (1, 1) and g.height > 1],
        "strided": [g for g in geometries if g.stride != (1, 1)],
        "dilated": [g for g in geometries if g.dilation != (1, 1)],
        "grouped": [g for g in geometries if g.groups > 1 and not g.is_depthwise],
        "depthwise": [g for g in geometries if g.is_depthwise],
        "uneven": [g for g in geometries if g.padding[:2] != g.padding[2:]],
        "odd channels": [g for g in geometries if g.channels % 4 and g.outputs % 8],
        "large windows": [g for g in geometries if max(g.window) > 4],
        "large batches": [g for g in geometries if g.batch > 2],
        "many channels": [g for g in geometries if g.depth > 64],
        "residual": [layer for layer in layers if layer.residual],
        "float": [layer for layer in layers if layer.returns_float],
        "bounded": [layer for layer in layers if getattr(layer.epilogue, "bounded", False)],
    }
    assert {name: len(found) >= 5 for name, found in conditions.items()} == dict.fromkeys(conditions, True)
    spread = [
        layer.expected.std() for layer in layers if not layer.returns_float and layer.expected.size > 50
    ]
    assert np.median(spread) > 10  # not all saturated


def test_names_tell_family_precision_unit_and_tile() -> None:
    depthwise = Geometry(1, 8, 8, 32, 32, (3, 3), groups=32)
    convolution = Geometry(1, 8, 8, 3, 32, (3, 3))
    dense = dense_geometry((1, 64), 10)
    names = [
        choose_kernel(AVX2, 2, geometry, epilogue, 0).name.rsplit(" ", 1)[0]
        for geometry in (depthwise, convolution, dense)
        for epilogue in (Rescale(), Activation())
    ]
    assert names == [
        "depthwise int8 avx2", "depthwise fp32 avx2", "conv2d int8 avx2", "conv2d fp32 avx2",
        "dense int8 avx2", "dense fp32 avx2",
    ]  # fmt: skip


def test_a_dense_layer_is_a_1x1_convolution_over_a_row() -> None:
    assert dense_geometry((2, 3, 5), 7) == Geometry(1, 1, 6, 5, 7)
    weight = np.arange(10, dtype=np.int8).reshape(5, 2)
    ordered = dense_order(Order(), 5, 2)(weight)
    assert ordered.shape == (2, 5, 1, 1)
    np.testing.assert_array_equal(ordered[1, :, 0, 0], weight[:, 1])
