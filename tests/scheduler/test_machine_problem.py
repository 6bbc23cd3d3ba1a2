from collections.abc import Mapping
from dataclasses import replace

import pytest

from tersor.error import UserError
from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.network import Edge, Network
from tersor.scheduler.contract import Contract
from tersor.scheduler.costs import Costs
from tersor.scheduler.machine_problem import check_energy, policy_cost, problem
from tersor.scheduler.problem import Policy, Problem
from tersor.scheme import INT8, Scheme
from tests.scheduler.toy_machine import TOY

LAYERS = tuple(Layer(name, "matmul", N=16, K=32, C=32) for name in ("a", "b", "c"))
CHAIN = (Edge("a", "b", (16, 32)), Edge("b", "c", (16, 32)))
SCHEMES = [Scheme.parse(text) for text in ("int8", "w4a8", "int4", "int8+rank8")]
LOSSES = {scheme: float(place) for place, scheme in enumerate(SCHEMES)}
COSTS = Costs(TOY, effort=125)


def built(network: Network, names: str = "abc") -> Problem:
    return problem(network, dict.fromkeys(names, SCHEMES), dict.fromkeys(names, LOSSES), COSTS)


def policies(chosen: Problem, text: str) -> Policy:
    """The least EDP of a scheme for each group."""
    return {
        name: min(
            (choice for choice in row if str(choice.scheme) == scheme),
            key=lambda choice: choice.cost.seconds * choice.cost.energy,
        )
        for (name, row), scheme in zip(chosen.choices.items(), text.split(), strict=True)
    }


def test_each_scheme_is_there_with_its_mappings_and_its_loss() -> None:
    chosen = built(Network(LAYERS, CHAIN))
    assert chosen.groups == {"a": ("a",), "b": ("b",), "c": ("c",)}
    for name, row in chosen.choices.items():
        assert {choice.scheme for choice in row} == set(SCHEMES)
        for choice in row:
            parts = {f"{name}.0", f"{name}.1"} if choice.scheme.factor else {name}
            assert choice.mappings.keys() == parts
            assert choice.loss == LOSSES[choice.scheme]
            assert choice.cost.size == COSTS.size(LAYERS[0], choice.scheme)


@pytest.mark.parametrize(
    "scheme", ["int8 int8 int8", "w4a8 int8+rank8 w4a8", "int8 int4 int8", "int4 int8 int4"]
)
def test_the_sum_of_choices_is_near_what_the_policy_takes(scheme: str) -> None:
    network = Network(LAYERS, CHAIN)
    chosen = built(network)
    policy = policies(chosen, scheme)
    estimated, exact = chosen.cost(policy), policy_cost(network, chosen, policy, COSTS)
    assert estimated.energy == pytest.approx(exact.energy, rel=0.02)
    assert estimated.seconds == pytest.approx(exact.seconds, rel=0.1)
    assert estimated.size == exact.size


def test_who_reads_fewer_bits_gains_from_it_and_not_who_writes_them() -> None:
    network = Network(LAYERS, CHAIN)
    chosen = built(network)
    energy = {
        text: policy_cost(network, chosen, policies(chosen, text), COSTS).energy
        for text in ("int8 int8 int8", "int4 int8 int8", "int8 int4 int8")
    }
    first = energy["int8 int8 int8"] - energy["int4 int8 int8"]
    second = energy["int8 int8 int8"] - energy["int8 int4 int8"]
    tensor = 16 * 32 / 2 * (100.0 + 5.0)  # pJ of four bits of each element in dram and buffer
    assert second - first == pytest.approx(tensor, rel=0.1)


