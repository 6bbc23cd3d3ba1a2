"""The autoscheduler's figures: what it chooses by, and what it finds.

    python benchmarks/search.py [--tables enumerable,joint] [--networks resnet20,minilm-l3] [--cifar DIR]
        [--imagenet DIR] [--journal DIR] [--json FILE]

cost-model: how near predicted times of layers are to measured ones, by kernel family, after other shapes were
measured. The layers are those of ResNet-18, EfficientNet-Lite0, MiniLM-L3 at two lengths and, from a folder
of CIFAR-10 with its resnet20.onnx, resnet20. Measurements are kept in the journal, and those that are there
are not made again.
enumerable: small spaces, of which every policy is tried.
joint: compression and mappings chosen together, one after the other, uniformly, and mappings alone.
transfer: policies for one machine run on others.
strategies: the exact strategy beside random and evolutionary search.
time: how long a whole search takes. cpu: the plan for this CPU beside uniform int8.

What is searched: resnet20 with --cifar, EfficientNet-Lite0 with --imagenet, and MiniLM-L3. Losses, trials and
mappings are kept in the journal, so a run goes on where another one ended.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import onnx
from cost_model import cost_model
from enumerable import enumerable
from joint import joint
from models import NETWORKS
from rows import Row, print_rows, write_rows
from searching import Searching
from strategies import strategies
from subjects import Sizes, Subject, efficientnet_lite0, minilm_l3, resnet20
from transfer import transfer
from whole_search import cpu, time

from tersor.error import UserError
from tersor.scheduler.contract import Contract
from tersor.targets.cpu.host.detect import detect

# Samples by network: what one takes differs ten times.
SIZES = {
    "resnet20": Sizes(calibration=256, losses=64, tried=5000, judged=5000),
    "minilm-l3": Sizes(calibration=64, losses=16, tried=1024, judged=1024),
    "efficientnet-lite0": Sizes(calibration=64, losses=8, tried=468, judged=468),
}
TRIED = 2000  # samples, at most, of a search whose time is taken
EFFORT = 4000  # mappings of a shape under a scheme
DROP = 0.5  # points
HELD_OUT = ("resnet18", "efficientnet-lite0", "minilm-l3-s32", "minilm-l3-s128")


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    asked = arguments.tables.split(",")
    if unknown := set(asked) - set(TABLES):
        raise UserError(f"unknown table {min(unknown)!r}: the tables are {', '.join(TABLES)}")
    with tempfile.TemporaryDirectory() as folder:
        arguments.journal = arguments.journal or Path(folder)
        rows: list[Row] = []
        for name in asked:
            found = TABLES[name](arguments)
            print_rows(f"the autoscheduler: {name}", found)
            rows += found
    if arguments.json is not None:
        write_rows(arguments.json, rows)


def _cost_model(arguments: argparse.Namespace) -> list[Row]:
    networks = {name: NETWORKS[name].build() for name in HELD_OUT}
    if arguments.cifar is not None:
        networks["resnet20"] = onnx.load(arguments.cifar / "resnet20.onnx")
    return cost_model(networks, detect(cores=1), arguments.journal)


def _joint(arguments: argparse.Namespace) -> list[Row]:
    return joint(_searchings(arguments), arguments.machines.split(","), Contract("edp", max_drop=DROP))


def _transfer(arguments: argparse.Namespace) -> list[Row]:
    machines = ("edge", "bit_fusion", "eyeriss")
    contract = Contract("edp", max_drop=DROP)
    return [row for each in _searchings(arguments) for row in transfer(each, machines, contract)]


def _strategies(arguments: argparse.Namespace) -> list[Row]:
    contract = Contract("edp", max_drop=DROP)
    return [row for each in _searchings(arguments) for row in strategies(each, "edge", contract)]


def _time(arguments: argparse.Namespace) -> list[Row]:
    contract = Contract("edp", max_drop=DROP)
    return [row for each in _subjects(arguments) for row in time(each.shortened(TRIED), "edge", contract)]


def _cpu(arguments: argparse.Namespace) -> list[Row]:
    contract = Contract("latency", max_drop=DROP)
    return [row for each in _subjects(arguments) for row in cpu(each, contract)]


def _searchings(arguments: argparse.Namespace) -> list[Searching]:
    return [_searching(each, arguments) for each in _networks(arguments)]


def _subjects(arguments: argparse.Namespace) -> list[Subject]:
    return [_subject(name, arguments.cifar, arguments.imagenet) for name in _networks(arguments)]


def _networks(arguments: argparse.Namespace) -> list[str]:
    """Those that are asked for and have samples."""
    asked = arguments.networks.split(",")
    if unknown := set(asked) - set(SIZES):
        raise UserError(f"unknown network {min(unknown)!r}: the networks are {', '.join(SIZES)}")
    return [name for name in asked if _has_samples(name, arguments)]


def _has_samples(name: str, arguments: argparse.Namespace) -> bool:
    folders = {"resnet20": arguments.cifar, "efficientnet-lite0": arguments.imagenet}
    return folders.get(name, True) is not None


def _searching(name: str, arguments: argparse.Namespace) -> Searching:
    """The one of a network, for all tables."""
    if name not in _KNOWN:
        subject = _subject(name, arguments.cifar, arguments.imagenet)
        _KNOWN[name] = Searching(subject, arguments.journal, arguments.effort)
    return _KNOWN[name]


_KNOWN: dict[str, Searching] = {}


@cache
def _subject(name: str, cifar: Path, imagenet: Path) -> Subject:
    match name:
        case "resnet20":
            return resnet20(cifar, SIZES[name])
        case "efficientnet-lite0":
            return efficientnet_lite0(imagenet, SIZES[name])
        case _:
            return minilm_l3(SIZES[name])


TABLES: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "cost-model": _cost_model,
    "enumerable": lambda arguments: enumerable(),
    "joint": _joint,
    "transfer": _transfer,
    "strategies": _strategies,
    "time": _time,
    "cpu": _cpu,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tables", default=",".join(TABLES), help="comma-separated")
    parser.add_argument("--cifar", type=Path, metavar="DIR")
    parser.add_argument("--imagenet", type=Path, metavar="DIR")
    parser.add_argument("--networks", default=",".join(SIZES), help="comma-separated")
    parser.add_argument("--machines", default="edge,bit_fusion", help="of the table joint, comma-separated")
    parser.add_argument("--effort", type=int, default=EFFORT, help="mappings of a shape under a scheme")
    parser.add_argument("--journal", type=Path, metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
