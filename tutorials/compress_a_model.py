"""From a float network and some data to a library in 8-bit integers, and to a smaller one with 4-bit weights.

python tutorials/compress_a_model.py [DIR]
"""

# %%
import sys
from pathlib import Path

from pictures import network, samples

import tersor
from tersor.recipe import Recipe

# %% [markdown]
# `load_model` takes a file, an `onnx.ModelProto` or a PyTorch module, and compares what it imported with a
# reference executor. Data is anything that yields arrays by input name. By default int8 is raced with fp32 on
# this machine, and what integers make slower stays float; without the race the result depends on model and
# data alone.


# %%
def compress(scheme: str, recipe: Recipe) -> tersor.Compiled:
    """Calibrate on the first 32 pictures, and compare with fp32 on 100 others."""
    model = tersor.load_model(network())
    data, _ = samples(32, seed=1)
    others, kinds = samples(100, seed=2)
    config = tersor.Config(scheme, recipe=recipe)
    return tersor.compile(model, data, config, evaluation=others, labels=kinds, race=False)


# %% [markdown]
# The report says what became of each layer and of the whole. The constants of `w4a8`, 4-bit weights and 8-bit
# inputs, take half of those of `int8`; `gptq` rounds them by what each layer's output loses on the data.


# %%
def show(compiled: tersor.Compiled) -> None:
    """Print each layer's scheme and signal-to-noise ratio, then what the whole network came to."""
    for layer in compiled.report.layers:
        print(f"  {layer.name:<8} {layer.scheme}, {layer.snr_db:.1f} dB")
    totals = compiled.report.totals
    print(f"  constants: {totals.bytes:,} bytes instead of {totals.bytes_fp32:,}")
    print(f"  accuracy: {100 * totals.accuracy:.1f} % instead of {100 * totals.accuracy_fp32:.1f} %")


# %% [markdown]
# `save` writes the library, the plan and the report. A plan can be read, edited and carried out again, from
# Python or by `tersor compress --plan`: from the same plan and data come the same bytes.


# %%
def main(directory: Path) -> None:
    """Compress twice, print both, write the smaller one."""
    for scheme, rounding in (("int8", "nearest"), ("w4a8", "gptq")):
        compiled = compress(scheme, Recipe(rounding=rounding))
        print(f"{scheme}:")
        show(compiled)
    compiled.save(directory)
    plan = tersor.Plan.load(directory / "plan.json")
    print(f"written to {directory}, with a plan for {', '.join(plan.layers)}")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("pictures"))
    except tersor.UserError as error:
        sys.exit(f"error: {error}")
