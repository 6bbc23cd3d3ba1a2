"""Transfer: policies that were searched for one machine, run on others."""

from collections.abc import Sequence

from joint import TRIALS
from rows import Row
from searching import Searching, best

from tersor.autoscheduler.report import Transfer
from tersor.scheduler.contract import Contract
from tersor.scheduler.machine_problem import policy_cost
from tersor.scheduler.machine_problem import problem as machine_problem
from tersor.scheduler.search import closest
from tersor.scheduler.strategies.exact import Exact

MEAN = 1.2  # times the best of its column


def transfer(
    searching: Searching, machines: Sequence[str], contract: Contract, trials: int = TRIALS
) -> list[Row]:
    """Energy times time of each machine's policy on each, over that of the machine's own, and the goals."""
    found = transfers(searching, machines, contract, trials)
    edp = {(each.searched_for, each.run_on): each.cost.energy * each.cost.seconds for each in found}
    network, rows, off = searching.subject.name, list[Row](), list[float]()
    for source in machines:
        for target in machines:
            ratio = edp[source, target] / edp[target, target]
            rows.append(Row("search", "transfer", network, f"for {source}", f"on {target}", ratio))
            if source != target:
                off.append(ratio)
    mean = sum(off) / len(off)
    won = sum(
        min(machines, key=lambda each: (edp[each, target], each != target)) == target for target in machines
    )
    return [
        *rows,
        Row("search", "transfer", network, "diagonal", "columns won", won, len(machines), ">="),
        Row("search", "transfer", network, "others", "mean EDP over the diagonal's", mean, MEAN, ">="),
    ]


def transfers(
    searching: Searching, machines: Sequence[str], contract: Contract, trials: int = TRIALS
) -> list[Transfer]:
    """What was chosen for each machine on each; a format that it lacks is run in the next wider one."""
    found: list[Transfer] = []
    for source in machines:
        own = searching.machine(source)
        problem = searching.problem(own)
        chosen = best(searching.run(Exact(name="joint"), contract, own, problem, trials), contract)
        schemes = problem.schemes(chosen.policy)
        drop = searching.judged(schemes).lost
        for target in machines:
            if target == source:
                found.append(Transfer(source, target, chosen.cost, drop))
                continue
            there = searching.machine(target)
            run = {name: chosen.policy[name].scheme for name in searching.groups if name in chosen.policy}
            losses = {name: {scheme: 0.0} for name, scheme in run.items()}
            one = {name: (scheme,) for name, scheme in run.items()}
            on_target = machine_problem(searching.network, one, losses, there.costs)
            policy = closest(on_target, "edp", {}).policy
            cost = policy_cost(searching.network, on_target, policy, there.costs)
            widened = sum(
                there.costs.running(searching.network[name], scheme) != scheme
                for name, scheme in schemes.items()
            )
            found.append(Transfer(source, target, cost, drop, widened))
    return found
