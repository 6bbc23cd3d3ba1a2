"""A machine of one's own in TOML, a network mapped to it, and what each layer waits for.

    python tutorials/map_a_machine.py [MODEL.onnx]

Without a model it maps four layers of a small network. docs/machines.md has all keys of a machine.
"""

# %%
import sys
import tempfile
from pathlib import Path

import tersor
from tersor.hardware import Hardware
from tersor.layer import Layer
from tersor.machine_map import MachineMap, map_network
from tersor.network import Network
from tersor.passes.extract import extract
from tersor.scheme import Scheme

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
# A network is layers: N images, G groups, K outputs, C inputs, a P x Q output and an R x S filter. Those of a
# model file come from `extract`.

# %%
SMALL = Network(
    (
        Layer("first", "conv2d", K=16, C=3, P=32, Q=32, R=3, S=3, padding=(1, 1, 1, 1)),
        Layer("depthwise", "conv2d", G=16, P=32, Q=32, R=3, S=3, padding=(1, 1, 1, 1)),
        Layer("pointwise", "conv2d", K=32, C=16, P=32, Q=32),
        Layer("classes", "matmul", K=100, C=512),
    )
)


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
def main(model: str | None = None) -> None:
    """Map the network in 8 and in 4 bits, and show where its slowest layer's loops went."""
    hardware = machine()
    network = SMALL if model is None else extract(tersor.import_model(model))
    maps = [map_network(network, hardware, Scheme.parse(text), "latency") for text in ("int8", "int4")]
    for found in maps:
        show(found, hardware)
    slowest = max(maps[0].layers, key=lambda layer: layer.cycles)
    print(f"{slowest.name} in int8:\n{slowest.tree}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:2])
    except tersor.UserError as error:
        sys.exit(f"error: {error}")
