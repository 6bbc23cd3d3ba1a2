"""What tests of canonicalization share: two layers, and the check that structure and numbers are right."""

import numpy as np
import tvm
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

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
    """Strip the values of the weights, what is kept of norms, and the alias for the output."""
    mod = relax.transform.CanonicalizeBindings()(mod)
    function = mod["main"].without_attr("params").without_attr("num_input").without_attr("norm_scales")
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
