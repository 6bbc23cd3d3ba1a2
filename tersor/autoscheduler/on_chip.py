"""On chip: the tensors of a chosen network that stay on an accelerator's chip, as a part of its plan."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import fsum

import tvm

from tersor.autoscheduler.accelerator import Accelerator, order
from tersor.autoscheduler.machine import Rated, Show
from tersor.autoscheduler.report import SearchedTensor
from tersor.compression import compress
from tersor.cost import Cost
from tersor.hardware import Hardware
from tersor.ir.graph import Graph
from tersor.ir.schemes import schemes_of
from tersor.mapping import Mapping as Loops
from tersor.passes.extract import extract
from tersor.plan import EdgePlan, LayerPlan, Plan
from tersor.planning import config_of, plan_for
from tersor.scheduler.contract import Contract
from tersor.scheduler.homes import Homes
from tersor.scheduler.on_chip import Chosen, OnChip, Taken, Weights, taken_by
from tersor.scheduler.problem import Choice
from tersor.statistics import Statistics
from tersor.targets.accelerator.mapper.mapper import Mapper
from tersor.targets.accelerator.offload.composite import ArrayWork, find_composites
from tersor.targets.accelerator.offload.offload import planned_for, split_mappings, task_of
from tersor.targets.accelerator.offload.passed import find_passed
from tersor.targets.accelerator.offload.refusals import why_not
from tersor.targets.accelerator.offload.staying import kept_of
from tersor.targets.accelerator.passing import Passed, Programs
from tersor.targets.accelerator.residency import Operands, home_level
from tersor.targets.cpu.host.detect import Host

UNSEARCHED = "the budget left no time to see what else could stay"


@dataclass(frozen=True)
class KeptOnChip:
    """A plan with the tensors that stay, its policy with what that makes of its layers, and what it takes."""

    plan: Plan
    rated: Rated
    tensors: tuple[SearchedTensor, ...] = ()


def keep_on_chip(
    mod: tvm.IRModule,
    plan: Plan,
    before: Rated,
    machine: Accelerator,
    contract: Contract,
    show: Show,
) -> KeptOnChip:
    """Keep tensors of an integer network on the chip where that makes a plan better under a contract.

    `before` is the plan's policy; `show` hears of the mappings that are searched.
    """
    hardware = machine.costs.hardware
    if home_level(hardware) is None:
        return KeptOnChip(plan, before)
    show(0, 1)
    programs, works = _programs(mod, hardware)
    tasks = {number: task_of(work) for number, work in works.items()}
    planned = _planned(programs, plan)
    mapper = Mapper(hardware, machine.last_effort)
    mappings = {
        number: _mapping(work, plan, mapper, programs.on_chip(number, planned))
        for number, work in works.items()
    }
    taken = {number: taken_by(tasks[number], mappings[number], hardware) for number in tasks}
    weights = Weights.of(contract.minimize, *_sum(taken.values()))
    search = OnChip(programs, tasks, mappings, weights, machine.last_effort, machine.costs.workers, planned)
    chosen = search.choose(show)
    better = {n: taken_by(tasks[n], mapping, hardware) for n, mapping in chosen.mappings.items()}
    found = {programs.names[n]: mapping for n, mapping in chosen.mappings.items()}
    carried = _carried(before, {}, taken, programs)
    after = _carried(before, found, taken | better, programs)
    if order(after.cost, contract) > order(carried.cost, contract) and search.runs(planned):
        chosen, found, after = search.as_planned(), {}, carried
    return KeptOnChip(_with(plan, found, programs, chosen), after, _told(programs, chosen))


def as_planned(mod: tvm.IRModule, plan: Plan, before: Rated, hardware: Hardware) -> KeptOnChip:
    """Keep what a plan keeps, by the mappings that it has: there is no time to search others."""
    if home_level(hardware) is None:
        return KeptOnChip(plan, before)
    programs = _programs(mod, hardware)[0]
    kept = _planned(programs, plan)
    refused = {
        each.producer: programs.why_not(each) or UNSEARCHED for each in programs.passed if each not in kept
    }
    return KeptOnChip(plan, before, _told(programs, Chosen(kept, refused=refused)))


def find_homes(mod: tvm.IRModule, statistics: Statistics, host: Host, hardware: Hardware) -> Homes | None:
    """Find the tensors of a network that stay on the chip of `hardware` in uniform int8; None if none can."""
    if home_level(hardware) is None:
        return None
    plan = plan_for(config_of("int8"), mod, host, statistics)
    return Homes.of(_programs(compress(mod, plan, statistics), hardware)[0], extract(mod))


def _programs(mod: tvm.IRModule, hardware: Hardware) -> tuple[Programs, dict[int, ArrayWork]]:
    """What the programs of an integer network pass on, and which of them run on the array."""
    graph = Graph(mod)
    composites = [each for each in find_composites(graph, schemes_of(mod)) if why_not(each, hardware) is None]
    works = {n: each.work for n, each in enumerate(composites) if isinstance(each.work, ArrayWork)}
    return find_passed(graph, composites, hardware), works


def _planned(programs: Programs, plan: Plan) -> tuple[Passed, ...]:
    """The tensors that a plan keeps on the chip, and that can stay there."""
    pairs = {(edge.producer, edge.consumer) for edge in plan.edges if edge.on_chip}
    names = programs.names
    return tuple(
        each
        for each in programs.passed
        if not programs.why_not(each)
        and all((names[each.producer], names[n]) in pairs for n, _ in each.readers)
    )


def _mapping(work: ArrayWork, plan: Plan, mapper: Mapper, on_chip: Operands) -> Loops:
    """How a layer runs by its plan, as `offload` has it, else if nothing stays."""
    hardware = mapper.hardware
    found = planned_for(work.layer, split_mappings(plan.mappings, hardware)[0], hardware, on_chip)
    return found or mapper.map(*task_of(work)).least_edp.mapping


def _carried(
    before: Rated, found: Mapping[str, Loops], taken: Mapping[int, Taken], programs: Programs
) -> Rated:
    """The policy as programs carry it out, some of them by other mappings, and what that takes.

    Layers without loops take what they did; the bits of tensors, and of inputs that others read, are known.
    """
    by_name: dict[str, list[Taken]] = {}
    for number, each in taken.items():
        by_name.setdefault(programs.names[number], []).append(each)
    policy: dict[str, Choice] = {}
    for first, choice in before.policy.items():
        parts = [each for name in choice.mappings for each in by_name.get(name, ())]
        mappings = {name: found.get(name, mapping) for name, mapping in choice.mappings.items()}
        cost = _takes(choice.cost, parts, programs.hardware) if parts else choice.cost
        policy[first] = replace(choice, mappings=mappings, cost=cost)
    others = [choice.cost for choice in before.policy.values() if not choice.mappings]
    whole = _takes(before.cost, taken.values(), programs.hardware)
    seconds = fsum((whole.seconds, *(each.seconds for each in others)))
    energy = fsum((whole.energy, *(each.energy for each in others)))
    return Rated(policy, replace(whole, seconds=seconds, energy=energy))


def _takes(cost: Cost, parts: Iterable[Taken], hardware: Hardware) -> Cost:
    """A cost with the time and the energy of some programs."""
    cycles, energy = _sum(parts)
    return replace(cost, seconds=cycles / hardware.clock, energy=energy)


def _sum(parts: Iterable[Taken]) -> Taken:
    rows = [*parts]
    return fsum(cycles for cycles, _ in rows), fsum(energy for _, energy in rows)


def _with(plan: Plan, found: Mapping[str, Loops], programs: Programs, chosen: Chosen) -> Plan:
    """The plan with new mappings and with the edges of what stays."""
    layers = {
        name: replace(layer, mappings=tuple(_placed(name, layer, found)))
        for name, layer in plan.layers.items()
    }
    kept = [kept_of(programs, each) for each in chosen.kept]
    edges = [EdgePlan(each.producer, reader, on_chip=True) for each in kept for reader in each.readers]
    return replace(plan, layers=layers, edges=tuple(edges))


def _placed(name: str, layer: LayerPlan, found: Mapping[str, Loops]) -> Iterator[Loops]:
    """The mappings of a layer, or of those that its factor makes of it."""
    if name in found:
        yield found[name]
        return
    for place, mapping in enumerate(layer.mappings):
        yield found.get(f"{name}.{place}", mapping)


def _told(programs: Programs, chosen: Chosen) -> tuple[SearchedTensor, ...]:
    told: list[SearchedTensor] = []
    for each in programs.passed:
        kept, reason = kept_of(programs, each), chosen.refused.get(each.producer, "")
        told.append(
            SearchedTensor(kept.producer, kept.readers, kept.size, 0 if reason else kept.saved, reason)
        )
    return tuple(told)
