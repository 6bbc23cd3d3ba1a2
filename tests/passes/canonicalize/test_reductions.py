from tvm.script import ir as I
from tvm.script import relax as R

from tests.canonical_modules import check


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
