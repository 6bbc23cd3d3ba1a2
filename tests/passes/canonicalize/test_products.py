"""A product with one weight has it on the right as a matrix, and is then a layer."""

import numpy as np
import pytest
from tvm import relax

from tersor.frontend.verification import run_plainly
from tersor.ir.graph import Graph, weights_of
from tersor.passes.canonicalize import Canonicalize
from tersor.passes.extract import extract
from tests.relax_modules import Net, he

RNG = np.random.default_rng(0)


def layer_of(mod) -> tuple[str, int, int, int]:
    """Canonicalize, see that the numbers stay and nothing is left to do, and give the one layer."""
    after = Canonicalize()(mod)
    (x,) = Graph(mod).inputs
    inputs = {"x": RNG.normal(size=[int(n) for n in x.ty.shape]).astype(np.float32)}
    (result,), (reference,) = run_plainly(after, inputs), run_plainly(mod, inputs)
    np.testing.assert_allclose(result, reference, rtol=1e-4, atol=1e-5)
    assert Canonicalize()(after).script() == after.script()
    (layer,) = extract(after).layers
    assert weights_of(after)[layer.name].shape == (layer.C, layer.K)
    return layer.name, layer.N, layer.K, layer.C


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_a_weight_on_the_left_goes_to_the_right(batch: tuple[int, ...]) -> None:
    net = Net((*batch, 6, 5))
    y = net.emit(relax.op.matmul(net.weight("mixer", he(RNG, 4, 6)), net.inputs[0]))
    assert layer_of(net.finish(y)) == ("mixer", 5 * int(np.prod(batch)), 4, 6)


def test_a_vector_is_a_matrix_of_one_column() -> None:
    net = Net((3, 6))
    y = net.emit(relax.op.matmul(net.inputs[0], net.weight("vector", he(RNG, 6, fan_in=6))))
    assert layer_of(net.finish(y)) == ("vector", 3, 1, 6)
