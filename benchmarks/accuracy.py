"""EfficientNet-Lite0 on ImageNet photographs: our int8 beside onnxruntime's and NNCF's.

    python benchmarks/accuracy.py --imagenet DIR [--calibration-samples 128] [--json FILE]

DIR holds .jpg files and labels.csv with the columns file and class. The first images calibrate every tool,
all others are evaluated.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from models import efficientnet
from numpy.typing import NDArray
from peers import nncf_int8, onnxruntime_int8, session
from rows import Row, print_rows, write_rows

import tersor
from tersor.data import Samples, load_samples
from tersor.measure import Power
from tersor.preprocessing import Preprocessing
from tutorials.efficientnet_lite0 import IMAGES

MODEL = "efficientnet-lite0"
DROP = 1.0  # points of top-1 that int8 may lose
AGREEMENT = 93.0  # % of the images on which int8 sees what fp32 sees


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    source = efficientnet()
    model = tersor.load_model(source)
    preprocessing = IMAGES if not arguments.cropped else Preprocessing(mean=IMAGES.mean, std=IMAGES.std)
    count = arguments.calibration_samples
    calibration = load_samples(arguments.imagenet, model.inputs, preprocessing, limit=count)
    evaluation = load_samples(
        arguments.imagenet, model.inputs, preprocessing, labels=arguments.imagenet / "labels.csv", skip=count
    )
    _say("tersor")
    compiled = tersor.compile(
        model, calibration, "int8", calibration_samples=count, evaluation=calibration, measure=False
    )
    reference = _logits(model.float_runner, evaluation)
    rows = _figures("tersor-fp32", reference, reference, evaluation)
    rows += _figures("tersor-int8", _logits(compiled, evaluation), reference, evaluation)
    peers: dict[str, Callable[[], Any]] = {
        "ort-int8": lambda: onnxruntime_int8(source, calibration),
        "nncf-int8": lambda: nncf_int8(source, calibration, count),
    }
    for backend, quantize in peers.items():
        _say(backend)
        try:
            opened = session(quantize(), 1, as_written=True)
        except tersor.UserError as error:
            rows.append(Row("accuracy", MODEL, MODEL, backend, "top1_%", None, note=f"{backend}: {error}"))
            continue
        rows += _figures(
            backend, _logits(lambda x, s=opened: s.run(None, x), evaluation), reference, evaluation
        )
    print_rows(
        f"{MODEL}: calibrated on {calibration.count} images, {evaluation.count} evaluated", _goals(rows)
    )
    if arguments.json:
        write_rows(arguments.json, _goals(rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--imagenet", type=Path, required=True)
    parser.add_argument("--calibration-samples", type=int, default=128)
    parser.add_argument("--cropped", action="store_true", help="the images are cropped to 224x224 already")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _say(step: str) -> None:
    print(f"{step} ...", file=sys.stderr)


def _logits(
    run: Callable[[Mapping[str, Any]], Any], samples: Iterable[Mapping[str, Any]]
) -> NDArray[np.float32]:
    """Give the outputs for all samples, [samples, classes]."""
    return np.concatenate([run(sample)[0] for sample in samples])


def _figures(
    backend: str, logits: NDArray[np.float32], reference: NDArray[np.float32], samples: Samples
) -> list[Row]:
    classes, expected = logits.argmax(axis=1), reference.argmax(axis=1)
    power = Power()
    power.add(reference, logits)
    figures = {
        "top1_%": 100 * float((classes == samples.labels).mean()),
        "agreement_%": 100 * float((classes == expected).mean()),
        "snr_db": power.snr,
    }
    return [Row("accuracy", MODEL, MODEL, backend, metric, value) for metric, value in figures.items()]


def _goals(rows: list[Row]) -> list[Row]:
    """Add what our int8 must reach."""
    found = {(row.backend, row.metric): row.value for row in rows}
    ours = next(row for row in rows if row.backend == "tersor-int8")
    before, after = found["tersor-fp32", "top1_%"], found["tersor-int8", "top1_%"]
    assert before is not None
    assert after is not None
    lost = replace(ours, metric="top1_points_lost", value=before - after, goal=DROP, direction="<=")
    agreement = found["tersor-int8", "agreement_%"]
    same = replace(ours, metric="agreement", value=agreement, goal=AGREEMENT, direction=">=")
    return [*rows, lost, same]


if __name__ == "__main__":
    try:
        main()
    except tersor.UserError as error:
        sys.exit(f"error: {error}")
