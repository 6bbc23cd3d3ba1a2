"""Perturbed: the float network compiled once, with its weights and the grids of what layers read as inputs.

    y = conv2d(x, w)   ->   y = conv2d(fake_quantize(x, grid), w')

So a layer's weight or the grid of its input is changed from run to run, and nothing is compiled again.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tersor.evaluation.opened import Edge, InputGrid, Opened, Place, opened
from tersor.ir.graph import Module, replace_weights, weights_of
from tersor.ir.untyped import relax, tvm
from tersor.lowering import build
from tersor.model import Model
from tersor.runner import use_threads
from tersor.targets.cpu.host.detect import Host
from tersor.targets.cpu.lowering import lower

Array = npt.NDArray[Any]

_RADIX = 1 << 20  # positions are written as two digits, for float32 has 24 bits


class Perturbed:
    """Runs the largest bucket of a float network with other weights and other inputs of its layers.

    `opened` says which tensors can be put on grids where they are read: those that layers multiply, and those
    at `others`. Without a grid a tensor is read as it is.
    """

    def __init__(self, model: Model, others: Collection[Edge] = ()) -> None:
        self.opened: Opened = opened(model.mod, others)
        mod = self.opened.mod
        self._weights = weights_of(mod)
        lowered = lower(mod, model.host.isa, model.host.cores)
        self._packed = weights_of(lowered.mod)
        self._spans = _spans(mod)
        self._places = _find_places(mod, self._spans, self._packed, model.host)
        use_threads(model.host.cores)
        executable = build(replace(lowered, mod=_all_as_inputs(lowered.mod)), model.host)
        self._machine: Any = relax.VirtualMachine(executable, tvm.cpu())
        self._inputs = [(spec.name, spec.shape, spec.dtype) for spec in model.buckets.largest.inputs]
        self._constants = {name: _tensor(value) for name, value in self._packed.items()}
        self._sample: list[Any] = []
        self._setting: list[Any] = list(self._constants.values())

    @property
    def weights(self) -> dict[str, Array]:
        """The weights as they came, by name, and those that opening added."""
        return self._weights

    def load(self, arrays: Mapping[str, Array]) -> None:
        """Take the inputs of the network for the runs to come; they have the bucket's shapes."""
        self._sample = [
            _tensor(np.ascontiguousarray(arrays[name], dtype).reshape(shape))
            for name, shape, dtype in self._inputs
        ]

    def change(
        self,
        weights: Mapping[str, Array] | None = None,
        grids: Sequence[tuple[Place, InputGrid]] = (),
    ) -> None:
        """Set other values of some weights, and the grids of what is read at some places.

        All that is not named is as it came, whatever was set before.
        """
        all_weights = dict(weights or {})
        for place, grid in grids:
            all_weights |= place.weights(grid)
        changed = {name: _tensor(value) for name, value in self._pack(all_weights).items()}
        self._setting = list((self._constants | changed).values())

    def run(self) -> list[Array]:
        """Run on the sample that is loaded, as it was changed."""
        result = self._machine["main"](*self._sample, *self._setting)
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


def _tensor(value: Array) -> Any:
    return tvm.runtime.tensor(np.ascontiguousarray(value))
