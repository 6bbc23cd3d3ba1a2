import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from tersor.frontend.verification import run_plainly
from tersor.passes.canonicalize import Canonicalize
from tests.canonical_modules import structure, with_weights


def test_clips_take_one_form():
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((4, 64), "float32")):
            with R.dataflow():
                a = R.maximum(x, R.const(0.0, "float32"))
                b = R.minimum(a, R.const(1.0, "float32"))
                c = R.clip(x, R.prim_value(T.float64(0.0)), R.prim_value(T.float64(float("inf"))))
                d = R.nn.relu(x)
                e = R.minimum(R.const(0.5, "float32"), d)
                f = R.clip(x, R.prim_value(T.float64(-1.0)), R.prim_value(T.float64(0.25)))
                g = R.nn.relu(f)
                R.output(b, c, e, g)
            return (b, c, e, g)

    after = Canonicalize()(with_weights(Before))
    text = [line.split(" = ")[1] for line in structure(after).script().splitlines() if " = R." in line]
    assert text == [
        "R.clip(x, T.float64(0.0), T.float64(1.0))",
        "R.nn.relu(x)",
        "R.clip(x, T.float64(0.0), T.float64(0.5))",
        "R.clip(x, T.float64(0.0), T.float64(0.25))",
    ]
    inputs = {"x": np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)}
    for result, reference in zip(
        run_plainly(after, inputs), run_plainly(with_weights(Before), inputs), strict=True
    ):
        np.testing.assert_array_equal(result, reference)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=2, max_size=2), st.lists(st.floats(-3, 3), min_size=2, max_size=2))
def test_a_clip_of_a_clip_is_the_clip_of_its_bounds(inner, outer):
    (low, high), (lower, upper) = sorted(inner), sorted(outer)
    x = np.linspace(-4, 4, 201)
    merged = [min(max(bound, lower), upper) for bound in (low, high)]
    np.testing.assert_array_equal(np.clip(np.clip(x, low, high), lower, upper), np.clip(x, *merged))
