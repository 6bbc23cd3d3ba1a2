"""Our mapper beside ZigZag's: ResNet-18 on ZigZag's `tpu_like`, both tools' mappings in both models.

    python benchmarks/mappers.py [--layers NAME ...] [--stored] [--json FILE]

`tpu_like.toml` is the machine; ZigZag gets it from the same file. Each tool offers the mappings that no other
of its own beats in both time and energy by its own model. Each model then says how good the best of either
offer is for time, energy and their product. Ours searches twice, with ragged tiles and without. ZigZag
searches with its default settings, LOMA with at most six factors for each of the three best spatial mappings,
once with one dimension on an axis and once with several.

Its offers are in `tests/golden/zigzag.json`: `--store` searches anew and writes them there, `--stored` reads
them, as the search takes minutes.

What the two read differently:

- ZigZag holds an operand once where all of it fits a double buffered memory, we twice; of its mappings those
  count that fit by our reading.
- ZigZag moves one operand in a cycle through a port, however wide; ours shares the bits of a port.
- A factor that stays in place at the units is read once by ZigZag, and for each product by ours.
- ZigZag has no ragged tiles in time: where ours makes some, its layer is as large as the loops make it.
- A transfer that is made once ZigZag hides in the slack of a port during the whole computation; ours waits
  for the first tiles and the last sums. So ZigZag can be below the time that the outermost memory takes.
- ZigZag has no scales of weights, and takes complete sums from the units in 8 bits, ours in 16.
"""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from time import process_time
from typing import Any

from resnet18 import layers
from rows import Row, print_rows, write_rows
from zigzag_mapping import ZigZagMapping, from_zigzag, to_zigzag
from zigzag_port import Score, ZigZag

from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.loop_tree import parse_tree, write_tree
from tersor.mapping import Mapping
from tersor.scheme import INT8
from tersor.targets.accelerator.legality import why_not
from tersor.targets.accelerator.mapper.mapper import Mapper, Task
from tersor.targets.accelerator.model import evaluate, scheduled
from tersor.targets.accelerator.nest import Nest

MACHINE = Path(__file__).parent / "tpu_like.toml"
GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "zigzag.json"
SOURCE = "zigzag-dse 3.9.1, LOMA with its default settings, on benchmarks/tpu_like.toml; [V] run"


@dataclass(frozen=True)
class Figures:
    """Cycles and pJ that a model says of a mapping."""

    cycles: float
    energy: float

    @property
    def edp(self) -> float:
        """Their product."""
        return self.cycles * self.energy


GOALS: dict[str, Callable[[Figures], float]] = {
    "latency": lambda each: each.cycles,
    "energy": lambda each: each.energy,
    "EDP": lambda each: each.edp,
}


@dataclass(frozen=True)
class Offer:
    """A mapping with what our model and ZigZag's say of it."""

    mapping: Mapping
    ours: Figures
    theirs: Figures


@dataclass(frozen=True)
class Offers:
    """What a tool offers for a layer, and how many seconds of process time it took."""

    offers: tuple[Offer, ...]
    seconds: float

    def best(self, goal: str, model: str) -> float:
        """The least by one of `GOALS` in the model `ours` or `theirs`."""
        return min(GOALS[goal](getattr(each, model)) for each in self.offers)


def ours(layer: Layer, mappers: Sequence[Mapper], zigzag: ZigZag) -> Offers:
    """The fronts of our mappers, by what mappings are ranked by."""
    start = process_time()
    found = [mapping for mapper in mappers for mapping, _, _ in mapper.rank(Task(layer))]
    seconds = process_time() - start
    scores = [zigzag.score(layer, to_zigzag(each, layer, zigzag.hardware)) for each in found]
    return Offers(
        tuple(
            Offer(each, _in_ours(layer, each, zigzag.hardware), Figures(score.cycles, score.energy))
            for each, score in zip(found, scores, strict=True)
        ),
        seconds,
    )


def theirs(layer: Layer, zigzag: ZigZag) -> Offers:
    """The front of ZigZag's mappings that fit the machine by our reading, too."""
    start = process_time()
    found = [each for mixed in (False, True) for each in zigzag.search(layer, mixed)]
    seconds = process_time() - start
    return Offers(tuple(_front(layer, found, zigzag.hardware)), seconds)


