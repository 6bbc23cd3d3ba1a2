import numpy as np
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T

from tests.canonical_modules import DenseBias, check


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
