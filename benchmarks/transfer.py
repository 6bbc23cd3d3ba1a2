"""Transfer: policies that were searched for one machine, run on others."""

from collections.abc import Sequence

from joint import TRIALS
from rows import Row
from searching import Searching

from tersor.autoscheduler.comparison import transfers
from tersor.scheduler.contract import Contract
from tersor.scheduler.strategies.exact import Exact

MEAN = 1.2  # times the best of its column


def transfer(
    searching: Searching, machines: Sequence[str], contract: Contract, trials: int = TRIALS
) -> list[Row]:
    """Energy times time of each machine's policy on each, over that of the machine's own, and the goals."""
    comparison = searching.comparison(contract, trials)
    own = searching.machine(machines[0])
    problem = comparison.problem(own)
    first = comparison.chosen(own, problem, comparison.search(own, problem, Exact()))
    others = [searching.machine(name).costs.hardware for name in machines[1:]]
    found = transfers(comparison.also(first, others, Exact()), searching.network, contract)
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
