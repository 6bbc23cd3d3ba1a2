import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from tersor.frontend.verification import run_plainly
from tersor.ir.graph import weights_of
from tersor.passes.canonicalize import Canonicalize


def with_weights(mod, values=None, inputs=1, seed=0):
    """Make all parameters of `main` after the inputs weights, of these values or seeded random ones."""
    random = np.random.default_rng(seed)
    function = mod["main"]
    tensors = []
    for var in function.params[inputs:]:
        shape = [int(n) for n in var.ty.shape]
        drawn = (values or {}).get(var.name, random.uniform(0.5, 1.5, shape))
        tensors.append(tvm.runtime.tensor(np.broadcast_to(drawn, shape).astype(str(var.ty.dtype))))
    result = tvm.IRModule(dict(mod.functions.items()))
    attrs = {"num_input": inputs, "params": tensors}
    result.update_func(result.get_global_var("main"), function.with_attrs(attrs))
    return result


def structure(mod):
    """Strip the values of the weights and the builder's alias for the output."""
    mod = relax.transform.CanonicalizeBindings()(mod)
    function = mod["main"].without_attr("params").without_attr("num_input")
    result = tvm.IRModule(dict(mod.functions.items()))
    result.update_func(result.get_global_var("main"), function)
    return result


def check(before, expected, values=None, names=None):
    """Canonicalize `before`: the structure is as expected, and the numbers stay."""
    before = with_weights(before, values)
    after = Canonicalize()(before)
    tvm.ir.assert_structural_equal(structure(after), structure(expected), map_free_vars=True)
    assert names is None or list(weights_of(after)) == names
    shape = [int(n) for n in before["main"].params[0].ty.shape]
    inputs = {before["main"].params[0].name: np.random.default_rng(1).normal(size=shape).astype(np.float32)}
    for result, reference in zip(run_plainly(after, inputs), run_plainly(before, inputs), strict=True):
        np.testing.assert_allclose(result, reference, rtol=1e-4, atol=1e-4)
    tvm.ir.assert_structural_equal(Canonicalize()(after), after)
    return after


@I.ir_module
class ConvBias:
    @R.function
    def main(
        x: R.Tensor((1, 3, 8, 8), "float32"),
        w: R.Tensor((4, 3, 3, 3), "float32"),
        b: R.Tensor((1, 4, 1, 1), "float32"),
    ):
        with R.dataflow():
            c = R.nn.conv2d(x, w, padding=1)
            y = R.add(c, b)
            R.output(y)
        return y


@I.ir_module
class DenseBias:
    @R.function
    def main(x: R.Tensor((2, 6), "float32"), w: R.Tensor((6, 4), "float32"), b: R.Tensor((4,), "float32")):
        with R.dataflow():
            m = R.matmul(x, w)
            y = R.add(m, b)
            R.output(y)
        return y


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


def test_a_dense_layer_stores_its_weight_as_it_is_read():
    @I.ir_module
    class Before:
        @R.function
        def main(
            x: R.Tensor((2, 6), "float32"), w: R.Tensor((4, 6), "float32"), b: R.Tensor((1, 4), "float32")
        ):
            with R.dataflow():
                t = R.permute_dims(w)
                m = R.matmul(x, t)
                y = R.add(b, m)
                R.output(y)
            return y

    check(Before, DenseBias, names=["w", "b"])


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


def test_a_weight_read_in_two_forms_becomes_two_weights():
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((2, 6), "float32"), w: R.Tensor((6, 6), "float32")):
            with R.dataflow():
                a = R.matmul(x, w)
                t = R.permute_dims(w)
                u = R.permute_dims(w)
                b = R.matmul(a, t)
                y = R.matmul(b, u)
                R.output(y)
            return y

    @I.ir_module
    class Expected:
        @R.function
        def main(
            x: R.Tensor((2, 6), "float32"), w: R.Tensor((6, 6), "float32"), t: R.Tensor((6, 6), "float32")
        ):
            with R.dataflow():
                a = R.matmul(x, w)
                b = R.matmul(a, t)
                y = R.matmul(b, t)
                R.output(y)
            return y

    check(Before, Expected, values={"w": np.triu(np.ones((6, 6)))}, names=["w", "w.1"])


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


