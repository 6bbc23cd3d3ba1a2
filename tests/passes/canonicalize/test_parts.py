import numpy as np
from tvm.script import ir as I
from tvm.script import relax as R

from tests.canonical_modules import check


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
