import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tvm import relax

from tersor.ir.graph import Graph
from tersor.targets.cpu.layout.views import View, view_behind
from tests.relax_modules import Net

op = relax.op
orders = st.integers(1, 4).flatmap(
    lambda rank: st.tuples(
        st.lists(st.integers(1, 4), min_size=rank, max_size=rank), st.permutations(range(rank))
    )
)


def elements(view: View) -> np.ndarray:
    """Where each element of a view lies."""
    axes = np.meshgrid(*map(np.arange, view.shape), indexing="ij")
    return sum((axis * stride for axis, stride in zip(axes, view.strides, strict=True)), np.array(0))


@given(orders)
def test_a_transposed_view_reads_what_a_transpose_would_have_moved(case: tuple[list[int], list[int]]) -> None:
    shape, axes = case
    lying = np.arange(np.prod(shape)).reshape(shape)
    view = View.of(tuple(shape)).transposed(axes)
    np.testing.assert_array_equal(elements(view), lying.transpose(axes))
    assert view.source == tuple(shape)


@given(orders)
def test_untransposed_is_its_inverse(case: tuple[list[int], list[int]]) -> None:
    shape, axes = case
    view = View.of(tuple(shape))
    assert view.transposed(axes).untransposed(axes) == view


def test_all_transposes_of_a_tensor_are_looked_through() -> None:
    net = Net((2, 3, 4))
    once = net.emit(op.permute_dims(net.inputs[0], [1, 0, 2]))
    twice = net.emit(op.permute_dims(once, [0, 2, 1]))
    graph = Graph(net.finish(net.emit(op.exp(twice))))
    exponential = graph.definition(graph.outputs[0])
    behind, view = view_behind(graph, exponential.args[0])
    assert behind.same_as(graph.inputs[0])
    assert view == View((2, 3, 4), (3, 4, 2), (4, 1, 12))
