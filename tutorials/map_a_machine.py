"""A machine of one's own in TOML, a network mapped to it and executed on it, and what each layer waits for.

    python tutorials/map_a_machine.py [MODEL.onnx]

Without a model it takes a small network. docs/machines.md has all keys of a machine. Executing needs the
extra `simulate`: pip install 'tersor[simulate]'.
"""

# %%
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

import tersor
from tersor.compiler import calibrated_plan, silent
from tersor.hardware import Hardware
from tersor.machine_map import MachineMap, map_network
from tersor.machine_run import MachineRun
from tersor.passes.extract import extract
from tersor.scheme import Scheme
from tersor.simulate import simulate_network

# %% [markdown]
# An array of 8 x 8 units that multiply 8-bit integers. Along `rows` they spread input channels and filter
# taps, whose products add up on their way out; along `columns` outputs, to which one read of the buffer sends
# each input. Energies need a source: these are those of M. Horowitz, ISSCC 2014, 45 nm.

# %%
MACHINE = """
name = "small"
clock = "200 MHz"
axes = [
  { name = "rows", size = 8, inside = "buffer", unrolls = ["C", "R", "S"], reduces = true },
  { name = "columns", size = 8, inside = "buffer", unrolls = ["K", "P"], multicast = ["weight", "input"] },
]

[datapath]
mode = "packed"    # a unit multiplies 8-bit factors, or twice as many of 4 bits
word = 8

[[compute]]
precision = "int8"
macs_per_cycle = 64
energy_per_mac = "0.3 pJ"
source = "Horowitz 2014: 8-bit multiply and 32-bit add"

[[compute]]
precision = "int4"
macs_per_cycle = 128
energy_per_mac = "0.15 pJ"
source = "Horowitz 2014, a quarter of the multiply"

[[memories]]       # from the outermost to the innermost
name = "dram"
size = "64 MiB"
bandwidth = "800 MB/s"
energy_per_byte = "160 pJ"
source = "Horowitz 2014: 640 pJ for 32 bits"

[[memories]]
name = "buffer"
size = "64 KiB"
bandwidth = "12.8 GB/s"
double_buffered = true
energy_per_byte = "2.5 pJ"
source = "Horowitz 2014: 20 pJ for 64 bits of a 32 KB SRAM"

[[memories]]       # one in each unit: it lies inside of the axes
name = "register"
size = "16 B"
bandwidth = "4 GB/s"
keeps = ["weight", "output"]
energy_per_byte = "0.25 pJ"
source = "Han et al., NIPS 2015: register file, 1 pJ for 32 bits"
"""


def machine() -> Hardware:
    """Read the description, as `tersor map --hardware FILE` does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.toml"
        path.write_text(MACHINE)
        return Hardware.load(path)


# %% [markdown]
# Three convolutions of an image of 32 x 32, averages, and a dense layer, with random weights.


# %%
def small_network() -> onnx.ModelProto:
    """Write the network as ONNX."""
    random = np.random.default_rng(0)
    shapes = {
        "first": (16, 3, 3, 3),
        "depthwise": (16, 1, 3, 3),
        "pointwise": (32, 16, 1, 1),
        "classes": (512, 100),
    }
    weights = {
        name: random.normal(0, np.sqrt(2 / np.prod(shape[-1 if len(shape) == 2 else 1 :])), shape)
        for name, shape in shapes.items()
    }
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "depthwise"], ["c"], pads=[1, 1, 1, 1], group=16),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "pointwise"], ["e"]),
        helper.make_node("AveragePool", ["e"], ["f"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["f"], ["g"]),
        helper.make_node("MatMul", ["g", "classes"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 100])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


# %% [markdown]
# The model of the machine predicts what each layer takes, by the best way to run it that the mapper finds.


# %%
def show(found: MachineMap, hardware: Hardware) -> None:
    """Print cycles, use of the array, what is at work the longest, and what takes the most energy."""
    print(f"{found.scheme}: {1e3 * found.cycles / hardware.clock:.2f} ms, {found.energy / 1e6:.1f} uJ")
    for layer in found.layers:
        dearest = max(layer.energy_by, key=lambda level: layer.energy_by[level])
        used = f"{100 * layer.utilisation:3.0f} % of the array"
        cycles = f"{layer.cycles:>10,.0f} cycles"
        print(f"  {layer.name:<12} {cycles}, {used}, bound by {layer.bound_by}, most energy in {dearest}")
    for name, reason in found.refused.items():
        print(f"  {name} does not run: {reason}")


# %% [markdown]
# With half the bits, what the array bounds gets faster, and what DRAM bounds as well, since half as much
# moves. The loop tree at the end says where a layer's loops are and what is kept where.


# %%
def predict(model: str | onnx.ModelProto, hardware: Hardware) -> None:
    """Map the network in 8 and in 4 bits, and show where its slowest layer's loops went."""
    network = extract(tersor.import_model(model))
    maps = [map_network(network, hardware, Scheme.parse(text), "latency") for text in ("int8", "int4")]
    for found in maps:
        show(found, hardware)
    slowest = max(maps[0].layers, key=lambda layer: layer.cycles)
    print(f"{slowest.name} in int8:\n{slowest.tree}")


# %% [markdown]
# Now nobody has to believe the model. The network is compressed to 8 bits, its layers become programs of the
# machine, and the simulator executes them on data, tile by tile: it moves every byte, makes every product and
# waits where the machine would. What comes out has to have the bits of the same network on this CPU. `stalls`
# says for what a layer waited: `output@register` for registers whose last sums are still on their way out,
# `dram port` for DRAM that units read themselves. With what bounds a layer it tells an architect which number
# of the description to change.


# %%
def execute(model: str | onnx.ModelProto, hardware: Hardware) -> MachineRun:
    """Run the network in 8 bits on random data, on the simulated machine and on the CPU."""
    loaded = tersor.load_model(model, hardware=hardware)
    random = np.random.default_rng(0)
    data = [
        {name: random.normal(size=shape).astype(dtype) for name, (shape, dtype) in loaded.inputs.items()}
        for _ in range(4)
    ]
    plan, statistics = calibrated_plan(loaded, data, [], "int8", len(data), silent)
    return simulate_network(loaded, hardware, plan, statistics, data[:1])


def show_run(run: MachineRun) -> None:
    """Print cycles, how far the prediction was off, the longest stall, and whether the bits are right."""
    print(f"executed: {run.cycles:,.0f} cycles, {100 * run.share:.0f} % of the products on {run.hardware}")
    for layer in run.layers:
        reason = max(layer.stalls, key=lambda each: layer.stalls[each], default="nothing")
        waited = 100 * layer.stalls.get(reason, 0.0) / layer.cycles
        error = "" if layer.predicted is None else f", predicted {layer.predicted.cycles:,.0f}"
        print(f"  {layer.name:<14} {layer.cycles:>9,.0f} cycles{error}, {waited:.0f} % waiting for {reason}")
    print("  outputs equal those of the CPU, bit for bit" if run.exact else "  outputs are WRONG")


# %%
def main(model: str | None = None) -> None:
    """Predict, then execute."""
    hardware, network = machine(), model or small_network()
    predict(network, hardware)
    show_run(execute(network, hardware))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:2])
    except tersor.UserError as error:
        sys.exit(f"error: {error}")
