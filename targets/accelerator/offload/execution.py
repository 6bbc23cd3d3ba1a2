"""Execution: the function that a library calls has the programs of a region simulated, one after the other.

`import tersor` registers it. What the machine did, beside the values, goes to whoever listens (`listening`).
"""

import base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tersor.document import parse_json
from tersor.error import UserError
from tersor.formats.decoding import Arrange, Decode, parse_step
from tersor.formats.encoded import Encoded
from tersor.formats.matrix import matrix_of
from tersor.hardware import Hardware
from tersor.ir.untyped import tvm
from tersor.targets.accelerator.isa.encoding import decode
from tersor.targets.accelerator.isa.program import AnyProgram
from tersor.targets.accelerator.offload.codegen import EXECUTOR
from tersor.targets.accelerator.offload.region import Codes, Region, Step, StoredWeight, Task
from tersor.targets.accelerator.simulator.result import Simulated
from tersor.targets.accelerator.simulator.simulation import simulate
from tersor.targets.accelerator.simulator.tensors import Tensors

Array = npt.NDArray[Any]
Listener = Callable[[str, Simulated], None]  # the layer's name, and what the machine did
Run = Callable[[Any, Hardware, Tensors], Simulated]  # of a program of either kind

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Let `listener` hear of every program that is run in this context, in order."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def execute(region: Region, hardware: Hardware, arguments: Sequence[Array], run: Run) -> list[Array]:
    """Have `run` run the programs of a region, and give its results. Raises UserError if it cannot."""
    if len(arguments) != region.arguments:
        raise UserError(f"the region has {region.arguments} arguments, got {len(arguments)}: compile again")
    values = list(arguments)
    for step in region.steps:
        program = _program(step.task, hardware)
        done = run(program, hardware, tensors_of(step, values, program))
        if (listener := _listener.get()) is not None:
            listener(step.task.layer, done)
        values.append(np.asarray(done.output).reshape(step.shape))
    return [values[number] for number in region.results]


def tensors_of(step: Step, values: Sequence[Array], program: AnyProgram) -> Tensors:
    """Give what a program runs on, of the values of its region."""
    task, groups = step.task, program.layer.G if program.layer.operator == "matmul" else 1
    given = [values[number] for number in step.tensors]

    def constant(number: int | None) -> Array | None:
        # Each matrix of a batch has the same constants.
        return None if number is None else np.tile(given[number].reshape(-1), groups)

    weight: Encoded | Array = np.empty(0, np.uint8)  # of an operator on one tensor
    bias = constant(task.bias)
    match task.weight:
        case StoredWeight():
            weight = _encoded(task.weight, given)
            bias = bias if bias is None else bias + _taken_off(weight, task.zero_point)
        case Codes(number, _):
            weight = given[number]
    return Tensors(
        given[task.input],
        task.zero_point,
        weight,
        task.weight.zero_point if isinstance(task.weight, Codes) else 0,
        bias,
        constant(task.multiplier),
        None if task.residual is None else given[task.residual],
    )


def _taken_off(weight: Encoded, zero_point: int) -> Array:
    """Give what the zero point of the input takes off the sums, int32 [K].

    In the graph it is a part of the bias; the machine takes it off the codes, so that padding is zeros.
    """
    if zero_point == 0:
        return np.zeros(weight.shape[weight.axis], np.int32)
    codes = weight.decode()
    others = tuple(axis for axis in range(codes.ndim) if axis != weight.axis)
    return (zero_point * codes.sum(axis=others, dtype=np.int64)).astype(np.int32)


def _encoded(stored: StoredWeight, given: Sequence[Array]) -> Encoded:
    """Put a stored weight together; one that is codes in its own shape is stored as its matrix."""
    arrays = {name: given[number] for name, number in stored.arrays.items()}
    steps: list[Decode] = []
    for each in stored.steps:
        step = parse_step(each.step)
        if step is None:
            raise UserError(f"a weight is stored in a form that this tersor does not know: {each.step}")
        steps.append(Decode(step, each.reads, each.result))
    if not steps:
        arrays = {"values": matrix_of(arrays["values"], stored.axis)}
        steps = [Decode(Arrange(stored.shape, stored.axis), ("values",), "weight")]
    # The scale that makes them integers is in the multiplier of the epilogue.
    scale = np.ones(stored.shape[stored.axis], np.float32)
    return Encoded(stored.shape, stored.axis, arrays, tuple(steps), scale)


def _program(task: Task, hardware: Hardware) -> AnyProgram:
    return _decoded(task.program, hardware, f"the program of {task.layer} in this library")


@lru_cache(maxsize=4096)
def _decoded(encoded: str, hardware: Hardware, origin: str) -> AnyProgram:
    try:
        data = base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise UserError(
            f"{origin} is damaged, it is no base64: copy it again or compile the model again"
        ) from error
    return decode(data, hardware, origin)


@lru_cache(maxsize=64)
def _hardware(text: str) -> Hardware:
    return parse_json(text, Hardware, "the machine of a library")


@lru_cache(maxsize=4096)
def _region(text: str) -> Region:
    return parse_json(text, Region, "the region of a library")


def register_executor() -> None:
    """Make this the function that libraries call, in this process."""
    tvm.register_global_func(EXECUTOR, _run, override=True)


def _run(hardware: str, region: str, *tensors: Any) -> None:
    """Run what a library has; the last of the tensors are where the results go."""
    parsed = _region(region)
    arguments = [tensor.numpy() for tensor in tensors[: parsed.arguments]]
    results = execute(parsed, _hardware(hardware), arguments, simulate)
    for tensor, result in zip(tensors[parsed.arguments :], results, strict=True):
        tensor.copyfrom(np.ascontiguousarray(result))
