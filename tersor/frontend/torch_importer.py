"""TVM's importer of exported PyTorch programs, with errors that name the operator, and a few own converters.

    aten.select.int(x, 1, -1)                        ->   reshape(strided_slice(x, 1, n - 1, n))
    aten.embedding(w, i)                             ->   take(w, i)
    aten.scaled_dot_product_attention(q, k, v)       ->   matmul(softmax(matmul(q, k^T) * s + mask), v)
    aten.upsample_nearest2d(x)                       ->   resize2d(x), asymmetric, rounded down
    aten.amax(x, dims), aten.amin                    ->   max(x, dims), min
    aten.lstm(x, ...), aten.gru                      ->   those of tersor.frontend.recurrent

The result has the form that the passes work on: the weights are named parameters after the inputs, called as
in the module's state dict.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument
from tvm.relax.frontend.torch.exported_program_translator import ExportedProgramImporter

from tersor.error import UserError
from tersor.frontend.graph import first_line
from tersor.frontend.torch_recurrent import Stack, run_gru, run_lstm
from tersor.ir.graph import shape_of
from tersor.ir.untyped import relax, tvm

Node = Any  # a torch.fx.Node
Expr = Any  # a Relax expression

# Operators that PyTorch would take apart into forms in which the passes know no layer.
WHOLE = (
    torch.ops.aten.linear.default,
    torch.ops.aten.matmul.default,
    torch.ops.aten.scaled_dot_product_attention.default,
    torch.ops.aten.lstm.input,
    torch.ops.aten.gru.input,
)
_ONE = relax.const(1.0, "float32")


def to_relax(program: ExportedProgram) -> Any:
    """Convert an exported program with static shapes to a Relax module, in inference mode.

    Raises UserError naming the operator and the submodule for everything that TVM's importer cannot convert.
    """
    decompositions = torch.export.default_decompositions()
    for whole in WHOLE:
        decompositions.pop(whole, None)
    return _Importer().convert(program.run_decompositions(decompositions))


class _Importer(ExportedProgramImporter):
    def convert(self, program: ExportedProgram) -> Any:
        inputs, weights, known = self._parameters(program)
        self._refuse_unknown(program)
        self.block_builder = relax.BlockBuilder()
        parameters = [*inputs, *weights]
        attributes = {"num_input": len(inputs), "params": list(weights.values())}
        constructing = False
        try:
            with self.block_builder.function("main", parameters, attrs=attributes):
                with self.block_builder.dataflow():
                    constructing = True
                    results = self._translate_fx_graph(program.graph_module, program.graph.nodes, known)
                    output = self.block_builder.emit_output(relax.Tuple(_user_outputs(program, results)))
                    constructing = False
                self.block_builder.emit_func_output(output)
        except BaseException:
            if constructing:
                self.block_builder._end_block()  # left open, C++ would warn of it on stderr
            raise
        return self.block_builder.get()

    def _parameters(self, program: ExportedProgram) -> tuple[list[Expr], dict[Expr, Any], dict[str, Expr]]:
        """Give the inputs, the weights with their values, and what every placeholder stands for."""
        inputs: list[Expr] = []
        weights: dict[Expr, Any] = {}
        known: dict[str, Expr] = {}
        shapes = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
        for spec in program.graph_signature.input_specs:
            name = spec.arg.name
            if not isinstance(spec.arg, TensorArgument):
                continue  # an argument that was given as a plain number or None is part of the program
            if spec.kind == InputKind.USER_INPUT:
                known[name] = _variable(name, shapes[name])
                inputs.append(known[name])
                continue
            value = _value(program, spec.target)
            if _is_weight(value):
                known[name] = _variable(str(spec.target), value)
                weights[known[name]] = tvm.runtime.tensor(_array(value))
            else:
                known[name] = relax.const(_array(value))
        return inputs, weights, known

    def _refuse_unknown(self, program: ExportedProgram) -> None:
        for node in program.graph.nodes:
            if node.op == "call_function" and node.target.__name__ not in self.convert_map:
                raise UserError(f"{_title(node)} is not supported by TVM's importer")

    def create_convert_map(self) -> dict[Any, Callable[..., Any]]:
        converters = {
            **super().create_convert_map(),
            "select.int": self._selected,
            "embedding.default": self._embedded,
            "scaled_dot_product_attention.default": self._attention,
            "lstm.input": lambda node: run_lstm(self.block_builder, self._recurrent(node)),
            "gru.input": lambda node: run_gru(self.block_builder, self._recurrent(node)),
            "upsample_nearest2d.vec": self._nearest,
            "index.Tensor": self._indexed,
            "elu.default": self._elu,
            "amax.default": lambda node: self._extreme(node, relax.op.max),
            "amin.default": lambda node: self._extreme(node, relax.op.min),
        }
        return {name: _named(converter) for name, converter in converters.items()}

    def _tensor(self, node: Node) -> Expr:
        return self.env[node]

    def _selected(self, node: Node) -> Expr:
        """Index one axis. TVM 0.27 hands a negative index to `take`, which reads before the tensor."""
        x, axis, index = self._tensor(node.args[0]), node.args[1], node.args[2]
        shape = shape_of(x)
        axis, index = axis % len(shape), index % shape[axis]
        row = self.block_builder.emit(relax.op.strided_slice(x, [axis], [index], [index + 1]))
        return self.block_builder.emit(relax.op.reshape(row, shape[:axis] + shape[axis + 1 :]))

    def _embedded(self, node: Node) -> Expr:
        table, indices = (self._tensor(argument) for argument in node.args[:2])
        return self.block_builder.emit(relax.op.take(table, indices, axis=0))

    def _indexed(self, node: Node) -> Expr:
        """Index by tensors, from the end where an index is negative, as TVM's converter does not."""
        x, positions = self._tensor(node.args[0]), node.args[1]
        if positions[0] is not None and str(self._tensor(positions[0]).ty.dtype) == "bool":
            raise ValueError("the result's shape depends on the values of a mask")
        for axis, position in enumerate(positions):
            if position is not None:
                self.env[position] = self._from_front(self._tensor(position), shape_of(x)[axis])
        return self._index_tensor(node)

    def _from_front(self, indices: Expr, extent: int) -> Expr:
        dtype = str(indices.ty.dtype)
        if isinstance(indices, tvm.ir.GenericConst):
            return relax.const(indices.value.numpy() % extent, dtype)
        emit = self.block_builder.emit
        below = emit(relax.op.less(indices, relax.const(0, dtype)))
        return emit(relax.op.where(below, relax.op.add(indices, relax.const(extent, dtype)), indices))

    def _elu(self, node: Node) -> Expr:
        """Give s * x above 0 and s * a * (exp(i * x) - 1) below; TVM's own converter drops s and i."""
        arguments = _by_name(node)
        x = self._tensor(arguments["self"])
        alpha, scale, inner = (
            relax.const(float(arguments[name]), "float32") for name in ("alpha", "scale", "input_scale")
        )
        below = alpha * (relax.op.exp(inner * relax.op.minimum(x, relax.const(0.0, "float32"))) - _ONE)
        value = relax.op.where(relax.op.greater(x, relax.const(0.0, "float32")), x, below)
        return self.block_builder.emit(scale * value)

    def _nearest(self, node: Node) -> Expr:
        """Repeat pixels, `x[floor(i * in / out)]`; TVM's own converter rounds from the pixels' centres."""
        arguments = _by_name(node)
        x, size, factors = (
            self._tensor(arguments["input"]),
            arguments["output_size"],
            arguments["scale_factors"],
        )
        if size is None:
            size = [int(extent * factor) for extent, factor in zip(shape_of(x)[2:], factors, strict=True)]
        mode = {"coordinate_transformation_mode": "asymmetric", "rounding_method": "floor"}
        resized = relax.op.image.resize2d(x, tuple(size), method="nearest_neighbor", **mode)
        return self.block_builder.emit(resized)

    def _extreme(self, node: Node, reduce: Callable[..., Expr]) -> Expr:
        """Reduce over axes by the maximum or minimum, which TVM has no converter for."""
        arguments = _by_name(node)
        axes = list(arguments["dim"]) or None
        return self.block_builder.emit(reduce(self._tensor(arguments["self"]), axes, arguments["keepdim"]))

    def _attention(self, node: Node) -> Expr:
        """Write attention out, [..., L, E] x [..., S, E] x [..., S, V] -> [..., L, V].

        (Vaswani et al., Attention Is All You Need, 2017, eq. 1.) TVM's own converter drops batch dimensions
        beyond one and knows no scale.
        """
        arguments = _by_name(node)
        query, key, value = (self._tensor(arguments[name]) for name in ("query", "key", "value"))
        emit = self.block_builder.emit
        if arguments["enable_gqa"]:
            raise ValueError("enable_gqa is not supported: repeat the heads of key and value")
        rank = len(shape_of(key))
        transposed = emit(relax.op.permute_dims(key, [*range(rank - 2), rank - 1, rank - 2]))
        scores = emit(relax.op.matmul(query, transposed))
        scale = arguments["scale"] or 1 / math.sqrt(shape_of(query)[-1])
        scores = emit(relax.op.multiply(scores, relax.const(scale, "float32")))
        if (mask := self._mask(arguments, scores)) is not None:
            scores = emit(relax.op.add(scores, mask))
        return emit(relax.op.matmul(emit(relax.op.nn.softmax(scores, axis=-1)), value))

    def _recurrent(self, node: Node) -> Stack:
        """Read the arguments of a recurrent net."""
        arguments = _by_name(node)
        states = arguments["hx"] if isinstance(arguments["hx"], list | tuple) else [arguments["hx"]]
        return Stack(
            self._tensor(arguments["input"]),
            tuple(None if _is_zero(state) else self._tensor(state) for state in states),
            [self._tensor(parameter) for parameter in arguments["params"]],
            arguments["has_biases"],
            arguments["num_layers"],
            arguments["bidirectional"],
            arguments["batch_first"],
        )

    def _mask(self, arguments: dict[str, Any], scores: Expr) -> Expr | None:
        """Give what is added to the scores: 0 where they count, -inf where they do not."""
        if arguments["is_causal"]:
            rows, columns = shape_of(scores)[-2:]
            return relax.const(np.triu(np.full((rows, columns), -np.inf, np.float32), 1))
        if arguments["attn_mask"] is None:
            return None
        mask = self._tensor(arguments["attn_mask"])
        if str(mask.ty.dtype) != "bool":
            return mask
        counts, hidden = relax.const(0.0, "float32"), relax.const(-math.inf, "float32")
        return self.block_builder.emit(relax.op.where(mask, counts, hidden))


