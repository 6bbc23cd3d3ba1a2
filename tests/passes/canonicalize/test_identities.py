from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from tersor.passes.canonicalize import Canonicalize
from tests.canonical_modules import check, with_weights


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