def test_identities_and_unread_weights_are_gone():
    @I.ir_module
    class Before:
        @R.function
        def main(
            x: R.Tensor((2, 3, 4), "float32"), unread: R.Tensor((4,), "float32"), w: R.Tensor((4,), "float32")
        ):
            with R.dataflow():
                a = R.reshape(x, (2, 3, 4))
                b = R.astype(a, "float32")
                c = R.permute_dims(b, axes=[0, 1, 2])
                d = R.nn.pad(c, (0, 0, 0, 0, 0, 0))
                e = R.reshape(d, (6, 4))
                f = R.reshape(e, (24,))
                g = R.reshape(f, (6, 4))
                dead = R.add(g, unread)  # noqa: F841
                y = R.multiply(g, w)
                R.output(y)
            return y

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((2, 3, 4), "float32"), w: R.Tensor((4,), "float32")):
            with R.dataflow():
                g = R.reshape(x, (6, 4))
                y = R.multiply(g, w)
                R.output(y)
            return y

    check(Before, Expected, names=["w"])


def test_a_dropout_is_gone():
    x = relax.Var("x", relax.TensorType([2, 4], "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            dropped = builder.emit(relax.TupleGetItem(builder.emit(relax.op.nn.dropout(x, 0.5)), 0))
            y = builder.emit_output(relax.op.nn.relu(dropped))
        builder.emit_func_output(y)
    after = Canonicalize()(with_weights(builder.finalize()))
    values = [binding.value for binding in after["main"].body.blocks[0].bindings]
    assert values[0].op.name == "relax.nn.relu"
    assert values[0].args[0].same_as(after["main"].params[0])


def test_opaque_calls_and_residuals_are_left_alone():
    @I.ir_module
    class Before:
        @T.prim_func(private=True, s_tir=True)
        def double(a: T.Buffer((T.int64(4),), "float32"), b: T.Buffer((T.int64(4),), "float32")):
            for i in range(T.int64(4)):
                with T.sblock("b"):
                    v = T.axis.spatial(T.int64(4), i)
                    b[v] = a[v] * T.float32(2)

        @R.function
        def main(x: R.Tensor((4,), "float32")):
            cls = Before
            with R.dataflow():
                d = R.call_tir(cls.double, (x,), out_ty=R.Tensor((4,), dtype="float32"))
                y = R.add(d, x)
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


def test_parts_of_a_weight_are_weights():
    @I.ir_module
    class Before:
        @R.function
        def main(
            x: R.Tensor((2, 3), "float32"), w: R.Tensor((8, 3), "float32"), p: R.Tensor((5, 4), "float32")
        ):
            with R.dataflow():
                pieces = R.split(w, [4], axis=0)
                first = R.permute_dims(pieces[0], [1, 0])
                second = R.permute_dims(pieces[1], [1, 0])
                a = R.matmul(x, first)
                b = R.matmul(x, second)
                some = R.strided_slice(p, axes=[0], begin=[1], end=[5], strides=[2])
                c = R.multiply(a, some)
                out = R.add(b, c)
                R.output(out)
            return out

    @I.ir_module
    class Expected:
        @R.function
        def main(
            x: R.Tensor((2, 3), "float32"),
            w: R.Tensor((3, 4), "float32"),
            second: R.Tensor((3, 4), "float32"),
            p: R.Tensor((2, 4), "float32"),
        ):
            with R.dataflow():
                a = R.matmul(x, w)
                b = R.matmul(x, second)
                c = R.multiply(a, p)
                out = R.add(b, c)
                R.output(out)
            return out

    values = {"w": np.arange(24.0).reshape(8, 3), "p": np.arange(20.0).reshape(5, 4)}
    check(Before, Expected, values, names=["w", "w.1", "p"])


def test_the_axes_of_a_mean_count_from_the_front():
    @I.ir_module
    class Before:
        @R.function
        def main(x: R.Tensor((1, 2, 3, 4), "float32")):
            with R.dataflow():
                out = R.mean(x, axis=[-1, -2], keepdims=True)
                R.output(out)
            return out

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((1, 2, 3, 4), "float32")):
            with R.dataflow():
                out = R.mean(x, axis=[2, 3], keepdims=True)
                R.output(out)
            return out

    check(Before, Expected)
