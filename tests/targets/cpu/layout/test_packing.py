import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tersor.targets.cpu.host.isa import ISAS, PLAIN, Isa
from tersor.targets.cpu.layout.geometry import Geometry
from tersor.targets.cpu.layout.packing import pack_channels, weight_order

RNG = np.random.default_rng(0)

geometries = st.builds(
    lambda depth, outputs, window, groups, dilation: Geometry(
        1, 9, 9, depth * groups, outputs * groups, window, (1, 1), (0, 0, 0, 0), (1, dilation), groups
    ),
    st.integers(1, 9),
    st.integers(1, 40),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 3),
    st.integers(1, 2),
)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(geometries, st.sampled_from(ISAS), st.integers(1, 4), st.booleans())
def test_every_weight_is_packed_exactly_once(g: Geometry, isa: Isa, vectors: int, integer: bool) -> None:
    count = g.outputs * g.depth * g.window[0] * g.window[1]
    shape = (g.outputs, g.depth, *g.window)
    if integer:
        weight = RNG.choice([-3, -2, -1, 1, 2, 3], shape).astype(np.int8)
    else:
        weight = np.arange(1, count + 1, dtype=np.float32).reshape(shape)
    packed = weight_order(isa, g, vectors, weight.dtype)(weight)
    np.testing.assert_array_equal(np.sort(packed[packed != 0]), np.sort(weight.ravel()))
    assert packed.dtype == weight.dtype


@settings(deadline=None, derandomize=True, max_examples=30)
@given(geometries, st.sampled_from(ISAS))
def test_every_channel_is_packed_exactly_once_in_order(g: Geometry, isa: Isa) -> None:
    values = np.arange(1, g.outputs + 1, dtype=np.int32)
    packed = pack_channels(isa, g, values)
    np.testing.assert_array_equal(packed[packed != 0], values)
    assert packed.size % (isa.lanes * g.groups) == 0


def test_a_packed_weight_is_in_the_order_in_which_a_tile_reads_it() -> None:
    """One vector of four outputs, two pointwise inputs, each input a group of its own."""
    weight = np.array([[1, 2], [3, 4], [5, 6], [7, 8]], np.int8).reshape(4, 2, 1, 1)
    g = Geometry(1, 1, 1, 2, 4)
    packed = weight_order(PLAIN, g, 1, weight.dtype)(weight)
    np.testing.assert_array_equal(packed, [1, 3, 5, 7, 2, 4, 6, 8])
