"""The kernel of a layer that is known by its loops alone is the one it gets in the middle of a network."""

import pytest

from tersor.layer import Layer
from tersor.targets.cpu.host.detect import detect
from tersor.targets.cpu.kernels.choice import Kernel
from tersor.targets.cpu.kernels.product import ProductKernel
from tersor.tuning.kernel_family import Precision
from tersor.tuning.layer_workload import workload_of

HOST = detect("plain", cores=1)
CONV = Layer("a", "conv2d", K=16, C=8, P=5, Q=7, R=3, S=3, stride=(2, 2), padding=(1, 1, 1, 1))


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_a_convolution_keeps_its_loops(precision: Precision) -> None:
    g = workload_of(CONV, precision, HOST).nest.geometry
    assert (g.out_height, g.out_width, g.channels, g.outputs, g.window) == (5, 7, 8, 16, (3, 3))
    assert g.macs == CONV.macs


def test_a_halo_is_stored_where_the_kernel_then_copies_nothing() -> None:
    kernel = workload_of(CONV, "fp32", HOST).kernel
    assert isinstance(kernel, Kernel)
    assert kernel.reads_in_place
    assert kernel.halos.input.sides == (1, 1, 1, 1)


def test_a_depthwise_layer_has_the_depthwise_kernel() -> None:
    layer = Layer("a", "conv2d", G=32, P=6, Q=6, R=3, S=3, padding=(1, 1, 1, 1))
    workload = workload_of(layer, "int8", HOST)
    assert workload.nest.geometry.is_depthwise
    assert workload.nest.geometry.macs == layer.macs


def test_a_dense_layer_and_a_product_keep_theirs() -> None:
    dense = Layer("a", "matmul", N=4, C=24, K=10)
    product = Layer("a", "matmul", G=3, N=4, C=24, K=10, weight_bearing=False)
    for layer in (dense, product):
        workload = workload_of(layer, "fp32", HOST)
        assert workload.nest.geometry.macs == layer.macs
        assert isinstance(workload.kernel, ProductKernel) == (not layer.weight_bearing)


def test_layers_that_differ_in_name_are_one_workload() -> None:
    first, second = (workload_of(Layer(name, "matmul", N=4, C=24, K=10), "int8", HOST) for name in "ab")
    assert first == second


@pytest.mark.parametrize(
    "layer", [Layer("t", "gather", N=4, K=8, C=100), Layer("r", "matmul", K=8, C=8, recurrent=True)]
)
def test_what_no_such_kernel_computes_is_refused(layer: Layer) -> None:
    with pytest.raises(ValueError, match=f"{layer.name} is no convolution and no product"):
        workload_of(layer, "int8", HOST)
