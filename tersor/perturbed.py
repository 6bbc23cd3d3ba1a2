"""Perturbed: the float network compiled once, with its weights and an error for each layer's input as inputs.

    y = conv2d(x, w)   ->   y = conv2d(x + dx, w')

So a layer's weight or input is changed from run to run, and nothing is compiled again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tersor.ir.chains import Chain, Product
from tersor.ir.graph import Builder, Expr, Graph, Module, rebind, replace_weights, shape_of, weights_of
from tersor.ir.parts import find_parts
from tersor.ir.untyped import relax, tvm
from tersor.lowering import build
from tersor.model import Model
from tersor.passes.extract import tensor_names
from tersor.runner import use_threads
from tersor.targets.cpu.host.detect import Host
from tersor.targets.cpu.lowering import lower

Array = npt.NDArray[Any]

_RADIX = 1 << 20  # positions are written as two digits, for float32 has 24 bits


class Perturbed:
    """Runs the largest bucket of a float network with other weights and other inputs of its layers.

    `reads` names the tensors that each layer reads (as statistics do), once for each place where it does.
    """

    def __init__(self, model: Model) -> None:
        opened, self.reads = _with_errors(model.mod)
        self._weights = weights_of(opened)
        lowered = lower(opened, model.host.isa, model.host.cores)
        self._packed = weights_of(lowered.mod)
        self._spans = _spans(opened)
        self._places = _find_places(opened, self._spans, self._packed, model.host)
        use_threads(model.host.cores)
        executable = build(replace(lowered, mod=_all_as_inputs(lowered.mod)), model.host)
        self._machine: Any = relax.VirtualMachine(executable, tvm.cpu())
        self._inputs = [(spec.name, spec.shape, spec.dtype) for spec in model.buckets.largest.inputs]
        errors = Graph(opened).inputs[len(self._inputs) :]
        self._zeros = {var.name: _tensor(np.zeros(shape_of(var), np.float32)) for var in errors}
        self._constants = {name: _tensor(value) for name, value in self._packed.items()}
        self._sample: list[Any] = []

    @property
    def weights(self) -> dict[str, Array]:
        """The weights as they came, by name."""
        return self._weights

    def load(self, arrays: Mapping[str, Array]) -> None:
        """Take the inputs of the network for the runs to come; they have the bucket's shapes."""
        self._sample = [
            _tensor(np.ascontiguousarray(arrays[name], dtype).reshape(shape))
            for name, shape, dtype in self._inputs
        ]

    def run(
        self,
        weights: Mapping[str, Array] | None = None,
        errors: Mapping[tuple[str, int], Array] | None = None,
    ) -> list[Array]:
        """Run with other values of some weights, and errors added to what layers read.

        `errors` are by layer and by the position in its `reads`, of that tensor's shape.
        """
        added = {_error_name(*place): _tensor(value) for place, value in (errors or {}).items()}
        changed = {name: _tensor(value) for name, value in self._pack(weights or {}).items()}
        arguments = [
            *self._sample,
            *(self._zeros | added).values(),
            *(self._constants | changed).values(),
        ]
        result = self._machine["main"](*arguments)
        outputs = [result] if isinstance(result, tvm.runtime.Tensor) else list(result)
        return [output.numpy() for output in outputs]

    def _pack(self, weights: Mapping[str, Array]) -> dict[str, Array]:
        """Give the kernels' constants that hold numbers of the given weights."""
        packed: dict[str, Array] = {}
        for name, places in self._places.items():
            for weight in sorted(places.weights & weights.keys()):
                value = packed.get(name, self._packed[name])
                start, end = self._spans[weight]
                mine = (places.positions >= start) & (places.positions < end)
                moved = weights[weight].reshape(-1)[np.where(mine, places.positions - start, 0)]
                packed[name] = np.where(mine, moved, value).astype(value.dtype)
        return packed


@dataclass(frozen=True, eq=False)
class _Places:
    """Where a constant's numbers are from: positions among all weights, 0 for padding, and which weights."""

    positions: npt.NDArray[np.int64]
    weights: frozenset[str]


