"""Compression and mapping chosen together: the least energy x delay on an accelerator, within a bound.

    python tutorials/choose_together.py [DIR]

Running the library needs the extra `simulate`: pip install 'tersor[simulate]'.
"""

# %%
import sys
from pathlib import Path

from pictures import network, samples

import tersor

EDGE = Path(__file__).parents[1] / "targets" / "machines" / "edge.toml"

# %% [markdown]
# A contract bounds what a plan may take and says what is to be the least of it. Here: at most 2 points of
# accuracy lost, and the least product of energy and time. Bounds on time, energy and size go beside it, and a
# budget: `Contract("edp", max_drop=2, max_latency=1e-3, budget=300)`, in seconds, pJ and bytes.
#
# The settings say how much work the search may be; the defaults are for networks that are not this small.
# With a journal a search that was killed goes on where it was.

# %%
CONTRACT = tersor.Contract("edp", max_drop=2.0)
SETTINGS = tersor.Settings(trials=4, loss_samples=16, effort=300, last_effort=600)


# %%
def search(model: tersor.Model, directory: Path) -> tersor.Searched:
    """Calibrate on 32 pictures; the kinds of 100 others decide."""
    data, _ = samples(32, seed=1)
    others, kinds = samples(100, seed=2)
    found = tersor.search(model, data, CONTRACT, SETTINGS, evaluation=others, labels=kinds)
    found.save(directory)
    return found


# %% [markdown]
# The report says what the chosen plan takes, as its integer library measured it, and whether the contract is
# kept; `report.html` shows all of it. If no plan keeps the contract, the closest is given, and
# `report.binding` names the bound that stands in the way.


# %%
def show(found: tersor.Searched) -> None:
    """Print the chosen plan beside int8 everywhere, and each layer's scheme and loops."""
    report = found.report
    for plan in (report.choice, report.baseline):
        if plan is not None:
            taken = f"{1e6 * plan.of('latency'):.1f} us, {plan.of('energy') / 1e6:.2f} uJ"
            print(f"{plan.name}: {taken}, {plan.drop:.1f} points lost")
    print("the contract is kept" if report.kept else f"the bound on {report.binding} is broken")
    for name, layer in found.plan.layers.items():
        print(f"  {name:<8} {layer.scheme}, {len(layer.mappings)} mapping for {found.report.hardware}")


# %% [markdown]
# Beside the chosen plan there is a front: plans of which none takes less and loses less than another. Each is
# a file, `front-01.json` and so on, that `tersor.compile` or `tersor compress --plan` carries out.


# %%
def carry_out(model: tersor.Model, name: str, directory: Path) -> tersor.Compiled:
    """Compile a plan of the front by its name."""
    data, _ = samples(32, seed=1)
    others, kinds = samples(100, seed=2)
    plan = tersor.Plan.load(directory / f"{name}.json")
    return tersor.compile(model, data, plan, evaluation=others, labels=kinds)


# %%
def main(directory: Path) -> None:
    """Search, look at what was found, and carry out another plan of the front."""
    model = tersor.load_model(network(), hardware=tersor.Hardware.load(EDGE))
    found = search(model, directory)
    show(found)
    front = [plan for plan in found.report.plans if plan.name in found.front]
    print(f"{len(front)} plans from {front[0].of('edp'):.3g} to {front[-1].of('edp'):.3g} pJ s")
    compiled = carry_out(model, front[-1].name, directory)
    totals = compiled.report.totals
    lost = 100 * (totals.accuracy_fp32 - totals.accuracy)
    print(f"{front[-1].name}: {front[-1].drop:.1f} points expected to be lost, {lost:.1f} were")
    print(f"written to {directory}")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("together"))
    except tersor.UserError as error:
        sys.exit(f"error: {error}")
