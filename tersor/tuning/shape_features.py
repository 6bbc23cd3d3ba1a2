"""Shape features: what describes a kernel to a regression beside the work that it does."""

from math import log

import numpy as np

from tersor.targets.cpu.kernels.product import ProductKernel
from tersor.targets.cpu.kernels.work import work_of
from tersor.tuning.regression import Array, Kernels
from tersor.tuning.workload import Workload

# The least share of its work that a part has in the eyes of a regression.
LEAST_SHARE = 0.01


def kernels_of(workloads: list[Workload]) -> Kernels:
    """Describe kernels of one family in their analytic tilings."""
    parts = np.array([work_of(each.kernel).parts for each in workloads])
    return Kernels(
        parts, np.array([_features(each, row) for each, row in zip(workloads, parts, strict=True)])
    )


def _features(workload: Workload, parts: Array) -> list[float]:
    g, t, lanes = workload.nest.geometry, workload.default, workload.kernel.isa.lanes
    channels = g.channels if g.is_depthwise else g.group_outputs
    vectors = -(-channels // lanes)
    row = g.out_width if g.is_depthwise else min(t.rows, g.out_height) * g.out_width
    pixels = min(t.pixels, row)
    weights = g.outputs * g.depth * g.window[0] * g.window[1]
    inputs = g.batch * g.height * g.width * g.channels
    outputs = g.batch * g.out_height * g.out_width * g.outputs
    shares = parts / parts.sum()
    return [
        log(parts.sum()),
        *np.log(shares + LEAST_SHARE),
        log(weights),
        log(inputs),
        log(outputs),
        log(g.macs / (weights + inputs + outputs)),
        log(g.run_length * len(g.runs)),  # products of a sum
        log(pixels * t.vectors),  # sums of a register tile
        channels / (vectors * lanes),  # occupancy of the lanes
        (vectors % t.vectors) / vectors,  # channels in a narrower tile
        row / (-(-row // pixels) * pixels),  # pixels that are not computed twice
        float(g.window[0]),
        float(g.stride[0]),
        log(g.batch * -(-g.out_height // t.rows) * t.parts),  # tasks
        float(isinstance(workload.kernel, ProductKernel)),
        float(workload.kernel.isa.tiles),  # which unit multiplies
    ]
