import numpy as np
import pytest
import tvm
from tvm import relax

from tersor.ir.chains import find_chains
from tersor.ir.graph import Graph, expose, shape_of
from tersor.lowering import build
from tersor.passes.integerize import integerize
from tersor.passes.quantization.quantize import quantize
from tersor.scheme import INT8
from tersor.targets.cpu.host.detect import detect
from tersor.targets.cpu.host.isa import AVX2, AVX512_VNNI, Isa
from tersor.targets.cpu.lowering import lower
from tests.relax_modules import Net, he, residual_net, run, samples, schemes_for, statistics_of

HOST = detect(cores=1)
WITH_HALO = (1, 8, 8, 16)


def net(pooled: bool = False, padding: int = 1) -> tvm.IRModule:
    """[1, 8, 6, 6]: pointwise to 16 channels, depthwise 3x3, pointwise; the first result is maybe pooled."""
    rng, net = np.random.default_rng(0), Net((1, 8, 6, 6))
    a = net.conv(net.inputs[0], "a", he(rng, 16, 8, 1, 1))
    b = net.conv(a, "b", he(rng, 16, 1, 3, 3), padding=[padding] * 4, groups=16)
    c = net.conv(b, "c", he(rng, 8, 16, 1, 1))
    pool = [net.emit(relax.op.nn.max_pool2d(a, [2, 2], [2, 2]))] if pooled else []
    return net.finish(c, *pool)


def shapes(mod: tvm.IRModule, isa: Isa = HOST.isa) -> list[tuple[int, ...]]:
    return [shape_of(var) for var, _ in Graph(lower(mod, isa, 1).mod).bindings]


def test_what_a_padded_layer_reads_has_a_halo() -> None:
    assert WITH_HALO in shapes(net())


@pytest.mark.parametrize("mod", [net(pooled=True), net(padding=0)], ids=["pooled, too", "no padding"])
def test_what_others_read_or_nobody_pads_has_none(mod: tvm.IRModule) -> None:
    assert all(shape == (1, 6, 6, 16) for shape in shapes(mod) if shape[3:] == (16,) and shape[1] >= 6)


def test_an_output_has_one_and_loses_it_on_the_way_out() -> None:
    mod = net()
    plain = Graph(mod)
    first = next(chain.result for chain in find_chains(plain) if chain.layer == "a.weight")
    exposed = expose(mod, [first, plain.outputs[0]])
    assert WITH_HALO in shapes(exposed)
    (x,) = samples(1, 8, 6, 6)[:1]
    machine = relax.VirtualMachine(build(lower(exposed, HOST.isa, 1), HOST), tvm.cpu())
    ours = [each.numpy() for each in machine["main"](tvm.runtime.tensor(x))]
    for got, expected in zip(ours, run(exposed, x), strict=True):
        assert got.shape == expected.shape
        assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


def test_codes_have_one_where_a_convolution_reads_them_in_place() -> None:
    x = samples(1, 8, 10, 10)
    floats = residual_net()
    mod = integerize(quantize(floats, schemes_for(floats, INT8), statistics_of(floats, x)))
    assert (1, 12, 12, 8) in shapes(mod, AVX512_VNNI)
    assert (1, 12, 12, 8) not in shapes(mod, AVX2)  # widens its input to a copy anyhow


def test_the_network_computes_the_same() -> None:
    for mod, x in ((net(), samples(1, 8, 6, 6)[0]), (residual_net(), samples(1, 8, 10, 10)[0])):
        machine = relax.VirtualMachine(build(lower(mod, HOST.isa, 1), HOST), tvm.cpu())
        ours = machine["main"](tvm.runtime.tensor(x)).numpy()
        (plain,) = run(mod, x)
        assert np.abs(ours - plain).max() <= 1e-5 * np.abs(plain).max()
