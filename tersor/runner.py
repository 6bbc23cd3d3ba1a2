"""Runner: a compiled network as a Python function of named arrays."""

import os
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import tvm
from tvm import relax

from tersor.buckets import Buckets, Inputs, Placed
from tersor.error import UserError
from tersor.silence import quiet_stderr
from tersor.targets.cpu.decode_once import DECODE, decoded_entry

Array = npt.NDArray[Any]


def use_threads(count: int) -> None:
    """Let runs share `count` threads; TVM's own choice is half the cores, as if the rest were hyperthreads.

    A TVM_NUM_THREADS of the user's stays. TVM reads it once, when the first run of the process starts.
    """
    os.environ.setdefault("TVM_NUM_THREADS", str(count))


@dataclass(frozen=True)
class Prepared:
    """Arrays on the device, in the shapes of the function `entry`."""

    entry: str
    tensors: list[Any]


class Runner:
    """Runs an executable on arrays by input name; outputs come in the model's order.

    Weights that are stored in another format than their kernels read are decoded when it is made.
    """

    def __init__(self, executable: Any, inputs: Inputs | Buckets) -> None:
        device: Any = tvm.cpu()
        self._machine: Any = relax.VirtualMachine(executable, device)
        decodes = self._machine.module.implements_function(DECODE)
        self._weights: list[Any] | None = list(self._machine[DECODE]()) if decodes else None
        self.buckets = inputs if isinstance(inputs, Buckets) else Buckets.single(inputs)

    @classmethod
    def load(cls, path: Path, inputs: Inputs | Buckets) -> Self:
        """Load a library that `tersor compress` wrote. Raises UserError if it is none or lacks a bucket."""
        try:
            with quiet_stderr():
                runner = cls(tvm.runtime.load_module(str(path)), inputs)
            for bucket in runner.buckets.shapes:
                runner._machine[bucket.entry]
            return runner
        except Exception as error:
            reason = (str(error).strip().splitlines() or ["it cannot be loaded"])[-1]
            raise UserError(f"{path} is no compiled model: {reason}") from error

    def with_buckets(self, buckets: Buckets) -> Self:
        """Run the same build, whose code is made only once, by other rules of padding."""
        other = copy(self)
        other.buckets = buckets
        return other

    @property
    def inputs(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of the inputs by name, of the largest bucket."""
        return self.buckets.inputs

    def __call__(self, arrays: Mapping[str, Array]) -> list[Array]:
        """Run in the smallest bucket that holds the arrays, a large batch in parts.

        Raises UserError for a missing input or a wrong shape.
        """
        placed = self.buckets.place(arrays)
        return self.buckets.join([self.buckets.crop(self._outputs(each), each) for each in placed])

    def uncropped(self, arrays: Mapping[str, Array]) -> list[Array]:
        """Run once and give the outputs as large as the bucket has them."""
        return self._outputs(self._place_once(arrays))

    def run_in(self, index: int, arrays: Mapping[str, Array]) -> list[Array]:
        """Run one bucket on arrays of its shape."""
        return self._outputs(Placed(index, (), dict(arrays)))

    def prepare(self, arrays: Mapping[str, Array]) -> Prepared:
        """Check and pad the inputs of one run and bring them to the device."""
        return self._prepared(self._place_once(arrays))

    def run(self, prepared: Prepared) -> list[Any]:
        """Run on prepared tensors and give the outputs as tensors: what is measured."""
        if self._weights is None:
            result = self._machine[prepared.entry](*prepared.tensors)
        else:
            result = self._machine[decoded_entry(prepared.entry)](*prepared.tensors, *self._weights)
        return [result] if isinstance(result, tvm.runtime.Tensor) else list(result)

    def trace(self, prepared: Prepared, clock: Callable[[], float]) -> list[tuple[str, float]]:
        """Run once and give the functions that were called, in order, with the seconds that each took.

        From then on every call of this runner is watched, which makes it slower: trace a runner of its own.
        """
        seen: list[tuple[str, float]] = []
        start = 0.0

        def watch(_function: object, name: str, before: bool, _result: object, *_arguments: object) -> int:
            nonlocal start
            now = clock()
            if not before:
                seen.append((name, now - start))
            start = clock()
            return 0  # the machine goes on

        self._machine.set_instrument(watch)
        self.run(prepared)
        return seen

    def _place_once(self, arrays: Mapping[str, Array]) -> Placed:
        placed, *more = self.buckets.place(arrays)
        if more:
            batch = self.buckets.batch
            most = max(batch.sizes) if batch else 1
            raise UserError(f"at most {most} samples run at once: give batches of at most {most}")
        return placed

    def _prepared(self, placed: Placed) -> Prepared:
        bucket = self.buckets.shapes[placed.index]
        tensors = [
            tvm.runtime.tensor(np.ascontiguousarray(placed.arrays[spec.name], dtype=spec.dtype))
            for spec in bucket.inputs
        ]
        return Prepared(bucket.entry, tensors)

    def _outputs(self, placed: Placed) -> list[Array]:
        return [tensor.numpy() for tensor in self.run(self._prepared(placed))]
