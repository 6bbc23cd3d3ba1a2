"""The traces that SCALE-Sim ships: what of them is a property of machine and mapping, and what is not.

Words of its SRAMs, of weights and of sums in DRAM, stored sparse weights, and cycles without stalls follow
exactly. Three numbers do not, since they are about its simulation of a prefetcher:

- words of the input from DRAM, and with them the stalls: the list that is fetched from is the im2col matrix
  in the order of its diagonals, where an input that windows share stands once for each. A miss fetches on in
  that list, in pieces of a tenth of the buffer and around its end, until the word comes by. So the words that
  come depend on how far the list is from what the array asks for, not on what the buffer could hold: of conv1
  1.64 times the whole list, 11.7 times the input. Any mapping with so large a buffer needs less.
- 31 words of sums more than are written (one less than the columns of the array).
- how many rows of a sparse weight are stored: 184 of 363 where one of four was asked for. Given the rows,
  words and metadata are ours.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from tersor.hardware import Hardware, Representation
from tersor.hardware.memory import OPERANDS
from tersor.layer import Dim, Layer, Operand
from tersor.mapping import Keep
from tersor.targets.accelerator.counts import INPUT, OUTPUT, PARTIAL, WEIGHT, Counts, count
from tersor.targets.accelerator.nest import Nest
from tests.targets.accelerator.test_systolic import cycles

ROOT = Path(__file__).parents[3]
GOLDEN = json.loads((ROOT / "tests" / "golden" / "scale_sim_traces.json").read_text())
MACHINE = Hardware.load(ROOT / "targets" / "machines" / "systolic_ws.toml")
CONV1 = Layer("conv1", "matmul", N=GOLDEN["conv1"]["M"], K=GOLDEN["conv1"]["N"], C=GOLDEN["conv1"]["K"])
LEVEL = {memory.name: level for level, memory in enumerate(MACHINE.memories)}


def counted(sums_at: str) -> Counts:
    """Pass after pass of 32 x 32 weights, the rows of the input behind one another; sums go to `sums_at`."""
    loops: tuple[tuple[Dim, str], ...] = (
        ("K", "ofmap"), ("C", "ofmap"), ("C", "rows"), ("K", "columns"), ("N", "register"),
    )  # fmt: skip
    at: list[tuple[Operand, str]] = [("weight", "filter"), ("weight", "register"), ("input", "ifmap")]
    keep = {*(Keep(o, "dram") for o in OPERANDS), *(Keep(o, a) for o, a in at), Keep("output", sums_at)}
    sizes = np.array([[-(-96 // 32)], [-(-363 // 32)], [32], [32], [3025]], np.float64)
    return count(Nest(CONV1, MACHINE, loops, tuple(keep)), sizes)


def test_words_of_the_srams() -> None:
    found, golden = counted("ofmap"), GOLDEN["conv1"]["sram"]
    assert found.reads[LEVEL["ifmap"], INPUT, 0] == golden["ifmap reads"]
    assert found.reads[LEVEL["filter"], WEIGHT, 0] == golden["filter reads"]
    arrived = found.writes[LEVEL["ofmap"], [OUTPUT, PARTIAL], 0].sum()
    assert arrived == golden["ofmap writes"]


def test_words_of_weights_and_sums_in_dram() -> None:
    found, golden = counted("dram"), GOLDEN["conv1"]["dram"]
    assert found.reads[LEVEL["dram"], WEIGHT, 0] == golden["filter reads"]
    written = found.writes[LEVEL["dram"], [OUTPUT, PARTIAL], 0].sum()
    assert written == golden["ofmap writes"] - 31, "each partial sum goes out, none is added up in the SRAM"


def test_its_prefetcher_reads_more_of_the_input_than_the_im2col_matrix_has() -> None:
    found, golden = counted("ofmap"), GOLDEN["conv1"]["dram"]
    assert found.reads[LEVEL["dram"], INPUT, 0] == CONV1.N * CONV1.C < golden["ifmap reads"]


@pytest.mark.parametrize(("stationary", "total", "stalls"), GOLDEN["product"]["rows"])
def test_cycles_without_stalls(stationary: Operand, total: int, stalls: int) -> None:
    product = GOLDEN["product"]
    assert cycles(stationary, 32, 32, product["M"], product["N"], product["K"]) - 1 == total - stalls


def test_words_of_stored_sparse_weights() -> None:
    golden = GOLDEN["sparse"]
    weights = 2 * golden["stored rows"] * golden["columns"]  # half of all rows, in whole blocks, are stored
    stored = Representation.parse("2:4")  # an entry and two bits for its place
    bits = weights * stored.bits(golden["word bits"], stored.payload(1.0))
    assert bits / golden["word bits"] == golden["words"]
    assert weights * stored.metadata_bits(1.0) / golden["word bits"] == golden["metadata words"]
