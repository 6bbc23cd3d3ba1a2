"""The autoscheduler's figures: what it chooses by, and what it finds.

    python benchmarks/search.py [--tables cost-model] [--cifar DIR] [--journal DIR] [--json FILE]

cost-model: how near predicted times of layers are to measured ones, by kernel family, after other shapes were
measured. The layers are those of ResNet-18, EfficientNet-Lite0, MiniLM-L3 at two lengths and, from a folder
of CIFAR-10 with its resnet20.onnx, resnet20. Measurements are kept in the journal, and those that are there
are not made again.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx
from cost_model import cost_model
from models import NETWORKS
from rows import Row, print_rows, write_rows

from tersor.targets.cpu.host.detect import detect

HELD_OUT = ("resnet18", "efficientnet-lite0", "minilm-l3-s32", "minilm-l3-s128")


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    rows = [row for name in arguments.tables.split(",") for row in TABLES[name](arguments)]
    print_rows("the autoscheduler", rows)
    if arguments.json is not None:
        write_rows(arguments.json, rows)


def _cost_model(arguments: argparse.Namespace) -> list[Row]:
    networks = {name: NETWORKS[name].build() for name in HELD_OUT}
    if arguments.cifar is not None:
        networks["resnet20"] = onnx.load(arguments.cifar / "resnet20.onnx")
    with tempfile.TemporaryDirectory() as folder:
        return cost_model(networks, detect(cores=1), arguments.journal or Path(folder))


TABLES: dict[str, Callable[[argparse.Namespace], list[Row]]] = {"cost-model": _cost_model}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tables", default=",".join(TABLES), help="comma-separated")
    parser.add_argument("--cifar", type=Path, metavar="DIR")
    parser.add_argument("--journal", type=Path, metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
