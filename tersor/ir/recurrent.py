"""Recurrent operators: one PrimFunc runs all steps of an LSTM or a GRU after its input product.

    y[t], c = lstm(gates[t] + h @ w, c),   h = y[t]        gates = x @ w_ih + bias, of all steps at once

The PrimFunc *defines* the computation, as those of `tersor.ir.operators` do. The recurrent weight
[H, gates * H] is float32, or int8 codes with a float32 multiplier per column. The state that meets it is
float32, or the codes of `tersor.arithmetic.quantize_state`, and the sums then are exact int32.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tersor.arithmetic import STATE_LIMIT
from tersor.ir.elementary import held, sigmoid, tanh
from tersor.ir.graph import Expr, Graph, Module
from tersor.ir.operators import ATTRIBUTE, read_marker
from tersor.ir.untyped import relax, tirx

Number = Literal["float32", "int8"]
# Columns of the weight that are accumulated together: enough vectors to hide the latency of their additions.
COLUMNS = (64, 32, 16, 8, 4, 2, 1)
LANES = (16, 8, 4, 2, 1)


@dataclass(frozen=True)
class Lstm:
    """(gates f32 [T, B, 4 * H], weight [H, 4 * H], [multiplier f32 [4 * H]], h f32 [B, H], c f32 [B, H])
    -> (y f32 [T, B, H], last c f32 [B, H]); the gates' order is input, forget, cell, output.

    c = sigmoid(f) * c + sigmoid(i) * tanh(g);  h = sigmoid(o) * tanh(c)   (Hochreiter and Schmidhuber, Long
    Short-Term Memory, 1997, with the forget gate of Gers et al., 2000)

    `reverse` runs from the last step to the first; y stays in the order of time.
    """

    hidden: int
    reverse: bool = False
    weight: Number = "float32"
    state: Number = "float32"
    name: ClassVar[str] = "lstm"
    gates: ClassVar[int] = 4

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class Gru:
    """(gates f32 [T, B, 3 * H], weight [H, 3 * H], [multiplier f32 [3 * H]], [bias f32 [H]], h f32 [B, H])
    -> y f32 [T, B, H]; the gates' order is reset, update, candidate.

    n = tanh(gates[n] + (r * h) @ w[n])             (Cho et al., Learning Phrase Representations, 2014)
    n = tanh(gates[n] + r * (h @ w[n] + bias))      with `reset_after`, which alone has the bias
    h = (1 - z) * n + z * h,   r = sigmoid(...), z = sigmoid(...)
    """

    hidden: int
    reverse: bool = False
    reset_after: bool = True
    weight: Number = "float32"
    state: Number = "float32"
    name: ClassVar[str] = "gru"
    gates: ClassVar[int] = 3

    def __post_init__(self) -> None:
        _check(self)


Cell = Lstm | Gru
Product = Callable[["Loop", Expr, int, int], None]


@dataclass(frozen=True, eq=False)
class Recurrence:
    """A call of a recurrent operator in a network: one layer, named by its recurrent weight."""

    layer: str
    cell: Cell
    variable: Expr  # what the call gives: y of a GRU, (y, c) of an LSTM
    result: Expr  # y
    gates: Expr
    weight: Expr
    rest: tuple[Expr, ...]  # arguments after the weight

    @property
    def states(self) -> tuple[Expr, ...]:
        """The states before the first step, h and of an LSTM c."""
        return self.rest[-2:] if isinstance(self.cell, Lstm) else self.rest[-1:]

    @property
    def variables(self) -> tuple[Expr, ...]:
        """The variables of the layer; the last one is its result."""
        return (self.variable,) if self.variable.same_as(self.result) else (self.variable, self.result)

    @property
    def reads(self) -> tuple[Expr, ...]:
        """The activations that go in."""
        return self.gates, *self.states


@dataclass(frozen=True)
class Source:
    """How a state is kept for the product with the weight: its type, and what is added to an int8 code."""

    dtype: str
    offset: int = 0


def find_recurrences(graph: Graph) -> list[Recurrence]:
    """Find the recurrent layers of a network in order; a GRU's or LSTM's weight must be a named one."""
    found = []
    for var, value in graph.bindings:
        cell = read_cell(graph.mod, value)
        if cell is None:
            continue
        gates, weight, *rest = value.args[1].fields
        if weight in graph.weights:
            result = _first_item(graph, var) if isinstance(cell, Lstm) else var
            found.append(Recurrence(weight.name, cell, var, result, gates, weight, tuple(rest)))
    return found


def read_cell(mod: Module, expr: Expr) -> Cell | None:
    """Give the recurrent operator that a `call_tir` calls, or None."""
    fields = read_marker(mod, expr)
    match fields.pop("operator", None):
        case Lstm.name:
            return Lstm(**fields)
        case Gru.name:
            return Gru(**fields)
        case _:
            return None


def result_types(cell: Cell, steps: int, batch: int) -> Any:
    """Give the Relax types of what a cell's call gives, as `call_tir` wants them."""
    y = relax.TensorType((steps, batch, cell.hidden), "float32")
    return [y, relax.TensorType((batch, cell.hidden), "float32")] if isinstance(cell, Lstm) else y


