import pytest

from tersor.document import parse_json, to_json
from tersor.layer import Layer
from tersor.network import Edge, Network

FC1 = Layer("fc1", "matmul", N=2, K=8, C=4)
FC2 = Layer("fc2", "matmul", N=2, K=4, C=8)
DECODER = Layer("decoder", "matmul", N=2, K=8, C=4)
ATTENTION = Layer("attention", "matmul", N=2, K=2, C=4, weight_bearing=False)
NETWORK = Network(
    (FC1, FC2, ATTENTION, DECODER), (Edge("fc1", "fc2", (2, 8)),), (("fc1", "decoder"),), ("reshape",)
)


def test_layers_are_found_by_name() -> None:
    assert NETWORK["fc2"] is FC2
    assert "fc2" in NETWORK
    assert "fc3" not in NETWORK


def test_totals_count_shared_weights_once_and_computed_operands_never() -> None:
    assert NETWORK.macs == 64 * 3 + 16
    assert NETWORK.weight_count == 32 + 32


def test_a_network_is_read_back_from_json() -> None:
    assert parse_json(to_json(NETWORK, Network), Network, "network.json") == NETWORK


def test_a_network_is_a_key() -> None:
    assert len({NETWORK, Network(NETWORK.layers, NETWORK.edges, NETWORK.tied, NETWORK.movers)}) == 1


def test_what_does_not_hold_together_is_refused() -> None:
    with pytest.raises(ValueError, match="'fc1' is there 2 times"):
        Network((FC1, FC1))
    with pytest.raises(ValueError, match="names 'fc9', which is no layer"):
        Network((FC1,), tied=(("fc1", "fc9"),))
    with pytest.raises(ValueError, match="two or more layers"):
        Network((FC1,), tied=(("fc1",),))
    with pytest.raises(ValueError, match=r"needs sizes >= 1, got \(0, 3\)"):
        Edge("a", "b", (0, 3))
