from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.error import UserError
from tersor.hardware import Axis, Compute, Datapath, Hardware, Memory, Representation
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
        ('"6.4 GB/s"', '"6.4 GB/s"\nbuses = { weight = 0 }', "the bus of the weight needs more than 0 bits"),
        ('"6.4 GB/s"', '"6.4 GB/s"\nbuses = { sums = 8 }', r"memories\.0\.buses\.sums is an unknown key"),
        (
            '"6.4 GB/s"',
            '"6.4 GB/s"\nstreams = true\ndouble_buffered = true',
            r"memories\.0: the memory dram is double buffered or streams, not both; remove one",
        ),
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


ARRAY = """
[[axes]]
name = "rows"
size = 16
inside = "dram"
unrolls = ["C", "R"]
multicast = ["input"]
reduces = true
[[axes]]
name = "columns"
size = 16
inside = "dram"
[datapath]
mode = "fixed"
word = 8
skew = ["rows", "columns"]
stationary = "weight"
"""


def test_an_accelerator_says_how_its_units_lie_and_multiply(tmp_path: Path) -> None:
    machine = load(tmp_path, MACHINE + ARRAY)
    assert machine.axis("rows") == Axis("rows", 16, "dram", ("C", "R"), ("input",), reduces=True)
    assert machine.units == 256
    assert machine.datapath == Datapath("fixed", 8, skew=("rows", "columns"), stationary="weight")