def call_cell(builder: Any, cell: Cell, arguments: Sequence[Expr], function: Any = None) -> Expr:
    """Emit a call of a cell's PrimFunc, by default the defining one, into a relax.BlockBuilder."""
    steps, batch, _ = (int(extent) for extent in arguments[0].ty.shape)
    target = builder.add_func(function or cell_function(cell, steps, batch), cell.name)
    return builder.emit(relax.call_tir(target, list(arguments), result_types(cell, steps, batch)))


def cell_function(cell: Cell, steps: int, batch: int) -> Any:
    """Build the PrimFunc that defines a recurrent operator."""
    size = cell.hidden * cell.gates
    shape = (cell.hidden, size)
    function = recurrent_function(cell, steps, batch, shape, _plain_product, Source(cell.state))
    marker = json.dumps({"operator": cell.name, **asdict(cell)}, sort_keys=True)
    return function.with_attr(ATTRIBUTE, marker)


def recurrent_function(
    cell: Cell,
    steps: int,
    batch: int,
    weight_shape: tuple[int, ...],
    product: Product,
    source: Source,
    parallel: bool = True,
) -> Any:
    """Build the PrimFunc of a cell whose products with the weight `product` emits.

    With `parallel` the rows of the batch are shared among the cores.
    `product(loop, source, first, count)` writes ``source @ weight`` of `count` columns from `first` on into
    `loop.sums`, without the multiplier; its `source` is a buffer [H] with a state kept as the last argument
    says.
    """
    size = cell.hidden * cell.gates
    is_lstm = isinstance(cell, Lstm)
    with IRBuilder() as builder, T.prim_func(s_tir=True, private=True):
        T.func_name(cell.name)
        # Scheduled as it is, and opaque (8) to the fusion of operators.
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True, "op_pattern": 8})
        gates = T.arg("gates", T.Buffer((steps, batch, size), "float32"))
        weight = T.arg("weight", T.Buffer(weight_shape, cell.weight))
        multiplier = T.arg("multiplier", T.Buffer((size,), "float32")) if cell.weight == "int8" else None
        has_bias = isinstance(cell, Gru) and cell.reset_after
        bias = T.arg("bias", T.Buffer((cell.hidden,), "float32")) if has_bias else None
        first = T.arg("h", T.Buffer((batch, cell.hidden), "float32"))
        first_cell = T.arg("c", T.Buffer((batch, cell.hidden), "float32")) if is_lstm else None
        y = T.arg("y", T.Buffer((steps, batch, cell.hidden), "float32"))
        last_cell = T.arg("last_c", T.Buffer((batch, cell.hidden), "float32")) if is_lstm else None
        loop = Loop(cell, weight, multiplier, bias, gates, y, last_cell, product, source)
        with (T.parallel if parallel and batch > 1 else T.serial)(0, batch) as row:
            loop.emit(steps, row, first, first_cell)
    return builder.get()


