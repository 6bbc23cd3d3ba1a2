"""Tensors that stay on the chip while schemes are chosen: whatever is chosen, what the homes say holds."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from tersor.hardware import Hardware, Memory
from tersor.layer import Layer, Operand
from tersor.loop_tree import homes_of
from tersor.network import Edge, Network
from tersor.scheduler.costs import Costs
from tersor.scheduler.homes import LEFT, Homes
from tersor.scheduler.machine_problem import as_carried_out, policy_cost, problem
from tersor.scheduler.on_chip import taken_by
from tersor.scheduler.packing import STEPS
from tersor.scheduler.problem import Policy, Problem
from tersor.scheme import FP32, INT8, Scheme
from tersor.targets.accelerator.bits import element_bits
from tersor.targets.accelerator.density import DENSE
from tersor.targets.accelerator.legality import why_not
from tersor.targets.accelerator.lowering.allocate import home_bytes
from tersor.targets.accelerator.mapper.mapper import Task
from tersor.targets.accelerator.passing import Passed, Programs
from tersor.targets.accelerator.placement import Order
from tersor.targets.accelerator.residency import Operands, with_size
from tests.scheduler.toy_machine import TOY

LAYERS = tuple(Layer(name, "matmul", N=16, K=32, C=32) for name in "abc")
NETWORK = Network(LAYERS, (Edge("a", "b", (16, 32)), Edge("b", "c", (16, 32)), Edge("a", "c", (16, 32))))
TENSOR = 16 * 32  # bytes in int8
MACHINE = with_size(TOY, 1, 16 << 10)
SCHEMES = [Scheme.parse(text) for text in ("fp32", "int8", "int4", "int8+rank8")]


def homes_on(hardware: Hardware, network: Network = NETWORK) -> Homes:
    """Of a chain whose first result is added to the last layer's, too."""
    found: list[dict[Operand, int]] = []
    for layer in network.layers:
        bits = element_bits(layer, INT8, hardware, DENSE)[1]
        found.append({each: home_bytes(layer, each, bits) for each in ("weight", "input", "output")})
    passed = (Passed(0, ((1, ("input",)), (2, ())), TENSOR), Passed(1, ((2, ("input",)),), TENSOR))
    names = tuple(layer.name for layer in network.layers)
    programs = Programs(hardware, names, Order((0b000, 0b001, 0b011)), passed, tuple(found))
    return Homes.of(programs, network)


def costs_on(hardware: Hardware) -> Costs:
    return Costs(hardware, effort=125, workers=1, homes=homes_on(hardware))


def built(costs: Costs, schemes: Sequence[Scheme] = SCHEMES) -> Problem:
    losses = {scheme: float(place) for place, scheme in enumerate(schemes)}
    return problem(NETWORK, dict.fromkeys("abc", schemes), dict.fromkeys("abc", losses), costs)


def policy(chosen: Problem, text: str) -> Policy:
    return {
        name: min(
            (choice for choice in row if str(choice.scheme) == scheme),
            key=lambda choice: choice.cost.seconds * choice.cost.energy,
        )
        for (name, row), scheme in zip(chosen.choices.items(), text.split(), strict=True)
    }


def test_a_layer_keeps_what_goes_to_and_from_it_and_has_what_all_that_stays_leaves() -> None:
    homes = homes_on(MACHINE)
    assert [each.producer for each in homes.kept] == [0, 1]
    step = MACHINE.memories[1].size // STEPS
    found = {layer.name: homes.of_parts(layer.name, (layer,))[0] for layer in LAYERS}
    assert {name: home.on_chip for name, home in found.items()} == {
        "a": ("output",),
        "b": ("input", "output"),
        "c": ("input",),
    }
    assert {home.left for home in found.values()} == {MACHINE.memories[1].size - step}


def test_each_layer_is_left_its_part() -> None:
    (size,) = {int(2 * TENSOR / (1 - LEFT)) + 1}
    assert len(homes_on(with_size(TOY, 1, size)).kept) == 2
    assert len(homes_on(with_size(TOY, 1, size - 2)).kept) == 1
    assert len(homes_on(with_size(TOY, 1, TENSOR)).kept) == 0


# Its buffer holds one tensor of int8 and one of int4; sums are in registers.
REGISTERS = Memory("registers", 64, 12e9, 0.1, "assumed", double_buffered=True, keeps=("weight", "output"))
NARROW = with_size(replace(TOY, memories=(*TOY.memories, REGISTERS)), 1, 900)


