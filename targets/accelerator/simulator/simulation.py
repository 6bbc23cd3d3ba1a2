"""Simulation: run a program on tensors."""

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import numpy as np

from tersor.error import UserError
from tersor.formats.encoded import Encoded
from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.targets.accelerator.isa.program import AnyProgram, VectorProgram, digest_of
from tersor.targets.accelerator.simulator import tables
from tersor.targets.accelerator.simulator.decode import Decoded
from tersor.targets.accelerator.simulator.epilogue import finish
from tersor.targets.accelerator.simulator.rates import arithmetic_of, rates_of
from tersor.targets.accelerator.simulator.result import Simulated, simulated
from tersor.targets.accelerator.simulator.state import clock_of, memory_of
from tersor.targets.accelerator.simulator.tables import Image
from tersor.targets.accelerator.simulator.tensors import Tensors, padded_input, stored_of
from tersor.targets.accelerator.simulator.vector import simulate_vector

Progress = Callable[[float], None]  # of the part that is done, from 0 to 1
SLICE = 1 << 18  # steps between two calls of it


def simulate(
    program: AnyProgram, hardware: Hardware, tensors: Tensors, progress: Progress | None = None
) -> Simulated:
    """Run `program` on `hardware`, for which it was made: values, accesses and cycles.

    Raises ValueError for a program of another machine, one that is no nest of loops or waits for what does
    not come, and for tensors of other shapes or types; UserError if numba is not installed.
    """
    if program.digest != digest_of(hardware):
        raise ValueError(f"the program is for another machine than {hardware.name}: lower it again")
    if isinstance(program, VectorProgram):
        return simulate_vector(program, hardware, tensors)
    interpreter = _interpreter()
    arithmetic = arithmetic_of(program.scheme, hardware)
    decoded = Decoded(program, hardware)
    stored = stored_of(decoded.layer, tensors)
    image = Image(padded_input(decoded.layer, tensors).reshape(-1), np.array([tensors.zero_point]))
    densities = _densities(decoded.layer, tensors, image)
    rates = rates_of(decoded.layer, program.scheme, hardware, arithmetic, densities, program.output_bits)
    memory, clock = memory_of(decoded, rates), clock_of(decoded, rates)
    state = memory.state
    interpreter.hold(decoded.code, memory, stored, image)
    while not state[tables.FINISHED]:
        interpreter.run(SLICE, decoded.code, memory, clock)
        if reason := _FAILURES.get(int(state[tables.FAILED])):
            raise ValueError(f"{decoded.layer.name}: {reason}")
        if progress is not None:
            progress(state[tables.PRODUCTS] / decoded.layer.macs)
    if (complete := state[tables.COMPLETE]) != decoded.layer.output_count:
        outputs = decoded.layer.output_count
        raise ValueError(f"{decoded.layer.name}: the program completes {complete} of {outputs} outputs")
    sums = memory.slots[: decoded.layer.output_count]
    output = finish(sums, decoded.layer, program.epilogue, tensors)
    return simulated(decoded, hardware, output, arithmetic, rates, memory, clock)


_FAILURES = {
    int(tables.DEADLOCK): "the program waits for a place that nothing frees",
    int(tables.OUTSIDE): "a tile begins outside of the tile that it is fetched from",
}


def check_numba() -> None:
    """Raise UserError if numba, which compiles the simulator, is not installed."""
    if find_spec("numba") is None:
        raise UserError("simulating needs numba: pip install 'tersor[simulate]'")


def _interpreter() -> ModuleType:
    check_numba()
    return import_module("tersor.targets.accelerator.simulator.interpreter")


def _densities(layer: Layer, tensors: Tensors, image: Image) -> dict[str, float]:
    """The part of each operand's elements that is not zero; of the output, which is not there yet, all."""
    if isinstance(tensors.weight, Encoded):
        weight = np.count_nonzero(tensors.weight.decode()) / layer.weight_count
    else:
        weight = np.count_nonzero(tensors.weight != tensors.weight_zero_point) / layer.weight_count
    input = np.count_nonzero(image.codes != tensors.zero_point) / image.codes.size
    return {"weight": weight, "input": input, "output": 1.0}
