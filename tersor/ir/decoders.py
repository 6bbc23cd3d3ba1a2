"""Decoders: the steps of `tersor.formats.decoding` as PrimFuncs, which give the same bits.

Each is a nest of plain loops over the rows of a weight's canonical matrix, in parallel where there are many,
with constant shifts and contiguous reads, so that LLVM makes vectors of the dense ones. They carry the marker
of `tersor.ir.operators`, by which `read_decoder` reads a step back.
"""

import json
from collections.abc import Callable, Sequence
from math import gcd
from typing import Any, assert_never

from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tersor.formats.decoding import (
    Arrange,
    Exponents,
    LookUp,
    Minifloat,
    PlaceBitmap,
    PlaceBlocks,
    PlaceNM,
    PlaceRelative,
    Powers,
    ScaleGroups,
    Signs,
    Step,
    Unpack,
    parse_step,
    step_document,
)
from tersor.formats.encoded import Encoded
from tersor.ir.graph import Builder, Expr, Module, shape_of
from tersor.ir.operators import ATTRIBUTE, Shape, read_marker

Type = tuple[Shape, str]
# Numbers of a matrix below which its rows are not shared among the cores.
SHARED = 1 << 14
# A step without rows of its own, such as the only row of sparse entries, is cut into as many numbers.
CUT = 1 << 12


def decoder(step: Step, arguments: Sequence[Type], result: Type) -> Any:
    """Build the PrimFunc of a step for arguments of given shapes and dtypes."""
    with IRBuilder() as builder, T.prim_func(s_tir=True, private=True):
        T.func_name(step.name)
        # Scheduled as it is, and opaque (8) to the fusion of operators.
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "op_pattern": 8})
        buffers = [T.arg(f"a{i}", T.Buffer(shape, dtype)) for i, (shape, dtype) in enumerate(arguments)]
        out = T.arg("out", T.Buffer(*result))
        # Relax asks of a function with one input whether it is a reshape, and insists on a block.
        with T.sblock("root"):
            _emit(step, buffers, out)
    marker = json.dumps(step_document(step), sort_keys=True)
    function: Any = builder.get()
    return function.with_attr(ATTRIBUTE, marker)


def emit_decoders(builder: Builder, layer: str, encoded: Encoded) -> Expr:
    """Emit the steps from the stored arrays of a layer to its weight, and give it.

    The arrays become the weights `<layer>.values` and so on; numpy's results say what shapes the steps have.
    """
    known = dict(encoded.arrays)
    emitted = {name: builder.weight(f"{layer}.{name}", array) for name, array in known.items()}
    last = "values"
    for decode in encoded.steps:
        made = decode.step.run(*(known[name] for name in decode.reads))
        arguments = [emitted[name] for name in decode.reads]
        types = [(shape_of(each), str(each.ty.dtype)) for each in arguments]
        function = decoder(decode.step, types, (made.shape, str(made.dtype)))
        last = decode.result
        known[last] = made
        emitted[last] = builder.call(function, decode.step.name, arguments, made.shape, str(made.dtype))
    return emitted[last]


def read_decoder(mod: Module, expr: Expr) -> Step | None:
    """Give the decoding step that a `call_tir` calls, or None."""
    return parse_step(read_marker(mod, expr))


def _emit(step: Step, given: list[Expr], out: Expr) -> None:
    match step:
        case Unpack():
            _unpack(step, given[0], out)
        case Signs():
            _each(out, lambda *i: T.cast(T.cast(given[0][i], "int8") * T.int8(2) - T.int8(1), "int8"))
        case Powers():
            _each(out, lambda *i: _power(given[0][i]))
        case LookUp():
            _each(out, lambda *i: given[1][T.cast(given[0][i], "int32")])
        case Minifloat():
            _each(out, lambda *i: _float(step, given[0][i]))
        case Exponents():
            _each(out, lambda *i: _reinterpret(_wide(given[0][i]) + _u32(127 - step.bias) << _u32(23)))
        case ScaleGroups():
            _scale_groups(step, given[0], given[1], out)
        case PlaceNM():
            _place_nm(step, given[0], given[1], out)
        case PlaceBitmap():
            _place_bitmap(given[0], given[1], given[2], out)
        case PlaceRelative():
            _place_relative(step, given[0], given[1], given[2], out)
        case PlaceBlocks():
            _place_blocks(step, given[0], given[1], given[2], out)
        case Arrange():
            _arrange(step, given[0], out)
        case _:
            assert_never(step)


