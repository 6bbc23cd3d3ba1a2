"""Runner: a compiled network as a Python function of named arrays."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import tvm
from tvm import relax

from tersor.error import UserError
from tersor.silence import quiet_stderr

Array = npt.NDArray[Any]
Inputs = Mapping[str, tuple[tuple[int, ...], str]]  # name -> shape, dtype


def use_threads(count: int) -> None:
    """Let runs share `count` threads; TVM's own choice is half the cores, as if the rest were hyperthreads.

    A TVM_NUM_THREADS of the user's stays. TVM reads it once, when the first run of the process starts.
    """
    os.environ.setdefault("TVM_NUM_THREADS", str(count))


class Runner:
    """Runs an executable on arrays by input name; outputs come in the model's order."""

    def __init__(self, executable: Any, inputs: Inputs) -> None:
        device: Any = tvm.cpu()
        self._machine = relax.VirtualMachine(executable, device)
        self.inputs = dict(inputs)

    @classmethod
    def load(cls, path: Path, inputs: Inputs) -> Self:
        """Load a library that `tersor compress` wrote. Raises UserError if it is none."""
        try:
            with quiet_stderr():
                return cls(tvm.runtime.load_module(str(path)), inputs)
        except Exception as error:
            reason = (str(error).strip().splitlines() or ["it cannot be loaded"])[-1]
            raise UserError(f"{path} is no compiled model: {reason}") from error

    def __call__(self, arrays: Mapping[str, Array]) -> list[Array]:
        """Run once. Raises UserError for a missing input or a wrong shape."""
        return [tensor.numpy() for tensor in self.run(self.prepare(arrays))]

    def prepare(self, arrays: Mapping[str, Array]) -> list[Any]:
        """Check the inputs and bring them to the device."""
        prepared = []
        for name, (shape, dtype) in self.inputs.items():
            if name not in arrays:
                raise UserError(f"the input {name!r} is missing: give it as an array of shape {list(shape)}")
            if arrays[name].shape != shape:
                raise UserError(
                    f"the input {name!r} has shape {list(shape)}, got an array of {list(arrays[name].shape)}"
                )
            prepared.append(tvm.runtime.tensor(np.ascontiguousarray(arrays[name], dtype=dtype)))
        return prepared

    def run(self, prepared: Sequence[Any]) -> list[Any]:
        """Run on prepared tensors and give the outputs as tensors: what is measured."""
        result = self._machine["main"](*prepared)
        return [result] if isinstance(result, tvm.runtime.Tensor) else list(result)
