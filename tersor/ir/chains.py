"""Chains: a multiply-accumulate operator with the bias, residual and activation that follow it alone.

conv2d | matmul  ->  [add(bias)]  ->  [add(residual)]  ->  [relu | clip]

Beside them, the other two kinds of layers: products of two activations, and gathers from a table.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tvm import relax

from tersor.ir.graph import Array, Expr, Graph, operator, shape_of

Limits = tuple[float | None, float | None]


@dataclass(frozen=True)
class Chain:
    """One layer's bindings: the operator's variable first, the chain's result last."""

    layer: str  # the weight's name
    operator: str  # "nn.conv2d" or "matmul"
    call: Any
    data: Any  # the activation operand
    weight: Any  # the weight operand
    variables: tuple[Any, ...]
    bias: Array | None = None  # [K]
    bias_name: str = ""
    residual: Any = None
    limits: Limits = (None, None)

    @property
    def result(self) -> Expr:
        """The variable that the rest of the network reads."""
        return self.variables[-1]

    @property
    def interior(self) -> tuple[Any, ...]:
        """The variables that nothing but the chain reads."""
        return self.variables[:-1]

    @property
    def reads(self) -> tuple[Any, ...]:
        """The activations that go in."""
        return (self.data,) if self.residual is None else (self.data, self.residual)

    @property
    def attributes(self) -> Any:
        """The attributes of the multiply-accumulate operator."""
        return self.call.attrs


@dataclass(frozen=True)
class Product:
    """A product of two activations [..., M, C] and [..., C, K], as attention has them."""

    layer: str  # matmul.0, matmul.1, ... in the order of the network: it has no weight to be named after
    left: Any
    right: Any
    result: Any

    @property
    def variables(self) -> tuple[Any, ...]:
        """The one variable of the layer."""
        return (self.result,)

    @property
    def reads(self) -> tuple[Any, ...]:
        """The activations that go in."""
        return self.left, self.right


@dataclass(frozen=True)
class Gather:
    """Rows of a table [C, K], looked up by indices."""

    layer: str  # the table's name
    table: Any
    indices: Any
    result: Any

    @property
    def variables(self) -> tuple[Any, ...]:
        """The one variable of the layer."""
        return (self.result,)

    @property
    def reads(self) -> tuple[Any, ...]:
        """The activations that go in."""
        return (self.indices,)


def find_products(graph: Graph, is_weight: Any = None) -> list[Product]:
    """Find the matrix products of two computed tensors; `is_weight` as of `find_chains`."""
    heads = {chain.variables[0] for chain in find_chains(graph, is_weight)}
    others = [
        (var, value) for var, value in graph.bindings if operator(value) == "matmul" and var not in heads
    ]
    products = []
    for i, (var, value) in enumerate(others):
        left, right = value.args
        if _is_computed_matrix(graph, left) and _is_computed_matrix(graph, right):
            products.append(Product(f"matmul.{i}", left, right, var))
    return products


def _is_computed_matrix(graph: Graph, expr: Expr) -> bool:
    stored = graph.value(expr) is not None or any_weight(graph, expr) is not None
    return not stored and len(shape_of(expr)) >= 2


def find_gathers(graph: Graph, is_weight: Any = None) -> list[Gather]:
    """Find the lookups of rows in a table that nothing else reads; `is_weight` as of `find_chains`."""
    named = is_weight or partial(float_weight, graph)
    looked_up = [(var, value) for var, value in graph.bindings if operator(value) == "take"]
    gathers = []
    for var, value in looked_up:
        table, indices = value.args
        name = named(table)
        if name is None or not _is_table(graph, value):
            continue
        gathers.append(Gather(name, table, indices, var))
    return gathers


def _is_table(graph: Graph, value: Any) -> bool:
    table, indices = value.args
    definitions = [graph.definition(user) for user in graph.users(table)]
    return (
        len(shape_of(table)) == 2
        and graph.value(indices) is None
        and value.attrs.axis is not None
        and int(value.attrs.axis) == 0
        and str(table.ty.dtype) == "float32"
        and all(operator(each) == "take" for each in definitions)
    )


