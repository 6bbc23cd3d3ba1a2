"""Chooser: one packing for each weight, whatever the layers that use it."""

from tersor.ir.graph import Graph
from tersor.targets.cpu.chooser import Chooser
from tersor.targets.cpu.host.isa import AVX2
from tersor.targets.cpu.mapping.planned import PlannedMappings
from tersor.targets.cpu.partition import partition
from tests.relax_modules import Net
from tests.targets.cpu.lowered_networks import conv


def test_all_uses_of_a_weight_read_one_packing_of_it() -> None:
    net = Net((1, 32, 40, 40))
    large = conv(net, net.inputs[0], "w", 32, 32, strides=[8, 8])
    graph = Graph(net.finish(conv(net, large, "w", 32, 32)))
    chooser = Chooser(AVX2, 1, {}, PlannedMappings({}))
    first, second = (chooser.convolution(each) for each in partition(graph).values())
    assert first.geometry != second.geometry
    assert chooser.packing == {"w.weight": first.packing} == {"w.weight": second.packing}
