from pathlib import Path

import pytest

from tersor.error import UserError
from tersor.hardware import Compute, Hardware, Memory
from tersor.sparsity import NM
from tersor.units import parse_bandwidth, parse_bytes, parse_energy, parse_frequency

MACHINES = Path(__file__).parents[1] / "targets" / "machines"

MACHINE = """
name = "edge"
clock = "500 MHz"
[[compute]]
precision = "int8"
macs_per_cycle = 256
skips = ["2:4"]
energy_per_mac = "0.3 pJ"
source = "a paper"
[[memories]]
name = "dram"
size = "512 MiB"
bandwidth = "6.4 GB/s"
"""


def load(tmp_path: Path, text: str) -> Hardware:
    (tmp_path / "m.toml").write_text(text)
    return Hardware.load(tmp_path / "m.toml")


def test_a_machine_is_a_toml_file(tmp_path: Path) -> None:
    assert load(tmp_path, MACHINE) == Hardware(
        name="edge",
        clock=5e8,
        compute=(Compute("int8", 256, (NM(2, 4),), 0.3, "a paper"),),
        memories=(Memory("dram", 512 << 20, 6.4e9),),
    )


@pytest.mark.parametrize("path", sorted(MACHINES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_machine_loads_under_its_files_name(path: Path) -> None:
    machine = Hardware.load(path)
    assert machine.name == path.stem
    assert all(unit.source for unit in machine.compute)


def test_edge_computes_in_int8_and_skips_two_of_four() -> None:
    edge = Hardware.load(MACHINES / "edge.toml")
    unit = edge.unit("int8")
    assert unit
    assert NM(2, 4) in unit.skips
    assert edge.unit("fp16") is None
    assert edge.memory("dram").energy_per_byte == 640 / 4
    assert edge.memory("dram").size > edge.memory("buffer").size


def test_a_machine_made_in_python_has_plain_numbers_and_is_a_key() -> None:
    cpu = Hardware(
        "cpu", 2e9, (Compute("fp32", 64),), (Memory("dram", 1 << 34, 2e10),), cores=2, features=("avx2",)
    )
    assert cpu in {cpu}
    assert cpu.precisions == ("fp32",)


@pytest.mark.parametrize(
    ("good", "bad", "sentence"),
    [
        ('"500 MHz"', '"500 MB"', r"m\.toml: clock: unknown unit 'MB' in '500 MB'; one of Hz, .*GHz"),
        ('"500 MHz"', "500", r"m\.toml: clock: write a number with its unit, as in '1 GHz', got 500"),
        ('"512 MiB"', '"half a gig"', r"memories\.0\.size: write a number with its unit"),
        ('"512 MiB"', '"0.3 B"', r"memories\.0\.size: '0.3 B' is 0.3 bytes; a size is a whole number"),
        ('"512 MiB"', '"1e999 B"', "too large"),
        ('"6.4 GB/s"', '"0 GB/s"', r"memories\.0: the memory dram needs a bandwidth above 0"),
        ('"a paper"', '""', r"compute\.0: int8: an energy of 0.3 pJ needs its source"),
        ("256", "0", r"int8 needs more than 0 MAC per cycle, got 0"),
        ("256", "inf", r"macs_per_cycle must be|more than 0 MAC per cycle, got inf"),
        ('"2:4"', '"4:2"', r"compute\.0\.skips\.0: N:M sparsity needs 0 < n < m, got 4:2"),
        ('"int8"', '"eight"', "a precision is int8, int4, fp32 or the like, got 'eight'"),
        ('name = "edge"', 'name = "edge"\nvendor = "us"', "vendor is an unknown key; remove it"),
        ('clock = "500 MHz"', "", "clock is missing; add it"),
        ("[[compute]]", "[compute]", "compute must be"),
        ("[[memories]]", "[[memories", "m.toml is not TOML: "),
    ],
)
def test_a_mistake_names_file_key_and_what_to_change(
    tmp_path: Path, good: str, bad: str, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        load(tmp_path, MACHINE.replace(good, bad))


def test_two_memories_of_one_name_are_refused() -> None:
    memory = Memory("dram", 1, 1.0)
    with pytest.raises(ValueError, match="two entries of one name in memories"):
        Hardware("x", 1.0, (Compute("int8", 1),), (memory, memory))


def test_units_mean_what_they_say() -> None:
    assert parse_bytes("512 KiB") == 512 * 1024
    assert parse_bytes("1.5kB") == 1500
    assert parse_bandwidth("25.6 GB/s") == 25.6e9
    assert parse_frequency("1 GHz") == 1e9
    assert parse_energy("0.2 nJ") == pytest.approx(200)
