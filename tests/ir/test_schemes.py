"""A module carries the schemes of its layers through what rewrites it."""

import numpy as np

from tersor.ir.graph import replace_weights
from tersor.ir.schemes import schemes_of, with_schemes
from tersor.scheme import INT8, Scheme
from tests.relax_modules import Net


def test_schemes_are_read_as_they_were_written_and_stay_with_the_module() -> None:
    net = Net((1, 4))
    mod = net.finish(net.dense(net.inputs[0], "fc", np.ones((4, 2), np.float32)))
    assert schemes_of(mod) == {}
    schemes = {"fc.weight": Scheme.parse("w4a8+2:4"), "other": INT8}
    written = with_schemes(mod, schemes)
    assert schemes_of(written) == schemes
    other = replace_weights(written, {"fc.weight": np.zeros((4, 2), np.float32)})
    assert schemes_of(other) == schemes
