"""Tensors that a plan keeps on the chip: the same bits, nothing of them outside, and what is predicted."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tvm

from tersor.error import UserError
from tersor.hardware import Hardware
from tersor.ir.graph import Graph
from tersor.ir.schemes import schemes_of
from tersor.plan import EdgePlan
from tersor.simulated_layer import simulated_layer
from tersor.targets.accelerator.isa.instruction import Load
from tersor.targets.accelerator.isa.program import Program
from tersor.targets.accelerator.mapper.mapper import Mapper
from tersor.targets.accelerator.offload.composite import find_composites
from tersor.targets.accelerator.offload.execution import listening
from tersor.targets.accelerator.offload.offload import Offloaded, offload
from tersor.targets.accelerator.offload.passed import find_passed
from tersor.targets.accelerator.offload.staying import kept_of
from tersor.targets.accelerator.passing import Programs
from tersor.targets.accelerator.residency import with_size
from tersor.targets.accelerator.simulator.result import Simulated
from tests.relax_modules import Array, residual_net, run, samples
from tests.targets.accelerator.offload.networks import (
    IMAGES,
    TOKENS,
    in_int8,
    integer_attention_net,
    integer_image_net,
)

EDGE = Hardware.load(Path(__file__).parents[4] / "targets" / "machines" / "edge.toml")
PICTURES = samples(1, 8, 10, 10, count=2)


def integer_residual_net() -> tvm.IRModule:
    return in_int8(residual_net(), PICTURES)


def programs_of(mod: tvm.IRModule, hardware: Hardware = EDGE) -> Programs:
    graph = Graph(mod)
    return find_passed(graph, find_composites(graph, schemes_of(mod)), hardware)


def all_edges(programs: Programs) -> list[EdgePlan]:
    kept = [kept_of(programs, each) for each in programs.passed if not each.reason]
    return [EdgePlan(each.producer, reader, on_chip=True) for each in kept for reader in each.readers]


def ran(mod: tvm.IRModule, given: Array) -> tuple[list[Array], list[tuple[str, Simulated]]]:
    heard: list[tuple[str, Simulated]] = []
    with listening(lambda name, done: heard.append((name, done))):
        results = run(mod, given)
    return results, heard


def offloaded(mod: tvm.IRModule, edges: list[EdgePlan], hardware: Hardware = EDGE) -> Offloaded:
    return offload(mod, hardware, mapper=Mapper(hardware, effort=200, exhaustive=200), edges=edges)


@pytest.mark.parametrize(
    ("network", "given", "passed"),
    [
        (integer_image_net, IMAGES[0], 8),
        (integer_attention_net, TOKENS[0], 1),
        (integer_residual_net, PICTURES[0], 5),
    ],
)
def test_the_bits_are_those_of_the_cpu_and_the_figures_those_predicted(
    network: Callable[[], tvm.IRModule], given: Array, passed: int
) -> None:
    mod = network()
    edges = all_edges(programs_of(mod))
    before, after = offloaded(mod, []), offloaded(mod, edges)
    assert len(after.kept) == passed
    expected, without = ran(before.mod, given)
    results, heard = ran(after.mod, given)
    on_cpu, _ = ran(mod, given)
    for ours, theirs, cpus in zip(results, expected, on_cpu, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(ours, cpus)
    moved, less = (sum(int((r.reads[0] + r.writes[0]).sum()) for _, r in each) for each in (without, heard))
    assert moved - less >= sum(each.saved for each in after.kept)
    done = dict(heard)
    for layer in after.layers:
        for home in layer.program.homes:
            assert not done[layer.name].reads[0, ("weight", "input", "output").index(home.operand)]
        if isinstance(layer.program, Program):
            report = simulated_layer(layer, [done[layer.name]], EDGE)
            assert report.energy_error == pytest.approx(0, abs=1e-9)
            assert report.cycles_error == pytest.approx(0, abs=1e-6)


def test_no_two_things_lie_on_each_other() -> None:
    """Homes of tensors that are there at the same time, and tiles beside them."""
    mod = integer_residual_net()
    programs = programs_of(mod)
    chosen = [each for each in programs.passed if not each.reason]
    rooms = programs.rooms(chosen)
    assert rooms is not None
    for number, room in enumerate(rooms):
        for tensor in chosen:
            if programs.order.while_there(tensor.tensor) >> number & 1:
                address = rooms[tensor.producer].homes["output"]
                assert address + tensor.size <= room.begin or address >= room.end
    for layer in offloaded(mod, all_edges(programs)).layers:
        room = rooms[programs.names.index(layer.name)]
        for load in layer.program.instructions:
            if isinstance(load, Load) and load.target == programs.level:
                assert room.begin <= load.address
                assert load.address + load.places * load.pitch <= room.end


def test_why_tensors_cannot_stay_is_said() -> None:
    mod = integer_residual_net()
    assert "it takes 1152 bytes, buffer has 1000" in reasons(programs_of(mod, with_size(EDGE, 1, 1000)))
    graph = Graph(mod)
    composites = find_composites(graph, schemes_of(mod))
    others = [each for each in composites if each.name != "down.weight"]
    assert "nn.conv2d reads it on the CPU" in reasons(find_passed(graph, others, EDGE))
    twice = [*composites, composites[0]]
    assert "a.weight is run 2 times" in reasons(find_passed(graph, twice, EDGE))
    apart = replace(EDGE.memories[1], keeps=("input",))
    machine = replace(EDGE, memories=(EDGE.memories[0], apart, EDGE.memories[2]))
    assert any("edge has no memory on the chip that" in each for each in reasons(programs_of(mod, machine)))


def reasons(programs: Programs) -> set[str]:
    return {programs.why_not(each) for each in programs.passed}


@pytest.mark.parametrize(
    ("edges", "sentence"),
    [
        ([("a.weight", "b.weight"), ("a.weight", "z")], "no such two one of which reads the other"),
        ([("fc.weight", "output")], "no such two"),
    ],
)
def test_edges_that_are_not_there_are_refused(edges: list[tuple[str, str]], sentence: str) -> None:
    asked = [EdgePlan(*each, on_chip=True) for each in edges]
    with pytest.raises(UserError, match=sentence):
        offloaded(integer_residual_net(), asked)


def test_a_tensor_stays_for_all_of_its_readers() -> None:
    mod = integer_residual_net()
    programs = programs_of(mod)
    several = next(each for each in programs.passed if len(each.readers) > 1 and not each.reason)
    kept = kept_of(programs, several)
    with pytest.raises(UserError, match=f"{kept.readers[1]!r} reads it, too: add that edge or remove this"):
        offloaded(mod, [EdgePlan(kept.producer, kept.readers[0], on_chip=True)])


def test_what_does_not_fit_beside_what_stays_is_refused() -> None:
    mod = integer_residual_net()
    hardware = with_size(EDGE, 1, 1700)
    edges = all_edges(programs_of(mod, hardware))
    with pytest.raises(UserError, match="remove some of"):
        offloaded(mod, edges, hardware)
