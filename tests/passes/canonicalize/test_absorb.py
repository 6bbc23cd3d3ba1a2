import numpy as np
import pytest
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from tersor.frontend.verification import run_plainly
from tersor.ir.graph import weights_of
from tersor.passes.canonicalize import Canonicalize
from tests.canonical_modules import ConvBias, DenseBias, check, with_weights


def test_a_batch_norm_goes_into_the_convolution_before_it():
    @I.ir_module
    class Before:
        @R.function
        def main(
            x: R.Tensor((1, 3, 8, 8), "float32"),
            w: R.Tensor((4, 3, 3, 3), "float32"),
            gamma: R.Tensor((4,), "float32"),
            beta: R.Tensor((4,), "float32"),
            mean: R.Tensor((4,), "float32"),
            var: R.Tensor((4,), "float32"),
        ):
            with R.dataflow():
                c = R.nn.conv2d(x, w, padding=1)
                n = R.nn.batch_norm(c, gamma, beta, mean, var, axis=1, training=False)
                y = n[0]
                R.output(y)
            return y

    check(Before, ConvBias, names=["w", "w.bias"])


def test_a_batch_norm_goes_into_a_bias_too():
    @I.ir_module
    class Before:
        @R.function
        def main(
            x: R.Tensor((1, 3, 8, 8), "float32"),
            w: R.Tensor((4, 3, 3, 3), "float32"),
            b: R.Tensor((4,), "float32"),
            gamma: R.Tensor((4,), "float32"),
            beta: R.Tensor((4,), "float32"),
            mean: R.Tensor((4,), "float32"),
            var: R.Tensor((4,), "float32"),
        ):
            with R.dataflow():
                c = R.nn.conv2d(x, w, padding=1)
                r = R.reshape(b, (1, 4, 1, 1))
                a = R.add(c, r)
                n = R.nn.batch_norm(a, gamma, beta, mean, var, axis=1, training=False)
                y = n[0]
                R.output(y)
            return y

    check(Before, ConvBias, names=["w", "b"])


def test_a_decomposed_batch_norm_goes_in_too():
    @I.ir_module
    class Before:
        @R.function
        def main(
            x: R.Tensor((1, 3, 8, 8), "float32"),
            w: R.Tensor((4, 3, 3, 3), "float32"),
            mean: R.Tensor((1, 4, 1, 1), "float32"),
            std: R.Tensor((1, 4, 1, 1), "float32"),
            gamma: R.Tensor((4,), "float32"),
            beta: R.Tensor((4, 1, 1), "float32"),
        ):
            with R.dataflow():
                c = R.nn.conv2d(x, w, padding=1)
                s = R.subtract(c, mean)
                d = R.divide(s, std)
                g = R.expand_dims(gamma, axis=[1, 2])
                m = R.multiply(g, d)
                y = R.add(beta, m)
                R.output(y)
            return y

    check(Before, ConvBias)


def test_a_batch_norm_stays_apart_from_a_convolution_that_others_read():
    @I.ir_module
    class Before:
        @R.function
        def main(
            x: R.Tensor((1, 3, 8, 8), "float32"),
            w: R.Tensor((4, 3, 3, 3), "float32"),
            gamma: R.Tensor((4,), "float32"),
            beta: R.Tensor((4,), "float32"),
            mean: R.Tensor((4,), "float32"),
            var: R.Tensor((4,), "float32"),
        ):
            with R.dataflow():
                c = R.nn.conv2d(x, w, padding=1)
                n = R.nn.batch_norm(c, gamma, beta, mean, var, axis=1, training=False)
                y = n[0]
                z = R.concat((c, y), axis=1)
                R.output(z)
            return z

    @I.ir_module
    class Expected:
        @R.function
        def main(
            x: R.Tensor((1, 3, 8, 8), "float32"),
            w: R.Tensor((4, 3, 3, 3), "float32"),
            gamma: R.Tensor((1, 4, 1, 1), "float32"),
            beta: R.Tensor((1, 4, 1, 1), "float32"),
        ):
            with R.dataflow():
                c = R.nn.conv2d(x, w, padding=1)
                m = R.multiply(c, gamma)
                y = R.add(m, beta)
                z = R.concat((c, y), axis=1)
                R.output(z)
            return z

    check(Before, Expected, names=["w", "gamma", "beta"])


def test_scalar_factors_of_input_and_output_go_into_the_weight():
    @I.ir_module
    class Before:
        @R.function
        def main(
            x: R.Tensor((2, 6), "float32"), w: R.Tensor((6, 4), "float32"), b: R.Tensor((4,), "float32")
        ):
            with R.dataflow():
                s = R.multiply(x, R.const(0.5, "float32"))
                m = R.matmul(s, w)
                f = R.multiply(m, R.const(3.0, "float32"))
                c = R.multiply(b, R.const(2.0, "float32"))
                y = R.add(f, c)
                R.output(y)
            return y

    check(Before, DenseBias, names=["w", "b"])


def test_a_zero_pad_goes_into_the_convolution():
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((1, 3, 8, 8), "float32"), w: R.Tensor((4, 3, 3, 3), "float32")):
            with R.dataflow():
                p = R.nn.pad(x, (0, 0, 0, 0, 0, 1, 2, 3))
                y = R.nn.conv2d(p, w, padding=(1, 0, 0, 1), strides=2)
                R.output(y)
            return y

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((1, 3, 8, 8), "float32"), w: R.Tensor((4, 3, 3, 3), "float32")):
            with R.dataflow():
                y = R.nn.conv2d(x, w, padding=(1, 2, 1, 4), strides=2)
                R.output(y)
            return y

    check(Before, Expected)


def test_other_pads_stay():
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((1, 3, 8, 8), "float32"), w: R.Tensor((4, 3, 3, 3), "float32")):
            with R.dataflow():
                p = R.nn.pad(x, (0, 0, 0, 0, 1, 1, 1, 1), pad_value=1.0)
                y = R.nn.conv2d(p, w)
                R.output(y)
            return y

    check(Before, Before)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_convolutions_scale_by_output_channel(groups):
    random = np.random.default_rng(groups)
    tensor = relax.TensorType
    params = [
        relax.Var("x", tensor([1, 4, 6, 6], "float32")),
        relax.Var("conv.weight", tensor([8, 4 // groups, 3, 3], "float32")),
        *(relax.Var(f"bn.{part}", tensor([8], "float32")) for part in ("weight", "bias", "mean", "var")),
    ]
    builder = relax.BlockBuilder()
    with builder.function("main", params):
        with builder.dataflow():
            conv = builder.emit(relax.op.nn.conv2d(params[0], params[1], groups=groups))
            norm = builder.emit(relax.op.nn.batch_norm(conv, *params[2:], axis=1, training=False))
            y = builder.emit_output(relax.TupleGetItem(norm, 0))
        builder.emit_func_output(y)
    before = with_weights(builder.finalize(), seed=groups)
    after = Canonicalize()(before)
    assert {name: array.shape for name, array in weights_of(after).items()} == {
        "conv.weight": (8, 4 // groups, 3, 3),
        "conv.bias": (1, 8, 1, 1),
    }
    inputs = {"x": random.normal(size=(1, 4, 6, 6)).astype(np.float32)}
    np.testing.assert_allclose(
        *run_plainly(after, inputs), *run_plainly(before, inputs), rtol=1e-4, atol=1e-4
    )