@pytest.mark.parametrize(
    ("good", "bad", "sentence"),
    [
        ('inside = "dram"', 'inside = "l2"', r"m\.toml: .*axis rows lies inside of one of dram, got 'l2'"),
        ('"C", "R"', '"C", "Z"', r"m\.toml: axes\.0\.unrolls\.1 must be 'N', .* got 'Z'"),
        ("size = 16", "size = 0", r"axes\.0: the axis rows needs a size of at least 1 unit, got 0"),
        ('multicast = ["input"]', 'multicast = ["output"]', "multicasts no output; say reduces = true"),
        ('multicast = ["input"]', "shares_halo = true", "shares halos only if it multicasts the input"),
        ("size = 16", "size = 8", r"int8: 128 units make 128 products in a cycle, macs_per_cycle says 256"),
        ("word = 8", "word = 4", r"int8: its units multiply up to 4 bits, not 8 by 8; make its word larger"),
        ('"fixed"', '"analog"', r"datapath\.mode must be 'fixed', 'packed', .* got 'analog'"),
        ('["rows", "columns"]', '["depth"]', r"skew and loads name axes \(rows, columns\), got 'depth'"),
        ('stationary = "weight"', "", r"datapath: skew and loads are for each pass; say which operand"),
        ("word = 8", 'word = 8\ngates = ["input"]\nskips = ["input"]', "gated or skipped, not both"),
        ('name = "columns"', 'name = "dram"', "two entries of one name in memories and axes"),
        ("[datapath]\nmode", "[datapth]\nmode", "datapth is an unknown key"),
        ('bandwidth = "6.4 GB/s"', "", r"memories\.0: the memory dram needs a bandwidth, or read_ports"),
        ('bandwidth = "6.4 GB/s"', 'bandwidth = "1 GB/s"\nread_ports = 1', "a bandwidth or ports, not both"),
        ('bandwidth = "6.4 GB/s"', 'bandwidth = "1 GB/s"\nword = 0', "words of at least 1 bit, got 0"),
        (
            'bandwidth = "6.4 GB/s"',
            'bandwidth = "1 GB/s"\nkeeps = ["input"]',
            "dram, the outermost memory, keeps",
        ),
        (
            'bandwidth = "6.4 GB/s"',
            'bandwidth = "1 GB/s"\nformats = { weight = "zip" }',
            r"memories\.0\.formats\.weight: 'zip' is no representation; write dense, bitmask",
        ),
        (
            'bandwidth = "6.4 GB/s"',
            'bandwidth = "1 GB/s"\nwrite_energy_per_byte = "1 pJ"',
            r"dram: an energy of 1\.0 pJ needs its source",
        ),
    ],
)
def test_a_mistake_in_an_array_names_file_key_and_what_to_change(
    tmp_path: Path, good: str, bad: str, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        load(tmp_path, (MACHINE + ARRAY).replace(good, bad, 1))


def test_ports_give_words_in_each_cycle_and_whole_elements_lie_in_a_word() -> None:
    memory = Memory("spad", 64, word=16, read_ports=2, write_ports=1, banks=4, keeps=("weight",))
    dram = Memory("dram", 1 << 20, 1e9)
    machine = Hardware("x", 1e9, (Compute("int8", 1),), (dram, memory), datapath=Datapath())
    assert machine.read_bandwidth(memory) == 2 * 4 * 2 * 1e9
    assert machine.write_bandwidth(memory) == 4 * 2 * 1e9
    assert [memory.element_bits(bits) for bits in (3, 4, 5, 6, 8, 9, 16, 17)] == [
        16 / 5, 4, 16 / 3, 8, 8, 16, 16, 32,
    ]  # fmt: skip
    assert dram.element_bits(5) == 5


def test_memories_inside_of_an_axis_are_one_for_each_unit() -> None:
    edge = Hardware.load(MACHINES / "edge.toml")
    assert {memory.name: edge.instances(memory) for memory in edge.memories} == {
        "dram": 1,
        "buffer": 1,
        "registers": 256,
    }


@pytest.mark.parametrize(
    ("datapath", "rates"),
    [
        (Datapath("fixed", 8), {(8, 8): 1, (4, 4): 1}),
        (Datapath("packed", 16), {(16, 16): 1, (8, 8): 2, (6, 8): 2, (5, 5): 3, (4, 4): 4, (2, 4): 4}),
        (Datapath("bit_serial", 16), {(16, 16): 1, (16, 8): 2, (8, 5): 16 / 5, (2, 1): 16}),
        (Datapath("bit_brick", 8), {(8, 8): 1, (8, 4): 2, (4, 4): 4, (6, 6): 1, (2, 2): 16, (16, 16): 1 / 4}),
    ],
)
def test_fewer_bits_are_as_much_faster_as_the_mode_says(
    datapath: Datapath, rates: dict[tuple[int, int], float]
) -> None:
    assert {bits: datapath.macs(*bits) for bits in rates} == rates


@pytest.mark.parametrize("text", ["dense", "bitmask", "rle5", "coordinate7", "csr7/16", "blocked16", "2:4"])
def test_a_representation_is_its_text(text: str) -> None:
    assert str(Representation.parse(text)) == text


def test_representations_take_the_bits_of_what_they_store() -> None:
    def bits(text: str, density: float, row: int = 1) -> float:
        return Representation.parse(text).bits(8, density, row)

    assert bits("dense", 0.3) == 8
    assert bits("bitmask", 0.25) == 8 / 4 + 1
    assert bits("coordinate7", 0.25) == 15 / 4
    assert bits("csr8/16", 0.25, row=64) == 16 / 4 + 16 / 64
    assert bits("2:4", 0.3) == 8 / 2 + 2 / 2
    assert bits("blocked2", 0.5) == 8 * 3 / 4 + 1 / 2
    assert bits("rle1", 0.5) == pytest.approx(9 * 0.5 / (1 - 0.25))


@given(st.integers(1, 4), st.floats(0.05, 0.95), st.integers(0, 1000))
def test_run_lengths_store_as_many_elements_as_the_closed_form_expects(
    run: int, density: float, seed: int
) -> None:
    mask = np.random.default_rng(seed).random(20_000) < density
    stored = zeros = 0
    for nonzero in mask:
        if nonzero or zeros == (1 << run) - 1:
            stored, zeros = stored + 1, 0
        else:
            zeros += 1
    expected = Representation("rle", run).payload(density) * mask.size
    assert stored == pytest.approx(expected, rel=0.15)


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


def test_what_makes_one_product_at_a_time_has_nothing_to_fuse() -> None:
    assert Datapath("bit_brick", fuses="C").fused(4, 4) == 4
    assert Datapath("bit_brick", fuses="C").fused(16, 8) == 1
    assert Datapath("bit_brick").fused(4, 4) == 1
    with pytest.raises(ValueError, match="a fixed datapath has no products to fuse along C; remove fuses"):
        Datapath(fuses="C")
