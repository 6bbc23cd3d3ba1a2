"""A small convolution to tune, in integers and in floats."""

from dataclasses import replace
from typing import Any

from tersor.targets.cpu.calls import Use
from tersor.targets.cpu.host.detect import detect
from tersor.targets.cpu.kernels.choice import choose_kernel
from tersor.targets.cpu.kernels.epilogue import Activation, Epilogue, Requantize
from tersor.targets.cpu.layout.geometry import Geometry
from tersor.targets.cpu.mapping.nest import CONVOLUTION
from tersor.tuning.workload import Workload, workloads

HOST = detect(cores=1)
GEOMETRY = Geometry(1, 6, 6, 8, 24, (3, 3), padding=(1, 1, 1, 1))


def use(layer: str = "conv", epilogue: Epilogue | None = None, **changes: Any) -> Use:
    g = replace(GEOMETRY, **changes)
    kernel = choose_kernel(HOST.isa, 1, g, epilogue or Requantize(9, (9, 200)), 17)
    shapes = (g.batch, g.height, g.width, g.channels), (g.batch, g.out_height, g.out_width, g.outputs)
    return Use(layer, kernel, kernel.nest(CONVOLUTION), *shapes)


def workload(epilogue: Epilogue | None = None) -> Workload:
    (found,) = workloads([use(epilogue=epilogue)])
    return found


FLOAT = Activation(None, None)
