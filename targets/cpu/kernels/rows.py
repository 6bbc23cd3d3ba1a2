"""Row kernels: all that happens to each row of a tensor, in one pass over memory.

    quantize(softmax(x / 8 + mask))                        reads x and mask, writes codes
    y = layer_norm(x + residual), quantize(y / steps)      reads x and residual, writes y and codes

A program is an expression over columns. A reduction splits it into phases: what a later phase needs of an
earlier one is kept for the length of a row, which the first-level cache holds.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tersor.ir.elementary import held
from tersor.targets.cpu.host.isa import KERNEL_ATTRIBUTES, Isa
from tersor.targets.cpu.host.threads import VECTOR_CYCLES, worth_sharing_elements

Expr = Any
Shape = tuple[int, ...]

# Vectors that a step takes: chains of arithmetic that run beside each other. With reductions there are fewer,
# as their own chains take registers, too.
UNROLLED, UNROLLED_REDUCING = 4, 2
# Elements that a task computes, where tasks are worth having.
TASK_ELEMENTS = 4096
# Columns that a tensor without rows of its own is cut into.
CUT = (4096, 32)


@dataclass(frozen=True, eq=False)
class Load:
    """An argument, by its place; its shape is the program's, or 1 on any axes."""

    argument: int
    shape: Shape
    dtype: str


@dataclass(frozen=True, eq=False)
class Map:
    """A function of values at the same column: of expressions with any number of lanes."""

    function: Callable[..., Expr]
    inputs: tuple["Value", ...]
    dtype: str = "float32"


@dataclass(frozen=True, eq=False)
class Reduce:
    """The "sum", "max" or "absmax" over the columns of a row, float32."""

    kind: str
    input: "Value"
    dtype: str = "float32"


Value = Load | Map | Reduce


@dataclass(frozen=True)
class Program:
    """What is computed of rows [..., C]: outputs of C columns or, where all columns share a value, of one."""

    shape: Shape
    outputs: tuple[Value, ...]

    @cached_property
    def values(self) -> list[Value]:
        """All values, each behind those it is made from."""
        found: dict[Value, None] = {}

        def visit(value: Value) -> None:
            if value not in found:
                for each in _inputs(value):
                    visit(each)
                found[value] = None

        for output in self.outputs:
            visit(output)
        return list(found)

    @cached_property
    def loads(self) -> list[Load]:
        """The arguments in their order."""
        return sorted((v for v in self.values if isinstance(v, Load)), key=lambda load: load.argument)

    @cached_property
    def phases(self) -> dict[Value, int]:
        """The phase in which each value can be had first; that of a reduction follows the one that sums."""
        phases: dict[Value, int] = {}
        for value in self.values:
            before = max((phases[each] for each in _inputs(value)), default=0)
            phases[value] = before + isinstance(value, Reduce)
        return phases

    @cached_property
    def of_rows(self) -> set[Value]:
        """The values that all columns of a row share."""
        shared: set[Value] = set()
        for value in self.values:
            match value:
                case Load(_, shape, _):
                    alone = shape[-1] == 1 and self.shape[-1] > 1
                case Reduce():
                    alone = True
                case Map(_, inputs, _):
                    alone = all(each in shared for each in inputs)
            if alone:
                shared.add(value)
        return shared

    def out_shape(self, output: Value) -> Shape:
        """Give the shape of an output."""
        return (*self.shape[:-1], 1) if output in self.of_rows else self.shape


def row_kernel(isa: Isa, program: Program) -> Any:
    """Build the PrimFunc ``(arguments...) -> outputs...`` of a program."""
    with IRBuilder() as builder, T.prim_func(s_tir=True, private=True):
        T.func_name("rows")
        T.func_attr(dict(KERNEL_ATTRIBUTES))
        _Emitter(isa, program).emit()
    return builder.get()