def _unpack(step: Unpack, packed: Expr, out: Expr) -> None:
    """Unpack the codes that end with a byte together, each by constant shifts, and then those left over."""
    period = 8 // gcd(8, step.bits)
    stride = period * step.bits // 8
    whole, rest = divmod(step.count, period)
    dtype = str(out.dtype)

    def code(row: Expr, block: Expr, i: int) -> Expr:
        first, shift = divmod(i * step.bits, 8)
        pattern = T.cast(packed[row, block * stride + first], "uint8") >> T.uint8(shift)
        if shift + step.bits > 8:
            pattern = pattern | packed[row, block * stride + first + 1] << T.uint8(8 - shift)
        if not step.signed:
            return pattern & T.uint8((1 << step.bits) - 1)
        # The sign bit goes to the top; an arithmetic shift brings it back with copies of it.
        top = T.uint8(8 - step.bits)
        return T.reinterpret(dtype, pattern << top) >> T.int8(8 - step.bits)

    def some(row: Expr, block: Expr) -> None:
        for i in range(period):
            T.buffer_store(out, code(row, block, i), [row, block * period + i])

    rows = int(out.shape[0])
    if rows == 1 and whole > CUT:
        tasks, last = divmod(whole, CUT)
        with T.parallel(0, tasks) as task, T.serial(0, CUT) as block:
            some(T.int32(0), task * CUT + block)
        with T.serial(0, last) as block:
            some(T.int32(0), block + tasks * CUT)
    elif whole:
        with _rows(out)(0, rows) as row, T.serial(0, whole) as block:
            some(row, block)
    if rest:
        with T.serial(0, rows) as row:
            for i in range(rest):
                T.buffer_store(out, code(row, T.int32(whole), i), [row, whole * period + i])


def _power(code: Expr) -> Expr:
    wide = T.cast(code, "int32")
    magnitude = (T.int32(1) << T.max(wide, -wide)) >> T.int32(1)
    return T.cast(T.Select(wide < T.int32(0), -magnitude, magnitude), "int8")


def _float(step: Minifloat, pattern: Expr) -> Expr:
    width = step.exponent + step.mantissa
    wide = _wide(pattern)
    magnitude = (wide & _u32((1 << width) - 1)) << _u32(23 - step.mantissa)
    scaled = _reinterpret(magnitude) * T.float32(step.factor)
    sign = (wide >> _u32(width)) << _u32(31)
    return _reinterpret(T.reinterpret("uint32", scaled) | sign)


def _scale_groups(step: ScaleGroups, codes: Expr, scales: Expr, out: Expr) -> None:
    rows, columns = (int(extent) for extent in out.shape)
    dtype = str(out.dtype)
    whole, rest = divmod(columns, step.group)

    def group(row: Expr, index: Expr, length: int) -> None:
        with T.serial(0, length) as i:
            column = index * step.group + i
            T.buffer_store(out, T.cast(codes[row, column], dtype) * scales[row, index], [row, column])

    with _rows(out)(0, rows) as row:
        if whole:
            with T.serial(0, whole) as index:
                group(row, index, step.group)
        if rest:
            group(row, T.int32(whole), rest)