def test_a_layer_takes_what_it_is_carried_out_as() -> None:
    network = Network(LAYERS, (Edge("a", "b", (16, 32)), Edge("a", "c", (16, 32))))
    chosen = built(network)

    def as_wide_as_what_it_reads(schemes: Mapping[str, Scheme]) -> Mapping[str, Scheme]:
        assert [str(scheme) for scheme in schemes.values()] == ["int8", "int4", "int8"]
        return {**schemes, "b": Scheme.parse("w4a8")}

    asked = policies(chosen, "int8 int4 int8")
    carried_out = policy_cost(network, replace(chosen, carried_out=as_wide_as_what_it_reads), asked, COSTS)
    wide = policy_cost(network, chosen, policies(chosen, "int8 w4a8 int8"), COSTS)
    assert carried_out.energy == pytest.approx(wide.energy, rel=0.02)
    assert carried_out.size == wide.size
    assert carried_out.energy > policy_cost(network, chosen, asked, COSTS).energy * 1.01


def test_two_readers_share_what_they_make_the_layer_before_write() -> None:
    network = Network(LAYERS, (Edge("a", "b", (16, 32)), Edge("a", "c", (16, 32))))
    chosen = built(network)
    for text in ("int8 int8 int8", "int8 int4 int4"):
        policy = policies(chosen, text)
        exact = policy_cost(network, chosen, policy, COSTS)
        assert chosen.cost(policy).energy == pytest.approx(exact.energy, rel=0.02)
    mixed = policies(chosen, "int8 int4 int8")
    assert chosen.cost(mixed).energy < policy_cost(network, chosen, mixed, COSTS).energy


def test_tied_layers_are_one_group_whose_weight_is_stored_once() -> None:
    network = Network(LAYERS, CHAIN, (("a", "c"),))
    chosen = problem(network, {"a": SCHEMES, "b": SCHEMES}, {"a": LOSSES, "b": LOSSES}, COSTS)
    assert chosen.groups == {"a": ("a", "c"), "b": ("b",)}
    for choice in chosen.choices["a"]:
        assert choice.cost.size == COSTS.size(LAYERS[0], choice.scheme)
        assert {name[0] for name in choice.mappings} == {"a", "c"}


def test_layers_without_a_choice_and_tables_are_in_the_rest() -> None:
    table = Layer("table", "gather", N=16, K=32, C=100)
    product = Layer("product", "matmul", N=16, K=16, C=32, weight_bearing=False)
    network = Network((table, *LAYERS, product), (Edge("table", "a", (16, 32)), *CHAIN))
    chosen = built(network)
    assert chosen.rest.energy > sum(
        min(point.energy for point in COSTS.front(layer, COSTS.reference(layer))) * 0.99
        for layer in (table, product)
    )
    assert chosen.rest.size == COSTS.size(table, Scheme.parse("w8a32"))
    policy = policies(chosen, "int8 int8 int8")
    exact = policy_cost(network, chosen, policy, COSTS)
    assert chosen.cost(policy).energy == pytest.approx(exact.energy, rel=0.02)
    assert chosen.cost(policy).size == exact.size


def test_what_the_machine_has_no_operator_for_takes_nothing() -> None:
    machine = replace(TOY, operators=("matmul",))
    network = Network((Layer("table", "gather", N=16, K=32, C=100), LAYERS[0]))
    costs = Costs(machine, effort=125)
    assert problem(network, {"a": [INT8]}, {"a": {INT8: 0.0}}, costs).rest.energy == 0


def without_energies() -> Hardware:
    compute = tuple(replace(unit, energy_per_mac=0.0) for unit in TOY.compute)
    memories = tuple(replace(memory, energy_per_byte=0.0) for memory in TOY.memories)
    return replace(TOY, compute=compute, memories=memories)


@pytest.mark.parametrize(
    "contract", [Contract("edp"), Contract("energy"), Contract("latency", max_energy=1e6)]
)
def test_energy_of_a_machine_that_gives_none_cannot_be_asked_for(contract: Contract) -> None:
    check_energy(contract, TOY)
    with pytest.raises(UserError, match="toy gives no energies: add energy_per_mac"):
        check_energy(contract, without_energies())
    check_energy(Contract("latency", max_drop=1.0), without_energies())
