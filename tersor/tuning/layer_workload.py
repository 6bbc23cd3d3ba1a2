"""Layer workload: the kernel that a layer gets in the middle of a network, from the layer alone.

A plain weight has its analytic kernel, its tiling and its epilogue as most layers have them: codes in and
out for int8, floats for fp32, nothing added. An image is stored with the halo that its convolution reads in
place, if that pays; the operands of a product lie as they are.
"""

from dataclasses import replace

from tersor.factor import input_size
from tersor.layer import Layer
from tersor.targets.cpu.calls import Use
from tersor.targets.cpu.halo_plan import gains
from tersor.targets.cpu.host.detect import Host
from tersor.targets.cpu.kernels.choice import choose_kernel, dense_geometry
from tersor.targets.cpu.kernels.epilogue import Activation, Epilogue, Requantize
from tersor.targets.cpu.kernels.product import ProductKernel
from tersor.targets.cpu.layout.geometry import Geometry
from tersor.targets.cpu.layout.halo import Halo, Halos
from tersor.targets.cpu.layout.views import View
from tersor.targets.cpu.mapping.nest import CONVOLUTION, DENSE
from tersor.tuning.kernel_family import Precision
from tersor.tuning.workload import Workload

_ZERO_POINT = 5  # of the codes; any but 0, which would leave work out


def workload_of(layer: Layer, precision: Precision, host: Host) -> Workload:
    """Give the workload of a convolution, a dense layer or a product of activations.

    Raises ValueError for a table and a recurrent layer, which no kernel of these computes.
    """
    if layer.operator == "gather" or layer.recurrent:
        raise ValueError(f"{layer.name} is no convolution and no product")
    epilogue = Requantize(3, bounded=True) if precision == "int8" else Activation()
    if layer.operator == "conv2d":
        use = _convolution(layer, epilogue, host)
    elif layer.weight_bearing:
        use = _dense(layer, epilogue, host)
    else:
        use = _product(layer, epilogue, host)
    return Workload.of(use, free=True)


def _convolution(layer: Layer, epilogue: Epilogue, host: Host) -> Use:
    height, width = input_size(layer)
    g = Geometry(
        layer.N,
        height,
        width,
        layer.G * layer.C,
        layer.G * layer.K,
        (layer.R, layer.S),
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.G,
    )
    kernel = choose_kernel(host.isa, host.cores, g, epilogue, _zero_point(epilogue))
    halo = Halo(layer.padding)
    if any(layer.padding) and gains(kernel, halo):
        kernel = replace(kernel, halos=Halos(input=halo))
    shapes = (g.batch, *kernel.halos.source(g).shape), (g.batch, *kernel.target.shape)
    return Use(layer.name, kernel, kernel.nest(CONVOLUTION), *shapes)


def _dense(layer: Layer, epilogue: Epilogue, host: Host) -> Use:
    g = dense_geometry((layer.N, layer.C), layer.K)
    kernel = choose_kernel(host.isa, host.cores, g, epilogue, _zero_point(epilogue))
    return Use(layer.name, kernel, kernel.nest(DENSE), (layer.N, layer.C), (layer.N, layer.K))


def _product(layer: Layer, epilogue: Epilogue, host: Host) -> Use:
    left, right = View.of((layer.G, layer.N, layer.C)), View.of((layer.G, layer.C, layer.K))
    out = View.of((layer.G, layer.N, layer.K))
    isa = host.isa.vector_unit
    kernel = ProductKernel(isa, host.cores, left, right, out, epilogue, _zero_point(epilogue))
    return Use(layer.name, kernel, kernel.nest)


def _zero_point(epilogue: Epilogue) -> int:
    return _ZERO_POINT if epilogue.accumulator == "int32" else 0
