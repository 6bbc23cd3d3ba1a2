"""Convolutions, products, poolings and normalizations as ONNX nodes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tersor.error import UserError
from tersor.export.writer import Writer
from tersor.ir.graph import Expr, operator, shape_of

Form = Callable[[Writer, Expr], str]
PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
RESIZE_METHODS = {"nearest_neighbor": "nearest", "linear": "linear", "cubic": "cubic"}
ROUNDINGS = {
    "": "floor",
    "round": "round_prefer_ceil",
    "floor": "floor",
    "ceil": "ceil",
    "round_prefer_floor": "round_prefer_floor",
    "round_prefer_ceil": "round_prefer_ceil",
}


def convolution(writer: Writer, call: Expr, bias: str = "") -> str:
    """Write a convolution, with the bias [K] that follows it if there is one."""
    attributes = call.attrs
    _need_channels_first(call, str(attributes.data_layout))
    more: dict[str, Any] = {}
    if operator(call).endswith("_transpose"):
        more["output_padding"] = _ints(attributes.output_padding)
    return writer.node(
        "ConvTranspose" if more else "Conv",
        *(writer.read(argument) for argument in call.args),
        *([bias] if bias else []),
        kernel_shape=list(shape_of(call.args[1])[2:]),
        strides=_ints(attributes.strides),
        pads=_ints(attributes.padding),
        dilations=_ints(attributes.dilation),
        group=int(attributes.groups),
        **more,
    )


def product(writer: Writer, call: Expr, bias: str = "") -> str:
    """Write a matrix product; of two dimensions, with its bias [K] as one node."""
    operands = [writer.read(argument) for argument in call.args]
    if bias and len(shape_of(call.args[0])) == 2:
        return writer.node("Gemm", *operands, bias)
    result = writer.node("MatMul", *operands)
    return writer.node("Add", result, bias) if bias else result


def _pool(kind: str) -> Form:
    def write(writer: Writer, call: Expr) -> str:
        attributes = call.attrs
        _need_channels_first(call, str(attributes.layout))
        more: dict[str, Any] = {}
        if kind == "AveragePool":
            more["count_include_pad"] = int(attributes.count_include_pad)
            if any(step != 1 for step in _ints(attributes.dilation)):
                raise UserError("an average pooling with dilation has no ONNX form in opset 17")
        else:
            more["dilations"] = _ints(attributes.dilation)
        return writer.node(
            kind,
            writer.read(call.args[0]),
            kernel_shape=_ints(attributes.pool_size),
            strides=_ints(attributes.strides),
            pads=_ints(attributes.padding),
            ceil_mode=int(attributes.ceil_mode),
            **more,
        )

    return write


def _adaptive_average(writer: Writer, call: Expr) -> str:
    attributes = call.attrs
    _need_channels_first(call, str(attributes.layout))
    if any(size != 1 for size in _ints(attributes.output_size)):
        raise UserError("an adaptive pooling to more than one value has no ONNX form")
    return writer.node("GlobalAveragePool", writer.read(call.args[0]))


def _pad(writer: Writer, call: Expr) -> str:
    widths, mode = _ints(call.attrs.pad_width), str(call.attrs.pad_mode)
    if mode not in PAD_MODES:
        raise UserError(f"a pad of the mode {mode} has no ONNX form in opset 17")
    value = np.asarray(call.attrs.pad_value, str(call.ty.dtype))
    pads = writer.ints([*widths[0::2], *widths[1::2]], "pads")
    return writer.node("Pad", writer.read(call.args[0]), pads, writer.constant(value), mode=PAD_MODES[mode])


def _resize(writer: Writer, call: Expr) -> str:
    attributes = call.attrs
    _need_channels_first(call, str(attributes.layout))
    return writer.node(
        "Resize",
        writer.read(call.args[0]),
        "",
        "",
        writer.ints(shape_of(call), "sizes"),
        mode=RESIZE_METHODS[str(attributes.method)],
        coordinate_transformation_mode=str(attributes.coordinate_transformation_mode),
        nearest_mode=ROUNDINGS[str(attributes.rounding_method)],
        cubic_coeff_a=float(attributes.cubic_alpha),
        exclude_outside=int(attributes.cubic_exclude),
    )


def _layer_norm(writer: Writer, call: Expr) -> str:
    attributes, rank = call.attrs, len(shape_of(call))
    axes = sorted(axis % rank for axis in _ints(attributes.axes))
    if axes != list(range(axes[0], rank)):
        raise UserError("a layer norm over axes that are not the last ones has no ONNX form")
    x, *parameters = (writer.read(argument) for argument in call.args)
    return writer.node("LayerNormalization", x, *parameters, axis=axes[0], epsilon=float(attributes.epsilon))


def _instance_norm(writer: Writer, call: Expr) -> str:
    attributes, rank = call.attrs, len(shape_of(call))
    if int(attributes.channel_axis) != 1 or _ints(attributes.axes) != list(range(2, rank)):
        raise UserError("an instance norm over other axes than the spatial ones has no ONNX form")
    arguments = (writer.read(argument) for argument in call.args)
    return writer.node("InstanceNormalization", *arguments, epsilon=float(attributes.epsilon))


def _softmax(kind: str) -> Form:
    return lambda writer, call: writer.node(kind, writer.read(call.args[0]), axis=int(call.attrs.axis))


def _need_channels_first(call: Expr, layout: str) -> None:
    if not layout.startswith("NC") or not layout[2:].isalpha():
        raise UserError(f"the operator {operator(call)} in the layout {layout} has no ONNX form")


def _ints(values: Sequence[Any]) -> list[int]:
    return [int(value) for value in values]


FORMS: dict[str, Form] = {
    **{f"nn.conv{n}d": convolution for n in (1, 2, 3)},
    **{f"nn.conv{n}d_transpose": convolution for n in (1, 2, 3)},
    **{f"nn.max_pool{n}d": _pool("MaxPool") for n in (1, 2, 3)},
    **{f"nn.avg_pool{n}d": _pool("AveragePool") for n in (1, 2, 3)},
    **{f"nn.adaptive_avg_pool{n}d": _adaptive_average for n in (1, 2, 3)},
    "matmul": product,
    "nn.pad": _pad,
    "image.resize2d": _resize,
    "nn.layer_norm": _layer_norm,
    "nn.instance_norm": _instance_norm,
    "nn.softmax": _softmax("Softmax"),
    "nn.log_softmax": _softmax("LogSoftmax"),
}
