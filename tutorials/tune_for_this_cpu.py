"""Faster loops for the layers of a network, found by measuring them on the CPU at hand.

python tutorials/tune_for_this_cpu.py [DIR]
"""

# %%
import sys
from pathlib import Path

from pictures import network, samples

import tersor
from tersor.tuning.network import tune_network

BUDGET = 4.0  # seconds; minutes for a real network

# %% [markdown]
# Without measuring, a kernel's loops are chosen by a model of the CPU. Tuning builds and times others, each
# in turn with those, whose results its own must equal, and takes others only if they were faster twice. What
# was measured stays in the directory: a run goes on where the last one ended.


# %%
def tune(model: tersor.Model, data: list, directory: Path) -> tersor.Plan:
    """Measure for a few seconds, print what came of it, and give a plan with the loops that were faster."""
    plan, kernels = tune_network(model, data, "int8", directory, BUDGET)
    for kernel in kernels:
        faster = (
            "the model's loops stay" if kernel.mapping is None else f"{1 / kernel.ratio:.2f} times as fast"
        )
        print(f"  {', '.join(kernel.layers)}: {kernel.measured} mappings measured, {faster}")
    return plan


# %% [markdown]
# The plan holds the faster loops as text, `K=4@cache, P=8@registers, ...`, and whoever carries it out gets
# them. They change no bit of the result.


# %%
def main(directory: Path) -> None:
    """Tune, carry the plan out, and compare its outputs with those of the untuned network."""
    model = tersor.load_model(network())
    data, _ = samples(32, seed=1)
    plan = tune(model, data, directory)
    plan.save(directory / "plan.json")
    tuned = tersor.compile(model, data, tersor.Plan.load(directory / "plan.json"))
    plain = tersor.compile(model, data, "int8", race=False, measure=False)
    equal = all((tuned(each)[0] == plain(each)[0]).all() for each in data)
    print("the tuned network gives the same bits" if equal else "the results DIFFER")
    print(f"written to {directory / 'plan.json'}")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("tuned"))
    except tersor.UserError as error:
        sys.exit(f"error: {error}")