def _with_errors(mod: Module) -> tuple[Module, dict[str, list[str]]]:
    """Add an error, an input of the network, to all that layers read; name those tensors by layer."""
    graph, names = Graph(mod), tensor_names(mod)
    operands = _operands(graph)
    reads: dict[str, list[str]] = {}
    errors: dict[Expr, list[tuple[Expr, Expr]]] = {}  # by the call that reads: the tensor and its error
    added: list[Expr] = []
    for variable, layer, tensors in operands:
        for tensor in tensors:
            error = relax.Var(
                _error_name(layer, len(reads.setdefault(layer, []))),
                relax.TensorType(shape_of(tensor), "float32"),
            )
            reads[layer].append(names[tensor])
            errors.setdefault(variable, []).append((tensor, error))
            added.append(error)
    graph.inputs.extend(added)
    builder = Builder(graph)
    values: dict[Expr, Expr] = {var: var for var in graph.inputs}
    values.update({var: builder.weight(var.name, weight) for var, weight in graph.weights.items()})
    for var, value in graph.bindings:
        mine = {
            tensor: builder.emit(relax.op.add(values[tensor], error)) for tensor, error in errors.get(var, ())
        }
        values[var] = builder.emit(rebind(value, {**values, **mine}), var.name)
    return builder.finish([values[output] for output in graph.outputs]), reads


def _operands(graph: Graph) -> list[tuple[Expr, str, tuple[Expr, ...]]]:
    """Give for each layer that multiplies activations the call that does, its name, and what it reads."""
    found: list[tuple[Expr, str, tuple[Expr, ...]]] = []
    for part in find_parts(graph):
        match part:
            case Chain():
                found.append((part.variables[0], part.layer, (part.data,)))
            case Product() if part.left.same_as(part.right):
                found.append((part.variables[0], part.layer, (part.left,)))
            case Product():
                found.append((part.variables[0], part.layer, (part.left, part.right)))
            case _:
                pass
    return found


def _spans(mod: Module) -> dict[str, tuple[int, int]]:
    """Number the elements of all float weights, from 1: the first of each, and the one after its last."""
    spans: dict[str, tuple[int, int]] = {}
    start = 1
    for name, value in weights_of(mod).items():
        if value.dtype == np.float32:
            spans[name] = start, start + value.size
            start += value.size
    return spans


def _find_places(
    mod: Module, spans: Mapping[str, tuple[int, int]], packed: Mapping[str, Array], host: Host
) -> dict[str, _Places]:
    """Find where each constant of the lowered module has its numbers from.

    Kernels only move weights and pad them with zeros. So what they make of weights that hold their own
    positions says where each number went; a constant that stays what it was is none of theirs.
    """

    def lowered(digit: Callable[[Array], Array]) -> dict[str, Array]:
        shapes = weights_of(mod)
        values = {
            name: digit(np.arange(start, end)).astype(np.float32).reshape(shapes[name].shape)
            for name, (start, end) in spans.items()
        }
        return weights_of(lower(replace_weights(mod, values), host.isa, host.cores).mod)

    low, high = lowered(lambda places: places % _RADIX), lowered(lambda places: places // _RADIX)
    found: dict[str, _Places] = {}
    for name, digits in low.items():
        if np.issubdtype(digits.dtype, np.floating) and not np.array_equal(digits, packed[name]):
            positions = np.rint(digits.astype(np.float64) + _RADIX * high[name].astype(np.float64))
            first, last = positions[positions > 0].min(), positions.max()
            inside = {name for name, (start, end) in spans.items() if start <= last and first < end}
            found[name] = _Places(positions.astype(np.int64), frozenset(inside))
    return found


def _all_as_inputs(mod: Module) -> Module:
    function = mod["main"]
    opened = function.with_attr("num_input", len(function.params)).without_attr("params")
    mod = tvm.IRModule(dict(mod.functions.items()))
    mod.update_func(mod.get_global_var("main"), opened)
    return mod


def _error_name(layer: str, position: int) -> str:
    return f"{layer}|error{position}"


def _tensor(value: Array) -> Any:
    return tvm.runtime.tensor(np.ascontiguousarray(value))
