"""Quantized models of other tools run by us, and ours run by other tools: do they see the same classes?

    python benchmarks/qdq.py --imagenet DIR [--models resnet18] [--samples 100] [--calibration-samples 32]
        [--json FILE]

DIR holds .jpg files: the first calibrate every tool, the next are evaluated. In: ResNet-18 (seeded weights)
and EfficientNet-Lite0 quantized by onnxruntime (u8s8 and s8s8) and by NNCF are imported, run in integers, and
compared with onnxruntime, which runs the file as written. Out: our own int8 is exported and opened in
onnxruntime and OpenVINO, as written (onnxruntime without optimization, OpenVINO without low precision) and in
their own integer kernels, whose sums saturate on CPUs without VNNI.

Logits on a grid of 8 bits tie: two outputs see the same class if the best of one is among the best of the
other.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from models import NETWORKS
from numpy.typing import NDArray
from peers import nncf_int8, onnxruntime_int8, session
from rows import Row, print_rows, write_rows

import tersor
from tersor.compression import compress, round_layers
from tersor.data import Samples, load_samples
from tersor.export import export_onnx
from tersor.measure import Power
from tersor.passes.calibrate import calibrate
from tersor.planning import plan_for
from tests.quantized_models import floats_between
from tutorials.efficientnet_lite0 import IMAGES

MODELS = ("resnet18", "efficientnet-lite0")
AGREEMENT = 98.0  # % of the samples
Logits = NDArray[np.float32]
Run = Callable[[Mapping[str, Any]], Any]


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    rows: list[Row] = []
    for name in arguments.models:
        source = NETWORKS[name].build()
        inputs = tersor.load_model(source, check=False).buckets
        count = arguments.calibration_samples
        calibration = load_samples(arguments.imagenet, inputs, IMAGES, limit=count)
        samples = load_samples(arguments.imagenet, inputs, IMAGES, skip=count, limit=arguments.samples)
        rows += _imported(name, source, calibration, samples)
        rows += _exported(name, source, calibration, samples)
    print_rows(f"calibrated on {count} images, {arguments.samples} compared", rows)
    if arguments.json:
        write_rows(arguments.json, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--imagenet", type=Path, required=True)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--calibration-samples", type=int, default=32)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _imported(name: str, source: onnx.ModelProto, calibration: Samples, samples: Samples) -> list[Row]:
    """Compare what we make of other tools' models with onnxruntime, node by node as they wrote them."""
    tools: dict[str, Callable[[], onnx.ModelProto]] = {
        "ort-u8s8": lambda: onnxruntime_int8(source, calibration),
        "ort-s8s8": lambda: onnxruntime_int8(source, calibration, "QInt8"),
        "nncf": lambda: nncf_int8(source, calibration, calibration.count),
    }
    rows = []
    for tool, quantize in tools.items():
        _say(f"{name}: from {tool}")
        quantized = quantize()
        model = tersor.load_model(quantized, check=False)
        plan = plan_for("int8", model.mod, model.host, None)
        integer = compress(model.mod, plan, None)
        ours = _logits(model.runner(model.lowered(integer)), samples)
        opened = session(quantized, 2, as_written=True)
        theirs = _logits(lambda x, s=opened: s.run(None, dict(x)), samples)
        floats = sum(str(layer.scheme) != "int8" for layer in plan.layers.values())
        # Two runtimes that both compute the file as written, only in other orders: what rounding leaves open.
        third = _logits(_openvino(quantized, {"LP_TRANSFORMS_MODE": "OFF"}), samples)
        same = _same_class(third, theirs)
        rows.append(Row("qdq in", name, name, f"{tool} in openvino", "agreement_%", same))
        case = f"from {tool}"
        rows += _compared(
            name,
            case,
            ours,
            theirs,
        )
        rows.append(Row("qdq in", name, name, case, "float_layers", floats, 0, "<="))
        between = len(floats_between(integer))
        rows.append(Row("qdq in", name, name, case, "floats_between_layers", between, 0, "<="))
    return rows


def _exported(name: str, source: onnx.ModelProto, calibration: Samples, samples: Samples) -> list[Row]:
    """Compare our int8 with what other tools compute of its export."""
    _say(f"{name}: export")
    model = tersor.load_model(source, check=False)
    statistics = calibrate(model.observe(model.mod), calibration)
    plan = plan_for("int8", model.mod, model.host, statistics)
    ours = _logits(model.runner(model.lowered(compress(model.mod, plan, statistics))), samples)
    rounded, *_ = round_layers(model.mod, plan, statistics)
    exported = export_onnx(rounded, [spec.name for spec in model.outputs])
    written, optimized = (session(exported, 2, as_written) for as_written in (True, False))
    runtimes: dict[str, Run] = {
        "onnxruntime as written": lambda x: written.run(None, dict(x)),
        "onnxruntime int8": lambda x: optimized.run(None, dict(x)),
        "openvino as written": _openvino(exported, {"LP_TRANSFORMS_MODE": "OFF"}),
        "openvino int8": _openvino(exported, {}),
    }
    rows = []
    for runtime, run in runtimes.items():
        _say(f"{name}: in {runtime}")
        rows += _compared(name, f"to {runtime}", ours, _logits(run, samples))
    return rows


def _openvino(model: onnx.ModelProto, options: dict[str, str]) -> Run:
    """Open a model in OpenVINO. Raises UserError if it is not installed."""
    try:
        import openvino
    except ImportError as error:
        raise tersor.UserError("openvino is not installed: pip install '.[bench]'") from error
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(path), "CPU", options)
    return lambda x: [compiled(dict(x))[0]]


def _logits(run: Run, samples: Iterable[Mapping[str, Any]]) -> Logits:
    """Give the outputs for all samples, [samples, classes]."""
    return np.concatenate([np.asarray(run(sample)[0]) for sample in samples])


def _compared(name: str, case: str, ours: Logits, theirs: Logits) -> list[Row]:
    power = Power()
    power.add(theirs, ours)
    same = _same_class(ours, theirs)
    own = case.startswith("to ") and case.endswith("int8")  # other arithmetic than the file says
    goal = {} if own else {"goal": AGREEMENT, "direction": ">="}
    table = "qdq in" if case.startswith("from") else "qdq out"
    return [
        Row(table, name, name, case, "agreement_%", same),
        Row(table, name, name, case, "snr_db", power.snr),
        *([Row(table, name, name, case, "agreement", same, **goal)] if goal else []),
    ]


def _same_class(a: Logits, b: Logits) -> float:
    """Give the share of rows in %, [samples, classes], whose best class in one is a best one in the other."""
    best_a, best_b = a.argmax(axis=1)[:, None], b.argmax(axis=1)[:, None]
    in_b = np.take_along_axis(b, best_a, 1)[:, 0] == b.max(axis=1)
    in_a = np.take_along_axis(a, best_b, 1)[:, 0] == a.max(axis=1)
    return 100 * float((in_a | in_b).mean())


def _say(step: str) -> None:
    print(f"{step} ...", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except tersor.UserError as error:
        sys.exit(f"error: {error}")