def _place_nm(step: PlaceNM, values: Expr, positions: Expr, out: Expr) -> None:
    rows, columns = (int(extent) for extent in out.shape)
    with _rows(out)(0, rows) as row, T.serial(0, columns // step.m) as group:
        for i in range(step.m):
            T.buffer_store(out, _zero(out), [row, group * step.m + i])
        for i in range(step.n):
            entry = group * step.n + i
            column = group * step.m + T.cast(positions[row, entry], "int32")
            T.buffer_store(out, values[row, entry], [row, column])


def _place_bitmap(values: Expr, mask: Expr, starts: Expr, out: Expr) -> None:
    rows, columns = (int(extent) for extent in out.shape)
    with _rows(out)(0, rows) as row:
        entry = T.alloc_buffer((1,), "int32", scope="local")
        T.buffer_store(entry, starts[row], [0])
        with T.serial(0, columns) as column:
            T.buffer_store(out, _zero(out), [row, column])
            with T.If(mask[row, column] != T.uint8(0)), T.Then():
                T.buffer_store(out, values[0, entry[0]], [row, column])
                T.buffer_store(entry, entry[0] + 1, [0])


def _place_relative(step: PlaceRelative, values: Expr, gaps: Expr, starts: Expr, out: Expr) -> None:
    rows = int(out.shape[0])
    with _rows(out)(0, rows) as row:
        column = T.alloc_buffer((1,), "int32", scope="local")
        T.buffer_store(column, T.int32(-1), [0])
        with T.serial(0, step.columns) as i:
            T.buffer_store(out, _zero(out), [row, i])
        first = T.bind(starts[row])
        with T.serial(0, starts[row + 1] - first) as i:
            T.buffer_store(column, column[0] + T.cast(gaps[0, first + i], "int32") + 1, [0])
            T.buffer_store(out, values[0, first + i], [row, column[0]])


def _place_blocks(step: PlaceBlocks, values: Expr, places: Expr, starts: Expr, out: Expr) -> None:
    rows, columns = (int(extent) for extent in out.shape)
    size = step.outputs * step.inputs
    with _rows(out)(0, rows // step.outputs) as band:
        with T.serial(0, step.outputs) as i, T.serial(0, columns) as column:
            T.buffer_store(out, _zero(out), [band * step.outputs + i, column])
        first = T.bind(starts[band])
        with T.serial(0, starts[band + 1] - first) as block:
            left = T.bind(T.cast(places[first + block], "int32") * step.inputs)
            with T.serial(0, step.outputs) as i, T.serial(0, step.inputs) as j:
                value = values[0, (first + block) * size + i * step.inputs + j]
                T.buffer_store(out, value, [band * step.outputs + i, left + j])


def _arrange(step: Arrange, matrix: Expr, out: Expr) -> None:
    if len(step.shape) == 4:
        k, c, r, s = step.shape
        with _rows(matrix)(0, k) as row, T.serial(0, c) as channel, T.serial(0, r) as i, T.serial(0, s) as j:
            T.buffer_store(out, matrix[row, (i * s + j) * c + channel], [row, channel, i, j])
        return
    c, k = step.shape
    with _rows(matrix)(0, c) as channel, T.serial(0, k) as row:
        T.buffer_store(out, matrix[row, channel], [channel, row])


def _each(out: Expr, value: Callable[..., Expr]) -> None:
    """Emit a step whose numbers depend on those at their own place."""
    rows, columns = (int(extent) for extent in out.shape)
    if rows == 1 and columns > CUT:
        tasks, last = divmod(columns, CUT)
        with T.parallel(0, tasks) as task, T.serial(0, CUT) as i:
            T.buffer_store(out, value(0, task * CUT + i), [0, task * CUT + i])
        with T.serial(0, last) as i:
            T.buffer_store(out, value(0, i + tasks * CUT), [0, i + tasks * CUT])
        return
    with _rows(out)(0, rows) as row, T.serial(0, columns) as column:
        T.buffer_store(out, value(row, column), [row, column])


def _rows(matrix: Expr) -> Any:
    rows, columns = (int(extent) for extent in matrix.shape)
    return T.parallel if rows > 1 and rows * columns >= SHARED else T.serial


def _zero(out: Expr) -> Expr:
    return T.cast(T.int32(0), str(out.dtype))


def _u32(value: int) -> Expr:
    return T.uint32(value % (1 << 32))


def _wide(pattern: Expr) -> Expr:
    return T.cast(pattern, "uint32")


def _reinterpret(bits: Expr) -> Expr:
    return T.reinterpret("float32", bits)
