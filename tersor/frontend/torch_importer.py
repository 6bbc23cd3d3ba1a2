"""TVM's importer of exported PyTorch programs, with errors that name the operator and a few operators of our own.

    aten.select.int(x, 1, -1)                        ->   reshape(strided_slice(x, 1, n - 1, n))
    aten.embedding(w, i)                             ->   take(w, i)
    aten.scaled_dot_product_attention(q, k, v)       ->   matmul(softmax(matmul(q, k^T) * s + mask), v)

The result has the form that the passes work on: the weights are named parameters after the inputs, called as in
the module's state dict.
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
from tersor.ir.untyped import relax, tvm

Node = Any  # a torch.fx.Node
Expr = Any  # a Relax expression

# Operators that PyTorch would take apart into forms in which the passes know no layer.
WHOLE = (
    torch.ops.aten.linear.default,
    torch.ops.aten.matmul.default,
    torch.ops.aten.scaled_dot_product_attention.default,
)
FLOATS = (torch.float16, torch.bfloat16, torch.float64)


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
        }
        return {name: _named(converter) for name, converter in converters.items()}

    def _selected(self, node: Node) -> Expr:
        """Index one axis. TVM 0.27 hands a negative index to `take`, which reads before the tensor."""
        x, axis, index = self.env[node.args[0]], node.args[1], node.args[2]
        shape = [int(extent) for extent in x.ty.shape]
        axis, index = axis % len(shape), index % shape[axis]
        row = self.block_builder.emit(relax.op.strided_slice(x, [axis], [index], [index + 1]))
        return self.block_builder.emit(relax.op.reshape(row, shape[:axis] + shape[axis + 1 :]))

    def _embedded(self, node: Node) -> Expr:
        table, indices = (self.env[argument] for argument in node.args[:2])
        return self.block_builder.emit(relax.op.take(table, indices, axis=0))

    def _attention(self, node: Node) -> Expr:
        """Write attention out, [..., L, E] x [..., S, E] x [..., S, V] -> [..., L, V].

        (Vaswani et al., Attention Is All You Need, 2017, eq. 1.) TVM's own converter drops batch dimensions
        beyond one and knows no scale.
        """
        arguments = _by_name(node)
        query, key, value = (self.env[arguments[name]] for name in ("query", "key", "value"))
        emit = self.block_builder.emit
        if arguments["enable_gqa"]:
            raise ValueError("enable_gqa is not supported: repeat the heads of key and value")
        rank = len(key.ty.shape)
        transposed = emit(relax.op.permute_dims(key, [*range(rank - 2), rank - 1, rank - 2]))
        scores = emit(relax.op.matmul(query, transposed))
        scale = arguments["scale"] or 1 / math.sqrt(int(query.ty.shape[-1]))
        scores = emit(relax.op.multiply(scores, relax.const(scale, "float32")))
        if (mask := self._mask(arguments, scores)) is not None:
            scores = emit(relax.op.add(scores, mask))
        return emit(relax.op.matmul(emit(relax.op.nn.softmax(scores, axis=-1)), value))

    def _mask(self, arguments: dict[str, Any], scores: Expr) -> Expr | None:
        """Give what is added to the scores: 0 where they count, -inf where they do not."""
        if arguments["is_causal"]:
            rows, columns = (int(extent) for extent in list(scores.ty.shape)[-2:])
            return relax.const(np.triu(np.full((rows, columns), -np.inf, np.float32), 1))
        if arguments["attn_mask"] is None:
            return None
        mask = self.env[arguments["attn_mask"]]
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


def _user_outputs(program: ExportedProgram, results: tuple[Expr, ...]) -> list[Expr]:
    """Leave out the new values of buffers, which torch.export puts before the outputs, and None."""
    specs = program.graph_signature.output_specs
    tensors = [spec for spec in specs if isinstance(spec.arg, TensorArgument)]
    return [
        result
        for spec, result in zip(tensors, results, strict=True)
        if spec.kind == OutputKind.USER_OUTPUT
    ]


def _value(program: ExportedProgram, target: str | None) -> torch.Tensor:
    found = program.state_dict.get(target, program.constants.get(target)) if target else None
    if found is None:
        raise UserError(f"the module's tensor {target!r} cannot be read: it is no parameter, buffer or constant")
    return found


def _is_weight(value: torch.Tensor) -> bool:
    """Scalars, indices and masks are part of the program."""
    return value.ndim > 0 and value.dtype == torch.float32


def _array(value: torch.Tensor) -> np.ndarray:
    return value.detach().cpu().contiguous().numpy()


def _variable(name: str, tensor: torch.Tensor) -> Expr:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return relax.Var(name, relax.TensorType([int(extent) for extent in tensor.shape], dtype))