class Loop:
    """The loop over the steps of one row of the batch, while it is written."""

    def __init__(
        self,
        cell: Cell,
        weight: Expr,
        multiplier: Expr,
        bias: Expr,
        gates: Expr,
        y: Expr,
        last_cell: Expr,
        product: Product,
        kept: Source,
    ) -> None:
        self.cell = cell
        self.hidden = cell.hidden
        self.weight = weight
        self.multiplier = multiplier
        self.bias = bias
        self.gates = gates
        self.y = y
        self.last_cell = last_cell
        self.product = product
        self.kept = kept
        self.lanes = next(lanes for lanes in LANES if self.hidden % lanes == 0)

    def emit(self, steps: int, row: Expr, first: Expr, first_cell: Expr | None) -> None:
        """Emit all steps of one row."""
        self.row = row
        self.sums = T.alloc_buffer((self.hidden * self.cell.gates,), "float32")
        self.state = T.alloc_buffer((self.hidden,), "float32")
        self.source = self.state
        if self.cell.state == "int8":
            self.source = T.alloc_buffer((self.hidden,), self.kept.dtype)

        def start(at: Expr) -> None:
            self._keep(first[row, self._units(at)], at)
            if first_cell is not None:
                T.buffer_store(self.last_cell, first_cell[row, self._units(at)], [row, self._units(at)])

        self._each(start)
        match self.cell:
            case Lstm():
                step = self._lstm
            case Gru(reset_after=True):
                step = self._gru_reset_after
            case Gru():
                self.reset = T.alloc_buffer((self.hidden,), self.kept.dtype)
                step = self._gru_reset_before
        with T.serial(0, steps) as i:
            self.time = T.bind(steps - 1 - i) if self.cell.reverse else i
            step()

    def _lstm(self) -> None:
        self.product(self, self.source, 0, 4 * self.hidden)

        def update(at: Expr) -> None:
            i, f, g, o = (self._sum(n, at, self._gate(n, at)) for n in range(4))
            place = [self.row, self._units(at)]
            old = self.last_cell[*place]
            cell = held(sigmoid(f) * old + sigmoid(i) * tanh(g))
            T.buffer_store(self.last_cell, cell, place)
            self._give(held(sigmoid(o) * tanh(cell)), at)

        self._each(update)

    def _gru_reset_after(self) -> None:
        self.product(self, self.source, 0, 3 * self.hidden)

        def update(at: Expr) -> None:
            r, z = (sigmoid(self._sum(n, at, self._gate(n, at))) for n in range(2))
            n = tanh(self._gate(2, at) + r * self._sum(2, at, self.bias[self._units(at)]))
            self._give(self._mixed(z, n, at), at)

        self._each(update)

    def _gru_reset_before(self) -> None:
        self.product(self, self.source, 0, 2 * self.hidden)

        def reset(at: Expr) -> None:
            r = sigmoid(self._sum(0, at, self._gate(0, at)))
            self._store_source(self.reset, held(r * self.state[self._units(at)]), at)

        self._each(reset)
        self.product(self, self.reset, 2 * self.hidden, self.hidden)

        def update(at: Expr) -> None:
            z = sigmoid(self._sum(1, at, self._gate(1, at)))
            n = tanh(self._sum(2, at, self._gate(2, at)))
            self._give(self._mixed(z, n, at), at)

        self._each(update)

    def _mixed(self, z: Expr, n: Expr, at: Expr) -> Expr:
        z = held(z)
        return held((self._spread(T.float32(1)) - z) * n + z * self.state[self._units(at)])

    def _each(self, body: Callable[[Expr], None]) -> None:
        """Emit `body` for all units, a vector of them at a time."""
        with T.serial(0, self.hidden // self.lanes) as i:
            first = T.bind(i * self.lanes)
            body(first)

    def _units(self, first: Expr) -> Expr:
        """Give the index of a vector; TVM bounds what it touches only if it is a plain ramp."""
        return T.ramp(first, 1, self.lanes) if self.lanes > 1 else first

    def _gate(self, n: int, at: Expr) -> Expr:
        return self.gates[self.time, self.row, self._units(at + n * self.hidden)]

    def _sum(self, n: int, at: Expr, other: Expr) -> Expr:
        """Give what the product gives a gate, and another term.

        Where the product has a scale, one operation multiplies and adds, written out: whether LLVM fuses the
        two by itself depends on what it unrolls, and kernels would differ from the definition.
        """
        columns = self._units(at + n * self.hidden)
        if self.multiplier is None:
            return other + self.sums[columns]
        terms = self.sums[columns], self.multiplier[columns], other
        return tirx.call_llvm_pure_intrin(self._wide("float32"), "llvm.fmuladd", *terms)

    def _give(self, state: Expr, at: Expr) -> None:
        T.buffer_store(self.y, state, [self.time, self.row, self._units(at)])
        self._keep(state, at)

    def _keep(self, state: Expr, at: Expr) -> None:
        T.buffer_store(self.state, state, [self._units(at)])
        if self.cell.state == "int8":
            self._store_source(self.source, state, at)

    def _store_source(self, buffer: Expr, value: Expr, at: Expr) -> None:
        if self.cell.state == "int8":
            low, high = (self._spread(T.float32(limit)) for limit in (-STATE_LIMIT, STATE_LIMIT))
            code = T.cast(T.min(T.max(T.nearbyint(value * high), low), high), self._wide("int32"))
            value = T.cast(code + self._spread(T.int32(self.kept.offset)), self._wide(self.kept.dtype))
        T.buffer_store(buffer, value, [self._units(at)])

    def _spread(self, value: Expr) -> Expr:
        return T.broadcast(value, self.lanes) if self.lanes > 1 else value

    def _wide(self, dtype: str) -> str:
        return f"{dtype}x{self.lanes}" if self.lanes > 1 else dtype


def _plain_product(loop: Loop, source: Expr, first: int, count: int) -> None:
    """Accumulate blocks of columns, in int32 if both operands are integers."""
    width = next(width for width in COLUMNS if count % width == 0)
    total = "int32" if loop.cell.state == "int8" else "float32"

    def columns(start: Expr) -> Expr:
        return T.ramp(start, 1, width) if width > 1 else start

    def spread(value: Expr) -> Expr:
        return T.broadcast(value, width) if width > 1 else value

    def wide(value: Expr, dtype: str) -> Expr:
        return T.cast(value, f"{dtype}x{width}" if width > 1 else dtype)

    with T.serial(0, count // width) as block:
        start = T.bind(block * width + first)
        accumulator = T.alloc_buffer((width,), total, scope="local")
        own = columns(T.int32(0))
        T.buffer_store(accumulator, spread(T.cast(T.int32(0), total)), [own])
        with T.serial(0, loop.hidden) as i:
            term = spread(T.cast(source[i], total)) * wide(loop.weight[i, columns(start)], total)
            T.buffer_store(accumulator, accumulator[own] + term, [own])
        T.buffer_store(loop.sums, wide(accumulator[own], "float32"), [columns(start)])


def _first_item(graph: Graph, var: Expr) -> Expr:
    """Give the variable that holds the first of a tuple's tensors, or the tuple if nothing reads it."""
    for user in graph.users(var):
        value = graph.definition(user)
        if isinstance(value, relax.TupleGetItem) and value.index == 0:
            return user
    return var


def _check(cell: Cell) -> None:
    if cell.hidden < 1:
        raise ValueError(f"a recurrent layer needs at least 1 unit, got {cell.hidden}")
    for what, number in (("weight", cell.weight), ("state", cell.state)):
        if number not in ("float32", "int8"):
            raise ValueError(f"a recurrent {what} is float32 or int8, got {number!r}")
    if cell.state == "int8" and cell.weight != "int8":
        raise ValueError("an int8 state needs an int8 weight")
