"""Networks as Relax modules with named weights, written in a few lines, and one compilation on plain llvm."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tersor.formats.encoded import Encoded
from tersor.ir.decoders import emit_decoders
from tersor.ir.graph import Builder, Graph, bind_weights, expose, shape_of
from tersor.ir.operators import Operator, prim_func
from tersor.passes.calibrate import calibrate
from tersor.passes.extract import extract, tensor_names
from tersor.scheme import Scheme
from tersor.statistics import Statistics

Expr = Any
Array = np.ndarray


class Net:
    """A builder of one network: `x = net.input(...)`, `net.weight(...)`, `net.emit(...)`, `net.finish(y)`."""

    def __init__(self, shape: tuple[int, ...], dtype: str = "float32", *more: tuple[int, ...]) -> None:
        types = [relax.TensorType(each, dtype) for each in (shape, *more)]
        inputs = [
            relax.Var(name, each)
            for name, each in ((f"x{i}" if i else "x", each) for i, each in enumerate(types))
        ]
        block = relax.BlockBuilder()
        with block.function("main", inputs, attrs={"num_input": len(inputs)}):
            with block.dataflow():
                output = block.emit_output(inputs[0])
            block.emit_func_output(output)
        graph = Graph(block.finalize())
        self.inputs = graph.inputs
        self._builder = Builder(graph)

    def weight(self, name: str, value: Array) -> Expr:
        return self._builder.weight(name, value)

    def emit(self, expr: Expr) -> Expr:
        return self._builder.emit(expr)

    def call(self, operator: Operator, *arguments: Expr) -> Expr:
        """Call an integer operator; the result's shape is the PrimFunc's."""
        described = [(shape_of(argument), str(argument.ty.dtype)) for argument in arguments]
        function = prim_func(operator, *described)
        shape = [int(extent) for extent in function.params[-1].shape]
        return self._builder.call(function, operator.name, arguments, shape, operator.output)

    def decoded(self, name: str, encoded: Encoded) -> Expr:
        """Decode a stored weight."""
        return emit_decoders(self._builder, name, encoded)

    def conv(self, x: Expr, name: str, weight: Array, bias: Array | None = None, **attributes: Any) -> Expr:
        y = self.emit(relax.op.nn.conv2d(x, self.weight(f"{name}.weight", weight), **attributes))
        if bias is None:
            return y
        return self.emit(relax.op.add(y, self.weight(f"{name}.bias", bias.reshape(1, -1, 1, 1))))

    def dense(self, x: Expr, name: str, weight: Array, bias: Array | None = None) -> Expr:
        y = self.emit(relax.op.matmul(x, self.weight(f"{name}.weight", weight)))
        return y if bias is None else self.emit(relax.op.add(y, self.weight(f"{name}.bias", bias)))

    def finish(self, *outputs: Expr) -> tvm.IRModule:
        return self._builder.finish(outputs, as_tuple=len(outputs) > 1)


def he(rng: np.random.Generator, *shape: int, fan_in: int | None = None) -> Array:
    """He-initialised float32 weights; the fan-in is that of OIHW unless told."""
    fan_in = fan_in or int(np.prod(shape[1:]))
    return rng.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)


def run(mod: tvm.IRModule, *inputs: Array, level: int = 0) -> list[Array]:
    """Compile on plain llvm and run once, with few of LLVM's optimisations unless `level` is 3."""
    return compiled(mod, level)(*inputs)


def compiled(mod: tvm.IRModule, level: int = 3) -> Callable[..., list[Array]]:
    """Compile on plain llvm with TVM's own pipeline: what a module means, without a target of ours."""
    executable = tvm.compile(bind_weights(mod), tvm.target.Target({"kind": "llvm", "opt-level": level}))
    machine = relax.VirtualMachine(executable, tvm.cpu())

    def call(*inputs: Array) -> list[Array]:
        result = machine["main"](*(tvm.runtime.tensor(np.ascontiguousarray(each)) for each in inputs))
        return [each.numpy() for each in ([result] if isinstance(result, tvm.runtime.Tensor) else result)]

    return call


def samples(*shape: int, count: int = 3) -> list[Array]:
    """Seeded unit-normal float32 inputs."""
    rng = np.random.default_rng(1)
    return [rng.normal(size=shape).astype(np.float32) for _ in range(count)]


