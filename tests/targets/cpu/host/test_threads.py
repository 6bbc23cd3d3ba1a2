"""Small kernels run in the thread that calls them, large ones are shared."""

import pytest

from tersor.targets.cpu.host.isa import AVX2, ISAS, Isa
from tersor.targets.cpu.host.threads import GRAIN, worth_sharing, worth_sharing_elements
from tersor.targets.cpu.kernels.conv2d import conv2d
from tersor.targets.cpu.kernels.depthwise import default_depthwise_tiling, depthwise
from tersor.targets.cpu.kernels.epilogue import Activation
from tersor.targets.cpu.kernels.interleave import interleave
from tersor.targets.cpu.layout.geometry import Geometry
from tersor.targets.cpu.mapping.tiling import default_tiling

SMALL = Geometry(1, 7, 7, 8, 8, (3, 3), padding=(1, 1, 1, 1))
LARGE = Geometry(1, 56, 56, 64, 64, (3, 3), padding=(1, 1, 1, 1))


def channelwise(size: int, channels: int) -> Geometry:
    return Geometry(1, size, size, channels, channels, (3, 3), padding=(1, 1, 1, 1), groups=channels)


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("integer", [False, True])
def test_the_default_tiling_shares_a_large_convolution_and_not_a_small_one(isa: Isa, integer: bool) -> None:
    assert not default_tiling(isa, SMALL, 2, integer).parallel
    assert not default_tiling(isa, LARGE, 1, integer).parallel
    assert default_tiling(isa, LARGE, 2, integer).parallel


def test_the_default_tiling_shares_a_large_depthwise_layer_and_not_a_small_one() -> None:
    assert not default_depthwise_tiling(AVX2, channelwise(7, 16), 2, True).parallel
    assert default_depthwise_tiling(AVX2, channelwise(112, 96), 2, True).parallel


def test_a_kernel_has_a_parallel_loop_only_if_its_tiling_says_so() -> None:
    for g, parallel in ((SMALL, False), (LARGE, True)):
        text = conv2d(AVX2, g, default_tiling(AVX2, g, 2, False), Activation()).script()
        assert ("T.parallel(" in text) == parallel
    for g, parallel in ((channelwise(7, 16), False), (channelwise(112, 96), True)):
        text = depthwise(AVX2, g, default_depthwise_tiling(AVX2, g, 2, False), Activation()).script()
        assert ("T.parallel(" in text) == parallel
    for size, parallel in ((32, False), (224, True)):
        assert ("T.parallel(" in interleave((1, 3, size, size), AVX2).script()) == parallel


def test_more_work_is_never_less_worth_sharing() -> None:
    shared = [worth_sharing(AVX2, 1 << power, integer=False) for power in range(30)]
    assert shared == sorted(shared)
    assert {False, True} == set(shared)
    elements = [worth_sharing_elements(8, 1 << power, 10) for power in range(30)]
    assert elements == sorted(elements)
    assert {False, True} == set(elements)


def test_integers_are_multiplied_faster_so_more_of_them_are_worth_sharing() -> None:
    at = next(macs for macs in range(0, 1 << 24, 4096) if worth_sharing(AVX2, macs, integer=False))
    assert not worth_sharing(AVX2, at, integer=True)
    assert GRAIN > 10e-6  # s: what a region costs where a core is shared with another process
