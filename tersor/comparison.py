"""Comparison: run fp32 and compressed side by side on samples, for the diagnosis."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tersor.compression import reshape_layers
from tersor.diagnosis import Diagnosis, Errors, Grid, Tensor, diagnose
from tersor.error import UserError
from tersor.ir.graph import Expr, Graph, operands
from tersor.ir.grid import grid_of
from tersor.ir.parts import Part, find_parts
from tersor.layer_reports import side_by_side
from tersor.model import Model, observable
from tersor.network import Network
from tersor.passes.extract import extract
from tersor.passes.quantization.imported import came_quantized
from tersor.passes.quantization.quantize import grids
from tersor.plan import Plan
from tersor.planning import plan_for
from tersor.statistics import Statistics

Array = NDArray[Any]


def compare(
    model: Model, plan: Plan, statistics: Statistics, samples: Iterable[Mapping[str, Array]]
) -> Diagnosis:
    """Run both networks on samples, and name the first layer where the error jumps.

    Raises UserError if the plan is for another model or machine, or there are no samples.
    """
    plan_for(plan, model.mod, model.host, statistics)
    tensors = _tensors(model, plan, statistics)
    run = side_by_side(model, plan, statistics, tensors)
    errors = {name: Errors(tensor) for name, tensor in tensors.items()}
    count = 0
    for count, sample in enumerate(samples, 1):
        for name, (expected, got) in run(sample).items():
            if not np.isfinite(expected).all():
                raise UserError(f"fp32 gives {name!r} values that are not finite on sample {count - 1}")
            errors[name].add(expected, got)
    if not count:
        raise UserError("there are no samples to compare on: give --data with at least one")
    return diagnose(list(errors.values()), _output_names(model))


def _tensors(model: Model, plan: Plan, statistics: Statistics) -> dict[str, Tensor]:
    """Describe every float tensor between the parts of the network, in execution order."""
    graph = Graph(model.mod)
    named = {var: name for name, var in observable(model.mod).items()}
    layers = {part.result: part for part in find_parts(graph)}
    network = extract(model.mod)
    depthwise = {layer.name for layer in network.layers if layer.is_depthwise}
    stored = _grids(model, plan, statistics)
    tensors = {}
    for var, name in named.items():
        part = layers.get(var)
        is_result = part is not None
        layer = part.layer if part else _first_reader(graph, layers, var)
        read = part.reads if part else operands(graph.definition(var))
        grid = stored.get(name) or stored.get(f"{_last_part(network, plan, layer)}:out" if is_result else "")
        tensors[name] = Tensor(
            name,
            tuple(dict.fromkeys(source for each in read for source in _named_sources(graph, named, each))),
            layer,
            is_result,
            is_result and layer in depthwise,
            grid,
            str(plan.layers[layer].scheme) if layer in plan.layers else "fp32",
        )
    return tensors


def _last_part(network: Network, plan: Plan, layer: str) -> str:
    """Name the layer that gives the result of one that may be factored."""
    factor = plan.layers[layer].scheme.factor if layer in plan.layers else None
    return network[layer].factored(factor)[-1].name if factor else layer


def _grids(model: Model, plan: Plan, statistics: Statistics) -> dict[str, Grid]:
    """Give how tensors are stored, by name: as the statistics say, or as a model that came quantized does."""
    if came_quantized(model.mod):
        graph = Graph(model.mod)
        found = {name: grid_of(graph, graph.definition(var)) for name, var in observable(model.mod).items()}
        return {
            name: Grid(grid.scale, grid.zero_point, grid.most)
            for name, grid in found.items()
            if grid is not None
        }
    reshaped, schemes = reshape_layers(model.mod, plan, statistics)
    stored = grids(reshaped, schemes, statistics, plan.recipe.calibration)
    return {
        name: Grid(
            np.array(grid.steps, np.float32).reshape(-1, 1) * np.float32(grid.scale)
            if grid.steps
            else grid.scale,
            grid.zero_point,
            grid.most,
        )
        for name, grid in stored.items()
    }


def _named_sources(graph: Graph, named: Mapping[Expr, str], var: Expr) -> list[str]:
    """Give the nearest named tensors that `var` is or is computed from."""
    if var in named:
        return [named[var]]
    return [name for each in operands(graph.definition(var)) for name in _named_sources(graph, named, each)]


def _first_reader(graph: Graph, layers: Mapping[Expr, Part], var: Expr) -> str:
    """Give the first layer that reads a tensor, directly or through what no layer makes."""
    reached = {var}
    for result, value in graph.bindings:
        part = layers.get(result)
        if not any(operand in reached for operand in (part.reads if part else operands(value))):
            continue
        if part:
            return part.layer
        reached.add(result)
    return ""


def _output_names(model: Model) -> list[str]:
    graph = Graph(model.mod)
    named = {var: name for name, var in observable(model.mod).items()}
    return [name for output in graph.outputs for name in _named_sources(graph, named, output)]