def stored(layer: Layer, hardware: Hardware) -> Offers:
    """What `tests/golden` has of ZigZag's offers."""
    row = json.loads(GOLDEN.read_text())["layers"][layer.name]
    return Offers(
        tuple(
            Offer(mapping, _in_ours(layer, mapping, hardware), Figures(each["cycles"], each["energy"]))
            for each in row["mappings"]
            for mapping in [parse_tree(each["tree"])]
        ),
        row["seconds"],
    )


def store(found: dict[str, Offers], hardware: Hardware) -> None:
    """Write ZigZag's offers with its own figures."""
    rows: dict[str, Any] = {
        name: {
            "seconds": round(each.seconds, 1),
            "mappings": [
                {
                    "cycles": offer.theirs.cycles,
                    "energy": offer.theirs.energy,
                    "tree": write_tree(offer.mapping, hardware),
                }
                for offer in each.offers
            ],
        }
        for name, each in found.items()
    }
    GOLDEN.write_text(json.dumps({"source": SOURCE, "layers": rows}, indent=1) + "\n")


def _front(layer: Layer, found: Iterable[tuple[Score, ZigZagMapping]], hardware: Hardware) -> Iterable[Offer]:
    """What no other one beats in both of ZigZag's figures, the fastest first."""
    least = float("inf")
    for score, each in sorted(found, key=lambda pair: (pair[0].cycles, pair[0].energy)):
        if score.energy >= least:
            continue
        try:
            mapping = from_zigzag(each, hardware)
        except ValueError:  # no loop nest of ours: not among ours to choose from, either
            continue
        if why_not(layer, INT8, mapping, hardware) is None:
            least = score.energy
            yield Offer(mapping, _in_ours(layer, mapping, hardware), Figures(score.cycles, score.energy))


def _in_ours(layer: Layer, mapping: Mapping, hardware: Hardware) -> Figures:
    nest, sizes = Nest.of(mapping, layer, hardware)
    return Figures(scheduled(nest, sizes, INT8).cycles, float(evaluate(nest, sizes, INT8).energy[0]))


def rows_of(found: dict[str, tuple[Offers, Offers]]) -> list[Row]:
    """How many times better ours are than ZigZag's, by layer, goal and model."""
    rows: list[Row] = []
    every: dict[tuple[str, str], list[float]] = {}
    for name, (mine, other) in found.items():
        for goal in GOALS:
            for model, where in (("ours", "in ours"), ("theirs", "in ZigZag's")):
                ratio = other.best(goal, model) / mine.best(goal, model)
                every.setdefault((goal, where), []).append(ratio)
                rows.append(Row("mappers", goal, name, goal, where, round(ratio, 4)))
        for tool, each in (("ours", mine), ("ZigZag", other)):
            rows.append(Row("mappers", "search", name, tool, "s", round(each.seconds, 1)))
    for (goal, where), ratios in every.items():
        rows.append(Row("mappers", goal, "geomean", goal, where, round(geometric_mean(ratios), 4)))
    for where, least in (("in ours", 1.1), ("in ZigZag's", 1.0)):
        ratios = [ratio for (_, at), each in every.items() if at == where for ratio in each]
        mean = round(geometric_mean(ratios), 4)
        rows.append(Row("mappers", "all goals", "geomean", "all goals", where, mean, least, ">="))
    worst = min(ratio for (_, where), each in every.items() if where == "in ours" for ratio in each)
    rows.append(Row("mappers", "all goals", "worst", "all goals", "in ours", round(worst, 4), 1.0, ">="))
    return rows


def main() -> None:
    """Print how many times better ours are."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", nargs="+", help="only these, by name")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--stored", action="store_true", help="ZigZag's offers from tests/golden")
    where.add_argument("--store", action="store_true", help="write ZigZag's offers to tests/golden")
    parser.add_argument("--json", type=Path, help="write the rows here, too")
    arguments = parser.parse_args()
    hardware = Hardware.load(MACHINE)
    zigzag = ZigZag(hardware)
    mappers = [Mapper(hardware), Mapper(hardware, ragged=False)]
    found: dict[str, tuple[Offers, Offers]] = {}
    for layer in layers():
        if arguments.layers is None or layer.name in arguments.layers:
            other = stored(layer, hardware) if arguments.stored else theirs(layer, zigzag)
            found[layer.name] = (ours(layer, mappers, zigzag), other)
    if arguments.store:
        store({name: other for name, (_, other) in found.items()}, hardware)
    rows = rows_of(found)
    print_rows("how many times better than ZigZag's our mappings are", rows)
    if arguments.json:
        write_rows(arguments.json, rows)


if __name__ == "__main__":
    main()
