import pytest

from tersor.error import UserError
from tersor.frontend.graph import Graph
from tersor.frontend.outputs import select_outputs
from tests.models import mlp, residual_net


def test_any_tensor_can_be_an_output_and_later_nodes_are_dropped():
    graph = select_outputs(Graph.read(mlp()), ["relu0"])
    assert graph.outputs == ("relu0",)
    assert [node.output[0] for node in graph.nodes] == ["fc0", "relu0"]
    assert list(graph.constants) == ["fc0.weight", "fc0.bias"]


def test_outputs_keep_the_order_asked_for():
    assert select_outputs(Graph.read(mlp()), ["y", "relu0"]).outputs == ("y", "relu0")


def test_an_unknown_output_is_refused_with_candidates():
    with pytest.raises(
        UserError, match="the model has no tensor 'relu7'; candidates are 'fc0', 'relu0', 'fc1'"
    ):
        select_outputs(Graph.read(mlp()), ["relu7"])
    with pytest.raises(UserError, match=r"candidates are 'y', 'block0.\w+', .*, and \d+ more"):
        select_outputs(Graph.read(residual_net()), ["block0"])


def test_no_output_is_refused():
    with pytest.raises(UserError, match="name at least one output"):
        select_outputs(Graph.read(mlp()), [])