def test_what_does_not_fit_in_int8_stays_where_all_that_reads_it_is_narrow() -> None:
    homes = homes_on(NARROW)
    assert [(each.producer, each.size) for each in homes.kept] == [(0, TENSOR)]
    assert [(each.producer, each.size) for each in homes.narrow] == [(1, TENSOR // 2)]

    def of(name: str, *narrow: Operand) -> tuple[Operands, int]:
        (home,) = homes.of_parts(name, (NETWORK[name],), narrow)
        return home.on_chip, home.left

    step = NARROW.memories[1].size // STEPS
    beside_one, beside_both = ((900 - taken) // step * step for taken in (TENSOR, TENSOR + TENSOR // 2))
    assert of("b") == of("b", "input") == (("input",), beside_one)
    assert of("b", "output") == (("input", "output"), beside_both)
    assert of("c") == ((), beside_one)
    assert of("c", "input") == (("input",), beside_both)
    assert of("a") == of("a", "input", "output") == (("output",), beside_one)


@pytest.mark.parametrize(
    ("schemes", "edges", "moved"),
    [
        ("int8 int8 int8", "a > b, a > c", ""),
        ("int8 int8 w8a4", "a > b, a > c, b > c", ""),
        ("int8 w8a4 int8", "a > b, a > c", ""),
        ("int8 fp32 w8a4", "", "abc"),
    ],
)
def test_a_narrow_tensor_has_an_edge_where_it_stays(schemes: str, edges: str, moved: str) -> None:
    given = dict(zip("abc", map(Scheme.parse, schemes.split()), strict=True))
    homes = homes_on(NARROW)
    assert ", ".join(f"{edge.producer} > {edge.consumer}" for edge in homes.edges(NETWORK, given)) == edges
    assert homes.moved(given) == set(moved)


def test_a_machine_without_narrow_inputs_keeps_nothing_for_them() -> None:
    wide = replace(NARROW, compute=tuple(unit for unit in NARROW.compute if unit.bits >= 8))
    assert homes_on(wide).narrow == ()
    assert homes_on(wide).kept == homes_on(NARROW).kept


def test_a_narrow_input_saves_all_that_its_tensor_moves_outside() -> None:
    costs = costs_on(NARROW)
    chosen = built(costs, [Scheme.parse(text) for text in ("int8", "w8a4")])
    outside = 2 * TENSOR * NARROW.memories[0].energy_per_byte  # written and read
    for first, last in (("int8 int8 int8", "int8 int8 w8a4"), ("int8 w8a4 int8", "int8 w8a4 w8a4")):
        wide, narrow = (policy(chosen, text) for text in (first, last))
        moves, stays = (policy_cost(NETWORK, chosen, each, costs) for each in (wide, narrow))
        assert moves.energy - stays.energy >= outside * 0.99
        for each, cost in ((wide, moves), (narrow, stays)):
            assert chosen.cost(each).energy == pytest.approx(cost.energy, rel=0.02)


def test_a_policy_gets_the_mappings_of_where_its_tensors_are() -> None:
    costs = costs_on(NARROW)
    chosen = built(costs, [Scheme.parse(text) for text in ("int8", "w8a4")])
    read_of = {"a": (), "b": [("a", "b")], "c": [("b", "c")]}  # what a makes, c adds
    for text in ("int8 int8 int8", "int8 int8 w8a4", "w8a4 w8a4 int8"):
        carried, cost = as_carried_out(NETWORK, chosen, policy(chosen, text), costs)
        edges = homes_on(NARROW).edges(NETWORK, chosen.schemes(carried))
        for layer in LAYERS:
            made = any(edge.producer == layer.name for edge in edges)
            read = any((edge.producer, edge.consumer) in read_of[layer.name] for edge in edges)
            places = homes_of(carried[layer.name].mappings[layer.name], NARROW)
            inside = {operand for operand, at in places.items() if at == "buffer"}
            assert inside == {*(["input"] if read else []), *(["output"] if made else [])}
        assert policy_cost(NETWORK, chosen, carried, costs) == cost


def test_where_a_machine_runs_nothing_of_a_network_nothing_stays() -> None:
    homes = Homes.of(Programs(MACHINE, (), Order(()), (), ()), NETWORK)
    assert homes.kept == ()
    assert homes.of_parts("a", LAYERS[:1])[0].on_chip == ()
    assert homes.edges(NETWORK, dict.fromkeys("abc", INT8)) == ()


def test_the_tensor_inside_of_a_factored_layer_stays_if_it_leaves_enough() -> None:
    homes, factor = homes_on(MACHINE), SCHEMES[-1].factor
    assert factor
    first, last = homes.of_parts("b", LAYERS[1].factored(factor))
    assert (first.on_chip, last.on_chip) == (("input", "output"), ("input", "output"))
    tight = homes_on(with_size(TOY, 1, 2 * TENSOR + 250))
    tight = replace(tight, kept=tight.programs.passed)  # 16 rows of 8 are more than half of what is left
    first, last = tight.of_parts("b", LAYERS[1].factored(factor))
    assert (first.on_chip, last.on_chip) == (("input",), ("output",))


def test_edges_are_those_of_the_layers_that_factors_make() -> None:
    homes = homes_on(MACHINE)

    def edges(text: str) -> list[str]:
        schemes = dict(zip("abc", map(Scheme.parse, text.split()), strict=True))
        found = homes.edges(NETWORK, schemes)
        assert all(edge.on_chip for edge in found)
        return [f"{edge.producer} > {edge.consumer}" for edge in found]

    assert edges("int8 int4 int8") == ["a > b", "a > c", "b > c"]
    # What is added at the end of a factored layer is read by the last of its layers.
    assert edges("int8 int8 int8+rank8") == ["a > b", "a > c.1", "b > c.0", "c.0 > c.1"]
    assert edges("int8+rank8 int8 int8") == ["a.1 > b", "a.1 > c", "b > c", "a.0 > a.1"]


@pytest.mark.parametrize(
    ("schemes", "moved"),
    [
        ("int8 int4 int8", ""),
        ("fp32 int8 int8", "ab"),  # c adds the tensor of a, but moves only that of b, which stays
        ("int8 int8 fp32", "abc"),
        ("fp32 fp32 fp32", "abc"),
    ],
)
def test_a_tensor_that_floats_make_or_read_does_not_stay(schemes: str, moved: str) -> None:
    given = dict(zip("abc", map(Scheme.parse, schemes.split()), strict=True))
    assert homes_on(MACHINE).moved(given) == set(moved)


def test_a_tensor_that_an_operator_reads_stays_if_there_are_no_floats_at_all() -> None:
    names = ("a", "b", "pool")
    homes = replace(homes_on(MACHINE), programs=replace(homes_on(MACHINE).programs, names=names))
    schemes = dict.fromkeys("ab", INT8)
    assert homes.moved(schemes) == set()
    assert homes.moved({**schemes, "a": FP32}) == {"a", "b", "pool"}


@pytest.mark.parametrize("size", [3000, 6 << 10, 16 << 10])
def test_every_choice_runs_where_its_tensors_stay(size: int) -> None:
    costs = costs_on(with_size(TOY, 1, size))
    chosen = built(costs, SCHEMES[1:3])
    assert costs.homes
    assert costs.homes.kept
    for layer in LAYERS:
        (home,) = costs.homes.of_parts(layer.name, (layer,))
        for choice in chosen.choices[layer.name]:
            mapping = choice.mappings[layer.name]
            places = homes_of(mapping, costs.hardware)
            kept = {operand for operand, at in places.items() if at == "buffer"}
            if size < 6 << 10 and not kept:
                continue  # nothing was found that fits beside them
            assert kept == set(home.on_chip)
            own = costs.homes.own_bytes(Task(layer, choice.scheme, on_chip=home.on_chip))
            left = with_size(costs.hardware, 1, home.left + own)
            assert why_not(layer, choice.scheme, mapping, left) is None


def test_what_stays_is_not_paid_for_outside() -> None:
    costs = costs_on(MACHINE)
    chosen, moving = built(costs, SCHEMES[1:3]), built(costs.moving, SCHEMES[1:3])
    stays = policy(chosen, "int8 int8 int8")
    moves = policy(moving, "int8 int8 int8")
    less = policy_cost(NETWORK, moving, moves, costs.moving).energy
    less -= policy_cost(NETWORK, chosen, stays, costs).energy
    outside = 4 * TENSOR * MACHINE.memories[0].energy_per_byte  # two tensors, written and read
    assert less >= outside * 0.99
    bits = output_bits(stays)
    expected = [
        taken_by(
            Task(layer, INT8, output_bits=bits[layer.name]), stays[layer.name].mappings[layer.name], MACHINE
        )
        for layer in LAYERS
    ]
    cost = policy_cost(NETWORK, chosen, stays, costs)
    assert cost.energy == pytest.approx(sum(energy for _, energy in expected), rel=1e-12)
    assert cost.seconds == pytest.approx(sum(cycles for cycles, _ in expected) / MACHINE.clock, rel=1e-12)


def output_bits(stays: Policy) -> Mapping[str, int]:
    return dict.fromkeys(stays, 8)


def test_where_floats_are_between_nothing_stays_and_nothing_is_saved() -> None:
    costs = costs_on(MACHINE)
    text = "int8 int8 fp32"
    stays, moves = built(costs), built(costs.moving)
    one = policy_cost(NETWORK, stays, policy(stays, text), costs)
    other = policy_cost(NETWORK, moves, policy(moves, text), costs.moving)
    assert one.energy == pytest.approx(other.energy, rel=0.02)