class _Emitter:
    def __init__(self, isa: Isa, program: Program) -> None:
        self.isa = isa
        self.program = program
        self.rows, self.columns = _cut(program)
        self.stashes: dict[Value, Expr] = {}
        self.of_row: dict[Value, Expr] = {}  # values of the current row, bound

    def emit(self) -> None:
        program = self.program
        arguments = [T.arg(f"x{load.argument}", T.Buffer(load.shape, load.dtype)) for load in program.loads]
        outputs = [
            T.arg(f"y{i}", T.Buffer(program.out_shape(output), output.dtype))
            for i, output in enumerate(program.outputs)
        ]
        self.arguments = {load: _flat(buffer) for load, buffer in zip(program.loads, arguments, strict=True)}
        self.results = [_flat(buffer) for buffer in outputs]
        tasks = self._tasks()
        share = -(-self.rows // tasks)
        # Relax asks of a function with one input whether it is a reshape, and insists on a block.
        with T.sblock("root"):
            if tasks == 1:
                self._emit_rows(T.int32(0), self.rows)
                return
            with T.parallel(0, -(-self.rows // share)) as task:
                first = T.bind(task * share)
                self._emit_rows(first, T.min(self.rows - first, share))

    def _tasks(self) -> int:
        """Give the tasks that share the rows, one if a thread is not worth its cost."""
        size = self.rows * self.columns
        computed = [value for value in self.program.values if not isinstance(value, Load)]
        if not worth_sharing_elements(self.isa.lanes, size, VECTOR_CYCLES * len(computed)):
            return 1
        return max(1, min(self.rows, size // TASK_ELEMENTS))

    def _emit_rows(self, first: Expr, count: Expr) -> None:
        for value in self._stashed():
            self.stashes[value] = T.alloc_buffer((self.columns,), value.dtype)
        with T.serial(0, count) as i:
            self.row = T.bind(first + i)
            self.of_row = {}
            for phase in range(1 + max(self.program.phases.values())):
                self._emit_phase(phase)

    def _stashed(self) -> Iterator[Value]:
        """Give the values of columns that a later phase reads again, but for what lies in memory already."""
        phases, shared = self.program.phases, self.program.of_rows
        for value in self.program.values:
            if isinstance(value, Load) or value in shared:
                continue
            users = [user for user in self.program.values if value in _inputs(user)]
            if any(self._read_in(user) > phases[value] for user in users):
                yield value

    def _read_in(self, user: Value) -> int:
        """Give the phase in which a value reads what it is made from."""
        return self.program.phases[user] - isinstance(user, Reduce)

    def _emit_phase(self, phase: int) -> None:
        """Emit the values of the row that a phase begins with, and its pass over the columns."""
        program = self.program
        phases, shared = program.phases, program.of_rows
        for value in program.values:
            if value in shared and phases[value] == phase and not isinstance(value, Reduce):
                self.of_row[value] = self._value_of_row(value)
        reductions = [v for v in program.values if isinstance(v, Reduce) and phases[v] == phase + 1]
        kept = [value for value in self.stashes if phases[value] == phase]
        outputs = [i for i, output in enumerate(program.outputs) if phases[output] == phase]
        for i in outputs:
            if program.outputs[i] in shared:
                T.buffer_store(self.results[i], self.of_row[program.outputs[i]], [self.row])
        outputs = [i for i in outputs if program.outputs[i] not in shared]
        if not (reductions or kept or outputs):
            return
        reducing = any(isinstance(value, Reduce) for value in program.values)
        unrolled = UNROLLED_REDUCING if reducing else UNROLLED
        pieces = list(_pieces(self.columns, self.isa.lanes * unrolled))
        width = pieces[0][2]
        sums = {reduction: T.alloc_buffer((width,), "float32", scope="local") for reduction in reductions}
        for reduction, buffer in sums.items():
            T.buffer_store(buffer, _spread(_start(reduction), width), [_ramp(0, width)])
        for start, count, width in pieces:
            with T.serial(0, count) as i:
                at = T.bind(start + i * width)
                columns = _Columns(self, at, width, phase)
                for reduction, buffer in sums.items():
                    own = [_ramp(0, width)]
                    joined = _join(reduction, buffer[own[0]], columns.value(reduction.input))
                    T.buffer_store(buffer, joined, own)
                for value in kept:
                    T.buffer_store(self.stashes[value], columns.value(value), [_ramp(at, width)])
                for i in outputs:
                    place = _ramp(self.row * self.columns + at, width)
                    T.buffer_store(self.results[i], columns.value(program.outputs[i]), [place])
        for reduction, buffer in sums.items():
            self.of_row[reduction] = _folded(reduction, buffer, pieces[0][2])

    def _value_of_row(self, value: Load | Map) -> Expr:
        match value:
            case Load():
                return T.bind(self.arguments[value][self.row_offset(value)])
            case Map(function, inputs, _):
                return T.bind(function(*(self.of_row[each] for each in inputs)))

    def row_offset(self, load: Load) -> Expr:
        """Give where the current row begins in an argument."""
        size = prod(load.shape)
        columns = self.columns if load not in self.program.of_rows else 1
        if size == self.rows * columns:
            return self.row * columns
        if size == load.shape[-1]:
            return T.int32(0)
        offset: Expr = T.int32(0)
        row, stride = self.row, load.shape[-1]
        shape = (1,) * (len(self.program.shape) - len(load.shape)) + load.shape
        for extent, own in zip(reversed(self.program.shape[:-1]), reversed(shape[:-1]), strict=True):
            if own > 1:
                offset = offset + row % extent * stride
                stride *= own
            row = row // extent
        return offset


class _Columns:
    """Some neighbouring columns of the current row in one phase: each value is computed once."""

    def __init__(self, emitter: _Emitter, at: Expr, width: int, phase: int) -> None:
        self.emitter = emitter
        self.at = at
        self.width = width
        self.phase = phase
        self.known: dict[Value, Expr] = {}

    def value(self, value: Value) -> Expr:
        if value not in self.known:
            self.known[value] = self._emit(value)
        return self.known[value]

    def _emit(self, value: Value) -> Expr:
        emitter = self.emitter
        if value in emitter.of_row:
            return _spread(emitter.of_row[value], self.width)
        match value:
            case Load():
                place = _ramp(emitter.row_offset(value) + self.at, self.width)
                return T.bind(emitter.arguments[value][place])
            case Map() if emitter.program.phases[value] < self.phase:
                return T.bind(emitter.stashes[value][_ramp(self.at, self.width)])
            case Map(function, inputs, _):
                return held(function(*(self.value(each) for each in inputs)))
            case Reduce():
                raise AssertionError("a reduction is a value of the row once its phase is over")


def _inputs(value: Value) -> tuple[Value, ...]:
    match value:
        case Load():
            return ()
        case Map(_, inputs, _):
            return inputs
        case Reduce(_, input, _):
            return (input,)


def _cut(program: Program) -> tuple[int, int]:
    """Give rows and columns; a tensor whose columns do not matter is cut into rows that share well."""
    rows, columns = prod(program.shape[:-1]), program.shape[-1]
    size = rows * columns
    whole = all(prod(load.shape) == size for load in program.loads)
    if any(isinstance(value, Reduce) for value in program.values) or not whole:
        return rows, columns
    most, step = CUT
    fitting = [each for each in range(step, min(most, size) + 1, step) if size % each == 0]
    return (size // fitting[-1], fitting[-1]) if fitting else (rows, columns)


def _pieces(columns: int, width: int) -> Iterator[tuple[int, int, int]]:
    """Cover the columns from the left by (start, count, width), the widths halving down to one."""
    start = 0
    while width:
        count = (columns - start) // width
        if count:
            yield start, count, width
            start += count * width
        width //= 2


def _start(reduction: Reduce) -> Expr:
    return T.float32(-3.4028234663852886e38 if reduction.kind == "max" else 0.0)


def _join(reduction: Reduce, total: Expr, value: Expr) -> Expr:
    match reduction.kind:
        case "sum":
            return total + value
        case "max":
            return T.max(total, value)
        case _:
            return T.max(total, T.max(value, -value))


def _folded(reduction: Reduce, buffer: Expr, width: int) -> Expr:
    """Join the lanes of a total by halves."""
    while width > 1:
        width //= 2
        halves = [buffer[_ramp(start, width)] for start in (0, width)]
        total = T.max(*halves) if reduction.kind != "sum" else halves[0] + halves[1]
        T.buffer_store(buffer, total, [_ramp(0, width)])
    return T.bind(buffer[0])


def _ramp(at: Expr | int, width: int) -> Expr:
    return T.ramp(at, 1, width) if width > 1 else at


def _spread(value: Expr, width: int) -> Expr:
    return T.broadcast(value, width) if width > 1 else value


def _flat(buffer: Expr) -> Expr:
    """Alias a buffer as one flat axis."""
    size = prod(int(extent) for extent in buffer.shape)
    return T.decl_buffer((size,), buffer.dtype, data=buffer.data)


def loads_of(described: Sequence[tuple[Shape, str]]) -> list[Load]:
    """Give the arguments of a program of given shapes and dtypes."""
    return [Load(i, shape, dtype) for i, (shape, dtype) in enumerate(described)]
