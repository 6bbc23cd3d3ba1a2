from pathlib import Path

import pytest

from tersor.error import UserError
from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.machine_map import map_network
from tersor.machine_picture import machine_picture
from tersor.network import Network
from tersor.roofline_picture import arithmetic_roofs, bytes_per_cycle
from tersor.scheme import Scheme

EDGE = Hardware.load(Path(__file__).parents[1] / "targets" / "machines" / "edge.toml")
NETWORK = Network(
    (
        Layer("table", "gather", N=16, K=64, C=1000),
        Layer("first", "conv2d", K=16, C=3, P=8, Q=8, R=3, S=3, padding=(1, 1, 1, 1)),
        Layer("fc", "matmul", N=8, K=64, C=48),
    )
)
FOUND = map_network(NETWORK, EDGE, Scheme.parse("int8+2:4"), effort=2_000)


def test_no_layer_is_above_a_roof() -> None:
    roofs = arithmetic_roofs(FOUND.layers, EDGE)
    assert roofs == {"int8": 256, "int4": 512, "fp32": 16}  # int8 at 2:4 is as fast as int4
    for layer in FOUND.layers:
        assert layer.macs <= layer.cycles * layer.peak
        for memory in EDGE.memories:
            assert layer.bytes[memory.name] <= 1.000001 * layer.cycles * bytes_per_cycle(EDGE, memory)


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_equal_maps_give_equal_pictures(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    first, second = tmp_path / f"1.{ending}", tmp_path / f"2.{ending}"
    machine_picture(FOUND, EDGE, "net", first)
    machine_picture(FOUND, EDGE, "net", second)
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size > 10_000


def test_a_picture_of_another_kind_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(UserError, match=r"ends in \.png or \.svg"):
        machine_picture(FOUND, EDGE, "net", tmp_path / "map.bmp")
    with pytest.raises(UserError, match="cannot write"):
        machine_picture(FOUND, EDGE, "net", tmp_path / "missing" / "map.png")