def _named(converter: Callable[..., Any]) -> Callable[..., Any]:
    """Make a converter that says which operator failed."""

    def convert(node: Node) -> Any:
        try:
            return converter(node)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{_title(node)} cannot be imported: {first_line(error)}") from error

    return convert


def _title(node: Node) -> str:
    """Name a node for a person: its operator and the submodule that calls it."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = stack[-1][0] if stack else ""
    return f"the operator {node.target}" + (f" of the module {path!r}" if path else "")


def _by_name(node: Node) -> dict[str, Any]:
    """Give the arguments of a call by their names in the operator's schema, with its defaults."""
    schema = node.target._schema.arguments
    given = {argument.name: value for argument, value in zip(schema, node.args, strict=False)}
    return {argument.name: argument.default_value for argument in schema} | given | dict(node.kwargs)


def _is_zero(node: Node) -> bool:
    """Whether a node is a tensor of zeros, as a recurrent net starts with."""
    if node.op != "call_function":
        return False
    match node.target:
        case torch.ops.aten.zeros.default | torch.ops.aten.new_zeros.default:
            return True
        case torch.ops.aten.full.default:
            return node.args[1] == 0
        case _:
            return False


def _user_outputs(program: ExportedProgram, results: tuple[Expr, ...]) -> list[Expr]:
    """Leave out the new values of buffers, which torch.export puts before the outputs, and None."""
    return [
        result
        for spec, result in zip(program.graph_signature.output_specs, results, strict=True)
        if spec.kind == OutputKind.USER_OUTPUT and isinstance(spec.arg, TensorArgument)
    ]


def _value(program: ExportedProgram, target: str | None) -> torch.Tensor:
    found = program.state_dict.get(target, program.constants.get(target)) if target else None
    if found is None:
        raise UserError(
            f"the module's tensor {target!r} cannot be read: it is no parameter, buffer or constant"
        )
    return found


def _is_weight(value: torch.Tensor) -> bool:
    """Scalars, indices and masks are part of the program."""
    return value.ndim > 0 and value.dtype == torch.float32


def _array(value: torch.Tensor) -> np.ndarray:
    return value.detach().cpu().contiguous().numpy()


def _variable(name: str, tensor: torch.Tensor) -> Expr:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return relax.Var(name, relax.TensorType([int(extent) for extent in tensor.shape], dtype))