def residual_net(seed: int = 0) -> tvm.IRModule:
    """[1, 8, 10, 10]: a residual block, a strided one with a 1x1 shortcut, mean, dense."""
    rng = np.random.default_rng(seed)
    net = Net((1, 8, 10, 10))
    (x,) = net.inputs
    relu = relax.op.nn.relu

    def conv(x: Expr, name: str, c: int, k: int, window: int, **attributes: Any) -> Expr:
        bias = rng.normal(0, 0.1, k).astype(np.float32)
        return net.conv(x, name, he(rng, k, c, window, window), bias, padding=[window // 2] * 2, **attributes)

    y = net.emit(relu(conv(x, "a", 8, 8, 3)))
    x = net.emit(relu(net.emit(relax.op.add(conv(y, "b", 8, 8, 3), x))))
    y = net.emit(relax.op.clip(conv(x, "c", 8, 12, 3, strides=[2, 2]), 0.0, 6.0))
    y = conv(y, "d", 12, 12, 3)
    x = net.emit(relu(net.emit(relax.op.add(y, conv(x, "down", 8, 12, 1, strides=[2, 2])))))
    x = net.emit(relax.op.reshape(net.emit(relax.op.mean(x, [2, 3], keepdims=True)), (1, 12)))
    return net.finish(net.dense(x, "fc", he(rng, 12, 10, fan_in=12), rng.normal(0, 0.1, 10).astype("f4")))


def attention_net(softmax: bool = True, tokens: int = 6, heads: int = 2, width: int = 4) -> tvm.IRModule:
    """int64 [1, tokens]: rows of a table of 11, attention over two heads, a dense layer and a residual.

    Without its softmax, ReLU in its place, all of it but the layers is exact in any compiler.
    """
    rng, model, op = np.random.default_rng(0), heads * width, relax.op.nn
    net = Net((1, tokens), "int64")
    table = net.weight("table", rng.normal(0, 1, (11, model)).astype(np.float32))
    x = net.emit(relax.op.take(table, net.inputs[0], 0, "clip"))

    def project(name: str, axes: list[int]) -> Expr:
        bias = rng.normal(0, 0.1, model).astype(np.float32)
        y = net.dense(x, name, he(rng, model, model, fan_in=model), bias)
        return net.emit(relax.op.permute_dims(net.emit(relax.op.reshape(y, (1, tokens, heads, width))), axes))

    q, k, v = project("q", [0, 2, 1, 3]), project("k", [0, 2, 3, 1]), project("v", [0, 2, 1, 3])
    scores = net.emit(
        relax.op.divide(net.emit(relax.op.matmul(q, k)), relax.const(np.sqrt(width), "float32"))
    )
    y = net.emit(relax.op.matmul(net.emit(op.softmax(scores, -1) if softmax else op.relu(scores)), v))
    y = net.emit(relax.op.reshape(net.emit(relax.op.permute_dims(y, [0, 2, 1, 3])), (1, tokens, model)))
    y = net.dense(y, "out", he(rng, model, model, fan_in=model), rng.normal(0, 0.1, model).astype("f4"))
    return net.finish(net.emit(relax.op.add(y, x)))


def token_samples(tokens: int = 6, count: int = 3) -> list[Array]:
    """Seeded rows of `attention_net`'s table."""
    rng = np.random.default_rng(1)
    return [rng.integers(0, 11, (1, tokens)) for _ in range(count)]


def schemes_for(mod: tvm.IRModule, scheme: Scheme) -> dict[str, Scheme]:
    """Give every weight-bearing layer the same scheme."""
    return {layer.name: scheme for layer in extract(mod).layers if layer.weight_bearing}


def statistics_of(mod: tvm.IRModule, samples: list[Array]) -> Statistics:
    """Calibrate on plain llvm: every named tensor of the network over the samples."""
    named = tensor_names(mod)
    observe = compiled(expose(mod, list(named)), level=0)
    (input_var, *_) = Graph(mod).inputs

    def tensors(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(named.values(), observe(*inputs.values()), strict=True))

    return calibrate(tensors, [{input_var.name: sample} for sample in samples])
