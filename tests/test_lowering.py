"""From kernels to executables: what is left out changes nothing, and who watches sees the passes."""

from typing import Any

import numpy as np
import pytest
import tvm

import tersor
from tersor.ir.join import join
from tersor.lowering import finish
from tersor.model import Model
from tersor.runner import Runner
from tersor.targets.cpu.host.detect import detect
from tests.models import masked_attention, mlp, pool_net


@pytest.mark.parametrize("network", [masked_attention, pool_net])
def test_passes_that_are_left_out_change_no_result(network: Any) -> None:
    shapes = {"x": (1, 6, 16), "mask": (1, 6)} if network is masked_attention else None
    model = tersor.load_model(network(), shapes, check=False)
    sample = model.buckets.largest.draw()
    (lowered,) = model.lowered_alike([model.mod])
    everything = tvm.transform.module_pass(lambda m, _: finish(m, model.host), opt_level=0)
    complete = tvm.compile(join({"main": lowered.mod}), model.host.target, relax_pipeline=everything)
    expected = Runner(complete, model.inputs)(sample)
    for got, result in zip(model.float_runner(sample), expected, strict=True):
        assert np.array_equal(got, result)


def test_the_passes_of_the_context_around_a_build_are_watched() -> None:
    seen: list[str] = []

    @tvm.ir.instrument.pass_instrument
    class Watching:
        def run_before_pass(self, _mod: object, info: Any) -> None:
            seen.append(info.name)

    mod = tersor.import_model(mlp())
    model = Model("mlp", mod, detect())
    with tvm.transform.PassContext(instruments=[Watching()]):
        model.compiled([mod])
    assert "tersor.schedule" in seen
