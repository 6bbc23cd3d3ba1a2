"""Opened: the float network with a fake quantizer where a tensor is read, and a bias for every layer.

    y = conv2d(x, w)   ->   y = conv2d(fake_quantize(x, step, control), w) + bias

The grids are weights of the new module like any other, so all of it may change from run to run.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tersor.ir.chains import Chain, Product, find_chains
from tersor.ir.graph import Builder, Expr, Graph, Module, rebind, shape_of
from tersor.ir.operators import FakeQuantize, RowScale, prim_func
from tersor.ir.parts import find_parts
from tersor.ir.untyped import relax
from tersor.passes.extract import tensor_names

Floats = npt.NDArray[np.float32]
Edge = tuple[Expr, Expr]  # the variable whose expression reads, or the output; and the tensor
MOST = 255  # the highest code of 8 bits


@dataclass(frozen=True)
class InputGrid:
    """The grid that a tensor is rounded to where it is read: real = step * (code - zero), codes 0 to `most`.

    The steps are one, or one for each channel. With `by_rows` each row has the step that its largest number
    asks for, as layers with a dynamic range find it.
    """

    steps: tuple[float, ...]
    zero: int
    most: int = MOST
    by_rows: bool = False


@dataclass(frozen=True)
class Place:
    """Where a tensor is read: the name of its fake quantizer, and the tensor's own, as statistics have it.

    It has a step for each of so many `channels`, or one; a layer that `reads_rows` may find those of rows.
    """

    name: str
    tensor: str
    channels: int = 1
    reads_rows: bool = False

    def weights(self, grid: InputGrid) -> dict[str, Floats]:
        """Give the weights of the opened module that put the tensor on a grid.

        Raises ValueError for a grid of rows where no dense layer reads.
        """
        if grid.by_rows and not self.reads_rows:
            raise ValueError(f"{self.tensor} is read by no dense layer, which alone finds steps of rows")
        steps = np.array(grid.steps, np.float32)
        kind = 2 if grid.by_rows else 1
        return {
            f"{self.name}|step": np.ascontiguousarray(np.broadcast_to(steps, self.channels)),
            f"{self.name}|control": np.array([grid.zero, grid.most, kind], np.float32),
        }


@dataclass(frozen=True)
class Opened:
    """The opened module, the places by edge, those of each layer's operands, the biases of each layer.

    A layer that is used several times has its places and the names of its biases one use after the other.
    """

    mod: Module
    places: dict[Edge, Place] = field(default_factory=dict)
    reads: dict[str, list[Place]] = field(default_factory=dict)
    biases: dict[str, list[str]] = field(default_factory=dict)


def layer_edges(graph: Graph) -> dict[Edge, str]:
    """Give the edges at which layers read the activations that they multiply, and the layers' names."""
    found: dict[Edge, str] = {}
    for part in find_parts(graph):
        match part:
            case Chain():
                found[part.variables[0], part.data] = part.layer
            case Product():
                found |= {(part.result, each): part.layer for each in (part.left, part.right)}
            case _:
                pass
    return found


def opened(mod: Module, others: Collection[Edge] = ()) -> Opened:
    """Open a canonical float module where layers read what they multiply, and at other edges."""
    return _Opening(mod, others).run()


class _Opening:
    def __init__(self, mod: Module, others: Collection[Edge]) -> None:
        self.graph, self.names = Graph(mod), tensor_names(mod)
        self.builder = Builder(self.graph)
        self.layers = layer_edges(self.graph)
        self.edges = dict.fromkeys((*self.layers, *others))
        self.chains = {chain.variables[0]: chain for chain in find_chains(self.graph)}
        self.bare = {head for head, chain in self.chains.items() if chain.bias is None}
        self.added = {c.variables[1]: c for c in self.chains.values() if c.bias is not None}
        self.places: dict[Edge, Place] = {}
        self.reads: dict[str, list[Place]] = {}
        self.biases: dict[str, list[str]] = {}
        self.values: dict[Expr, Expr] = {var: var for var in self.graph.inputs}

    def run(self) -> Opened:
        graph, builder, values = self.graph, self.builder, self.values
        own = {chain.bias_name for chain in self.chains.values() if self._is_own(chain)}
        for var, weight in graph.weights.items():
            if var.name not in own:
                values[var] = builder.weight(var.name, weight)
        for var, value in graph.bindings:
            if var in self.added:
                head = values[self.added[var].variables[0]]
                values[var] = builder.emit(relax.op.add(head, self._bias(self.added[var])), var.name)
                continue
            mine = {tensor: self._read(var, tensor) for tensor in dict.fromkeys(_tensors(self.edges, var))}
            values[var] = builder.emit(rebind(value, {**values, **mine}), var.name)
            if var in self.bare:
                values[var] = builder.emit(relax.op.add(values[var], self._bias(self.chains[var])))
        outputs = [
            self._read(output, output) if (output, output) in self.edges else values[output]
            for output in graph.outputs
        ]
        return Opened(builder.finish(outputs), self.places, self.reads, self.biases)

    def _is_own(self, chain: Chain) -> bool:
        """Whether nothing else reads the bias, so that it keeps its name."""
        named = [var for var in self.graph.weights if chain.bias_name and var.name == chain.bias_name]
        return bool(named) and len(self.graph.users(named[0])) == 1

    def _bias(self, chain: Chain) -> Expr:
        """Declare the bias of one use of a layer, zeros where it has none."""
        known = self.biases.setdefault(chain.layer, [])
        known.append(chain.bias_name if self._is_own(chain) else f"{chain.layer}|bias{len(known)}")
        channels = shape_of(chain.variables[0])[1 if chain.operator == "nn.conv2d" else -1]
        bias = np.zeros(channels, np.float32) if chain.bias is None else chain.bias
        shape = (1, -1, 1, 1) if chain.operator == "nn.conv2d" else (-1,)
        return self.builder.weight(known[-1], bias.astype(np.float32).reshape(shape))

    def _read(self, reader: Expr, tensor: Expr) -> Expr:
        """Emit a tensor as one of its readers reads it."""
        chain = self.chains.get(reader)
        shape = shape_of(tensor)
        axis = 1 if len(shape) == 4 else len(shape) - 1
        has_channels = chain is not None and tensor not in self.graph.inputs
        name = self.names.get(tensor) or str(tensor.name)
        is_dense = chain is not None and chain.operator == "matmul"
        place = Place(f"read{len(self.places)}", name, shape[axis] if has_channels else 1, is_dense)
        self.places[reader, tensor] = place
        if (reader, tensor) in self.layers:
            self.reads.setdefault(self.layers[reader, tensor], []).append(place)
        untouched = {f"{place.name}|step": np.ones(place.channels), f"{place.name}|control": np.zeros(3)}
        arguments = [self.values[tensor]]
        arguments += [self.builder.weight(name, each.astype(np.float32)) for name, each in untouched.items()]
        if is_dense:
            arguments.append(self._call(RowScale(), arguments[:1], (*shape[:-1], 1)))
        return self._call(FakeQuantize(axis), arguments, shape)

    def _call(self, step: RowScale | FakeQuantize, arguments: list[Expr], shape: tuple[int, ...]) -> Expr:
        function = prim_func(step, *((shape_of(each), "float32") for each in arguments))
        return self.builder.call(function, step.name, arguments, shape, step.output)


def _tensors(edges: Collection[Edge], reader: Expr) -> list[Expr]:
    return [tensor for each, tensor in edges if each.same_as(reader) and not tensor.same_as(reader)]
