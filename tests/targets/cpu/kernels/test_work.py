"""The work of a kernel grows with what it does, and is never less than its products need."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tersor.layer import Layer
from tersor.targets.cpu.host.detect import NOMINAL_CLOCK, Host, macs_per_cycle
from tersor.targets.cpu.host.isa import ISAS, Isa
from tersor.targets.cpu.kernels.work import CACHE, CALL, Work, work_of
from tersor.tuning.kernel_family import Precision
from tersor.tuning.layer_workload import workload_of

CONV = Layer("conv", "conv2d", K=64, C=32, P=28, Q=28, R=3, S=3, padding=(1, 1, 1, 1))
LAYERS = (
    CONV,
    Layer("depthwise", "conv2d", G=48, P=14, Q=14, R=3, S=3, padding=(1, 1, 1, 1)),
    Layer("dense", "matmul", N=16, C=96, K=200),
    Layer("product", "matmul", G=4, N=32, C=16, K=32, weight_bearing=False),
)


def work(layer: Layer, precision: Precision = "int8", isa: Isa = ISAS[-2]) -> Work:
    return work_of(workload_of(layer, precision, Host(isa, 1)).kernel)


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_products_take_at_least_what_the_instruction_set_needs(layer: Layer, isa: Isa) -> None:
    for precision in ("int8", "fp32"):
        rate = macs_per_cycle(isa, precision)
        assert work(layer, precision, isa).multiply >= 0.99 * layer.macs / rate


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(LAYERS))
def test_more_channels_are_no_less_work(some: int, more: int, layer: Layer) -> None:
    small, large = sorted((some, more))
    few, many = (
        replace(layer, G=count) if layer.is_depthwise else replace(layer, C=count) for count in (small, large)
    )
    assert sum(work(few).parts) <= sum(work(many).parts) + 1


def test_channels_that_fill_no_vector_take_a_whole_one() -> None:
    assert work(replace(CONV, K=57)).multiply == work(replace(CONV, K=64)).multiply


def test_images_stay_in_a_cache_or_do_not() -> None:
    small, large = work(CONV, "int8"), work(replace(CONV, P=112, Q=112), "int8")
    assert (small.far, large.near) == (0, 0)
    assert large.far > CACHE / 100
    assert small.near > 0


def test_only_products_of_activations_pack_an_operand() -> None:
    assert [work(layer).pack > 0 for layer in LAYERS] == [False, False, False, True]


def test_cores_share_all_but_the_call() -> None:
    each = work(CONV)
    one, two = (each.seconds(cores) * NOMINAL_CLOCK for cores in (1, 2))
    assert one == pytest.approx(sum(each.parts))
    assert two - CALL == pytest.approx((one - CALL) / 2)