def find_chains(graph: Graph, is_weight: Any = None) -> list[Chain]:
    """Find the chain of every convolution and matrix product with a weight, in the order of the network.

    `is_weight(expr) -> str | None` names the weight that an operand stands for; by default the named weights.
    """
    named = is_weight or partial(float_weight, graph)
    taken: set[Any] = set()
    chains = []
    heads = [(var, value) for var, value in graph.bindings if operator(value) in ("nn.conv2d", "matmul")]
    position = {var: i for i, (var, _) in enumerate(graph.bindings)}
    for var, value in heads:
        layer = named(value.args[1])
        if layer is None or named(value.args[0]) is not None:
            continue
        if operator(value) == "matmul" and len(shape_of(value.args[1])) != 2:
            continue  # one matrix per batch entry: no layer has that as its weight
        chain = Chain(layer, operator(value), value, value.args[0], value.args[1], (var,))
        chain = _take_bias(graph, chain)
        chain = _take_residual(graph, chain, position, taken)
        chain = _take_activation(graph, chain)
        taken.update(chain.variables)
        chains.append(chain)
    return chains


def float_weight(graph: Graph, expr: Expr) -> str | None:
    """Give the name of a weight that is stored as it is, or None if `expr` is something else."""
    return expr.name if expr in graph.weights else None


def codes_of_weight(graph: Graph, expr: Expr) -> str | None:
    """Give the name of the weight whose codes `expr` dequantizes, or None if it is something else."""
    value = graph.definition(expr)
    if value is None or operator(value) != "dequantize" or value.args[0] not in graph.weights:
        return None
    return value.args[0].name


def any_weight(graph: Graph, expr: Expr) -> str | None:
    """Give the name of a weight, whether it is stored in float or as codes, or None for what is computed."""
    return float_weight(graph, expr) or codes_of_weight(graph, expr)


def _take_bias(graph: Graph, chain: Chain) -> Chain:
    user = graph.only_user(chain.result)
    value = graph.definition(user) if user is not None else None
    if value is None or operator(value) != "add":
        return chain
    other = value.args[1] if value.args[0].same_as(chain.result) else value.args[0]
    bias = graph.value(other)
    if bias is None or not _is_per_channel(bias, chain) or shape_of(user) != shape_of(chain.result):
        return chain
    name = other.name if other in graph.weights else ""
    variables = (*chain.variables, user)
    return replace(chain, variables=variables, bias=bias.reshape(-1), bias_name=name)


def _is_per_channel(bias: Array, chain: Chain) -> bool:
    """Whether an operand of an addition has one value per output channel, and not per row or column."""
    shape = shape_of(chain.result)
    per_channel = [1] * len(shape)
    axis = 1 if chain.operator == "nn.conv2d" else -1
    per_channel[axis] = shape[axis]
    return bias.ndim <= len(shape) and [1] * (len(shape) - bias.ndim) + list(bias.shape) == per_channel


def _take_residual(graph: Graph, chain: Chain, position: dict[Any, int], taken: set[Any]) -> Chain:
    user = graph.only_user(chain.result)
    value = graph.definition(user) if user is not None else None
    if value is None or operator(value) != "add" or user in taken:
        return chain
    other = value.args[1] if value.args[0].same_as(chain.result) else value.args[0]
    computed = isinstance(other, relax.Var) and other not in graph.weights
    if not computed or other.same_as(chain.result) or shape_of(other) != shape_of(chain.result):
        return chain
    # Of two layers that meet in an addition the later one takes it: the other's result exists by then.
    if position.get(other, -1) > position[chain.result]:
        return chain
    return replace(chain, variables=(*chain.variables, user), residual=other)


def _take_activation(graph: Graph, chain: Chain) -> Chain:
    user = graph.only_user(chain.result)
    value = graph.definition(user) if user is not None else None
    limits = activation_limits(value) if value is not None else None
    if limits is None:
        return chain
    return replace(chain, variables=(*chain.variables, user), limits=limits)


def activation_limits(value: Expr) -> Limits | None:
    """Give the limits between which an activation clips, or None if the expression is none."""
    match operator(value):
        case "nn.relu":
            return (0.0, None)
        case "nn.relu6":
            return (0.0, 6.0)
        case "clip":
            low, high = (float(argument.value) for argument in value.args[1:3])
            return (low, high)
        case _:
            return None
