from typing import Any

import numpy as np
import pytest
from tvm import relax

from tersor import arithmetic
from tersor.ir.operators import Quantize
from tests.relax_modules import Net, run
from tests.row_kernels import HOST, fused, kernels_of

op = relax.op
TOKENS = (1, 6, 40)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def normed(net: Net, x: Any) -> Any:
    scale, shift = (net.weight(name, normal(40, seed=i)) for i, name in enumerate(("scale", "shift")))
    return net.emit(op.nn.layer_norm(x, scale, shift, [-1]))


def test_a_sum_its_norm_and_the_codes_of_both_readers_are_one_kernel() -> None:
    net = Net(TOKENS, "float32", TOKENS)
    y = normed(net, net.emit(op.add(*net.inputs)))
    grids = [Quantize(0.02, 128), Quantize(0.05, 100)]
    mod = net.finish(y, *(net.call(grid, y) for grid in grids))
    inputs = normal(*TOKENS), normal(*TOKENS, seed=1)
    assert kernels_of(mod) == ["rows_add_layer_norm_quantize"]
    got, *codes = fused(mod, HOST.isa, *inputs)
    np.testing.assert_allclose(got, run(mod, *inputs)[0], atol=2e-5)
    for grid, each in zip(grids, codes, strict=True):
        np.testing.assert_array_equal(each, arithmetic.quantize(got, grid.scale, grid.zero_point))


def test_attention_weights_are_one_kernel_from_the_scores_to_the_codes() -> None:
    scores, mask = (2, 3, 16, 24), (2, 1, 1, 24)
    net = Net(scores, "float32", mask)
    x, hidden = net.inputs
    x = net.emit(op.add(net.emit(op.divide(x, relax.const(3.0, "float32"))), hidden))
    mod = net.finish(net.call(Quantize(1 / 255, 0), net.emit(op.nn.softmax(x, -1))))
    assert kernels_of(mod) == ["rows_divide_add_softmax_quantize"]
    inputs = normal(*scores), np.where(normal(*mask) > 1, np.float32(-1e4), np.float32(0))
    (got,), (plain,) = fused(mod, HOST.isa, *inputs), run(mod, *inputs)
    assert np.abs(got.astype(int) - plain).max() <= 1
    assert (got == plain).mean() > 0.999


def test_no_kernel_waits_for_what_it_gives() -> None:
    """The sum reads the norm directly and through the product, so it comes behind the product."""
    net = Net(TOKENS)
    y = normed(net, net.inputs[0])
    z = net.emit(op.add(net.emit(op.matmul(y, net.weight("w", normal(40, 40)))), y))
    mod = net.finish(net.emit(op.nn.softmax(z, -1)))
    assert kernels_of(mod) == ["rows_layer_norm", "matmul", "rows_add_softmax"]
    np.testing.assert_allclose(
        fused(mod, HOST.isa, normal(*TOKENS))[0], run(mod, normal(*TOKENS))[0], atol=1e-5
    )


def test_two_kernels_do_not_wait_for_each_other() -> None:
    net = Net(TOKENS, "float32", TOKENS)
    a, b = (net.emit(op.nn.softmax(x, -1)) for x in net.inputs)
    w = net.weight("w", normal(40, 40))
    crossed = [net.emit(op.add(net.emit(op.matmul(x, w)), y)) for x, y in ((a, b), (b, a))]
    mod = net.finish(*crossed, net.emit(op.multiply(a, b)))
    inputs = normal(*TOKENS), normal(*TOKENS, seed=1)
    for got, expected in zip(fused(mod, HOST.isa, *inputs), run(mod, *inputs), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_regions_that_meet_become_one() -> None:
    net = Net(TOKENS, "float32", TOKENS)
    a, b = (net.emit(op.nn.softmax(x, -1)) for x in net.inputs)
    mod = net.finish(net.emit(op.multiply(a, b)))
    assert kernels_of(mod) == ["rows_softmax_multiply"]
    inputs = normal(*TOKENS), normal(*TOKENS, seed=1)
    np.testing.assert_allclose(fused(mod, HOST.isa, *inputs)[0], run(mod, *inputs)[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "kernels"),
    [((2, 7, 300), ["rows_multiply"]), ((2, 30), ["multiply"])],
    ids=["many elements", "few elements"],
)
def test_light_arithmetic_is_worth_a_kernel_on_many_elements(
    shape: tuple[int, ...], kernels: list[str]
) -> None:
    net = Net(shape, "float32", shape)
    assert kernels_of(net.finish(net.emit(op.multiply(*net.inputs)))) == kernels


def test_what_is_transposed_next_is_left_to_be_written_there() -> None:
    net = Net((4, 70, 60), "float32", (4, 70, 60))
    product = net.emit(op.multiply(*net.inputs))
    mod = net.finish(net.emit(op.permute_dims(product, [0, 2, 1])))
    assert kernels_of(mod) == ["multiply", "permute_dims"]


def test_other_precisions_and_other_axes_are_left_alone() -> None:
    net = Net((4, 80, 60), "float64")
    mod = net.finish(net.emit(op.nn.softmax(net.inputs[0], -1)))
    assert kernels_of(mod) == ["nn.softmax"]
    net = Net((4, 80, 60))
    mod = net.finish(net.emit(op.nn.softmax(net.inputs[0], 1)), net.emit(op.mean(net.inputs[0], [1], True)))
    assert kernels_of(mod) == ["nn.softmax", "mean"]


def test_what_nothing_reads_is_dropped() -> None:
    net = Net(TOKENS)
    net.emit(op.exp(net.inputs[0]))
    assert kernels_of(net.finish(net.emit(op.nn.softmax(net.inputs[0], -1)))) == ["rows_softmax"]
