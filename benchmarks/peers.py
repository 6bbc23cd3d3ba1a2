"""Other tools' int8 models of the same network, calibrated on the same samples."""

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import onnx

from tersor.error import UserError

Samples = Iterable[Mapping[str, Any]]


def onnxruntime_int8(model: onnx.ModelProto, samples: Samples, activation: str = "QUInt8") -> onnx.ModelProto:
    """Quantize with onnxruntime: static QDQ, activations by min and max, int8 weights per channel.

    Raises UserError if onnxruntime is not installed.
    """
    try:
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise UserError("onnxruntime is not installed: pip install '.[bench]'") from error

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.samples: Iterator[Mapping[str, Any]] = iter(samples)

        def get_next(self) -> Any:
            return next(self.samples, None)

    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        prepared, result = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(deepcopy(model), prepared, skip_symbolic_shape=True)  # it moves the weights out
        quantization.quantize_static(
            prepared,
            result,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType[activation],
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )
        return onnx.load(result)


def onnxruntime_dynamic(model: onnx.ModelProto) -> onnx.ModelProto:
    """Quantize with onnxruntime as it advises for transformers: ranges are found while it runs."""
    from onnxruntime import quantization

    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "source.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        quantization.quantize_dynamic(
            source, result, per_channel=True, weight_type=quantization.QuantType.QInt8
        )
        return onnx.load(result)


def openvino_int8(model: Path, samples: Samples, count: int, transformer: bool) -> Any:
    """Quantize an ONNX file with NNCF as an OpenVINO model, on `count` samples, for OpenVINO to run.

    Raises UserError if one of both is not installed.
    """
    try:
        import nncf
        import openvino
    except ImportError as error:
        raise UserError("openvino or nncf is not installed: pip install '.[bench]'") from error
    kind = nncf.ModelType.TRANSFORMER if transformer else None
    read = openvino.Core().read_model(model)
    return nncf.quantize(read, nncf.Dataset(samples), subset_size=count, model_type=kind)


def nncf_int8(model: onnx.ModelProto, samples: Samples, count: int) -> onnx.ModelProto:
    """Quantize with NNCF as it comes, on `count` samples. Raises UserError if it is not installed."""
    try:
        import nncf
    except ImportError as error:
        raise UserError("nncf is not installed: pip install '.[bench]'") from error
    return nncf.quantize(model, nncf.Dataset(samples), subset_size=count)


def session(model: onnx.ModelProto, threads: int, as_written: bool = False) -> Any:
    """Open a model in onnxruntime. `as_written` computes a QDQ model in float, node by node.

    Its fused u8s8 kernels saturate sums of two products on CPUs without VNNI, which is no property of the
    quantized model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
