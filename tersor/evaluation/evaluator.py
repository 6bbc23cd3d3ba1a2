"""Evaluation: what any policy does to a network on real samples, which is compiled once for all of them.

The network is opened (`tersor.evaluation.opened`), so a policy is other weights, biases and grids of the same
code. It stands for the integer network that the policy would be compiled to: the numbers are those of its
passes, all sums are float. Factors are multiplied out, and what flows between them is not rounded.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tersor.arithmetic import SYMMETRIC_ZERO
from tersor.compiler import Progress, silent
from tersor.error import UserError
from tersor.evaluation.opened import Edge, InputGrid, Place, layer_edges
from tersor.evaluation.perturbed import Perturbed
from tersor.evaluation.reconstruction import Numbers, Reconstruction
from tersor.ir.chains import find_chains
from tersor.ir.graph import Graph
from tersor.measure import Power
from tersor.model import Model
from tersor.passes.extract import extract
from tersor.passes.quantization.correction import statistics_of
from tersor.passes.quantization.imported import came_quantized
from tersor.passes.quantization.quantize import Quantization, read_grids
from tersor.passes.quantization.ranges import affine, ranges
from tersor.passes.quantization.tensors import MOST_BITS
from tersor.planning import model_hash
from tersor.recipe import Recipe
from tersor.scheduler.trial import Measured
from tersor.scheme import FP32, INT8, W8A32, Scheme
from tersor.statistics import Statistics

Array = npt.NDArray[Any]
Samples = Sequence[Mapping[str, Array]]
_VERSION = 3  # of what is measured: another one makes other digests


@dataclass(frozen=True, eq=False)
class Outcome:
    """What was measured of a policy, and the class that it gives each sample, int64 [samples]."""

    measured: Measured
    classes: npt.NDArray[np.int64]


class NetworkEvaluator:
    """Measures schemes of layers on real samples; the network is compiled when the evaluator is made.

    `statistics` are of the float network, with the Gram matrices that the recipe asks for; `samples` are
    batches of inputs by name, in the network's largest shapes; `labels` are the classes of all of them, [n].
    `loss` looks at the first `loss_samples` of them alone, by whole batches. Raises UserError for a model
    that came quantized, a recipe whose layers depend on each other, and samples or labels that do not fit.
    """

    def __init__(
        self,
        model: Model,
        statistics: Statistics,
        recipe: Recipe,
        samples: Samples,
        labels: Array | None = None,
        loss_samples: int | None = None,
        progress: Progress = silent,
    ) -> None:
        if came_quantized(model.mod):
            raise UserError("the model came quantized: give the float model to choose its schemes")
        self._check_samples(model, samples)
        self._model, self._statistics, self._recipe = model, statistics, recipe
        self._progress = progress
        self._numbers = Reconstruction(model.mod, statistics, recipe)
        self.layers = tuple(layer.name for layer in extract(model.mod).layers)
        self._edges = layer_edges(Graph(model.mod))
        self._all = self._read_grids(dict.fromkeys(self.layers, INT8))
        self._added = self._residuals(Graph(model.mod))
        start = time.monotonic()
        progress("compiling", 0, None)
        self._network = Perturbed(model, self._all.keys())
        self.compile_seconds = time.monotonic() - start
        self._take(samples, labels, loss_samples)

    def on(self, samples: Samples, labels: Array | None = None, loss_samples: int | None = None) -> Self:
        """Give one that measures the same network on other samples; nothing is compiled again.

        Raises UserError for samples or labels that do not fit.
        """
        self._check_samples(self._model, samples)
        other = copy(self)
        vars(other).pop("digest", None)
        other._take(samples, labels, loss_samples)
        return other

    @cached_property
    def digest(self) -> str:
        """The sha256 of all that the measured numbers depend on, as hex."""
        said = json.dumps([_VERSION, asdict(self._recipe), self._loss_batches], sort_keys=True)
        digest = hashlib.sha256(f"{model_hash(self._model.mod)} {self._statistics.digest()} {said}".encode())
        labels = [] if self.labels is None else [{"labels": self.labels}]
        for sample in (*self._samples, *labels):
            for name, array in sorted(sample.items()):
                digest.update(f"{name} {array.dtype} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def check(self, layer: str, scheme: Scheme) -> None:
        """Raise UserError, saying why, if a layer's scheme cannot be measured; costs nothing."""
        self._numbers.check(layer, scheme)

    def loss(self, layers: Sequence[str], scheme: Scheme) -> float:
        """Measure noise over signal at the worst output with these layers alone compressed, all else float.

        A tensor of fewer than 8 bits has them for all who read it, so what is no layer reads it so, too: the
        sum with a residual, for example. Other layers that read it are taken to bear their own part. A
        residual that no layer reads is as narrow as what it is added to.

        Raises UserError as `check` does.
        """
        wanted, bits = set(layers), scheme.input_bits
        own = [edge for edge, layer in self._edges.items() if layer in wanted and scheme.input]
        if bits >= MOST_BITS:
            grids = {edge: self._all.get(edge) for edge in own}
        else:
            own += [edge for edge, layer in self._added.items() if layer in wanted and scheme.input]
            tensors = {tensor: self._narrow((reader, tensor), bits) for reader, tensor in own}
            shared = [edge for edge in self._all if edge[1] in tensors and edge not in self._edges]
            grids = {edge: tensors[edge[1]] for edge in (*own, *shared)}
        self._set(dict.fromkeys(layers, scheme), grids)
        return self._measure(self._loss_batches).measured.loss

    def evaluate(self, schemes: Mapping[str, Scheme]) -> Measured:
        """Measure a network whose layers have these schemes, all others float, on all samples.

        `drop` are points of accuracy lost, without labels hundredths of the samples whose class changed.
        Raises UserError as `check` does.
        """
        return self.outcome(schemes).measured

    def outcome(self, schemes: Mapping[str, Scheme]) -> Outcome:
        """Measure as `evaluate` does, and give the classes with it, for paired tests."""
        self._set(schemes, self._read_grids(schemes))
        return self._measure(len(self._samples))

    def right(self, outcome: Outcome | None = None) -> npt.NDArray[np.bool_]:
        """Say of each sample whether its class is right, without labels whether it is that of float.

        By default of float itself.
        """
        classes = self.reference if outcome is None else outcome.classes
        return classes == (self.reference if self.labels is None else self.labels)

    def outputs(self, schemes: Mapping[str, Scheme]) -> list[list[Array]]:
        """Give all outputs of a network whose layers have these schemes, by batch."""
        self._set(schemes, self._read_grids(schemes))
        return [self._run(index) for index in range(len(self._samples))]

    def _take(self, samples: Samples, labels: Array | None, loss_samples: int | None) -> None:
        """Take these samples to measure on, and run float on them."""
        self._samples = samples
        self._set({}, {})
        self._expected = self._run_float()
        self.reference = np.concatenate([_classes(outputs[0]) for outputs in self._expected])
        self.labels = self._checked(labels)
        ends = np.cumsum([_rows(outputs[0]) for outputs in self._expected])
        asked = len(self.reference) if loss_samples is None else loss_samples
        if asked < 1:
            raise UserError(f"a loss needs at least 1 sample, got {asked}")
        self._loss_batches = int(np.searchsorted(ends, min(asked, len(self.reference)))) + 1

    # What is set

    def _set(self, schemes: Mapping[str, Scheme], grids: Mapping[Edge, Quantization | None]) -> None:
        """Give the network the numbers of its layers under their schemes, and the grids of what is read."""
        weights: dict[str, Array] = {}
        steps = self._steps(schemes, grids)
        for layer, scheme in schemes.items():
            numbers = self._numbers.numbers(layer, scheme, steps.get(layer, ()))
            if numbers is not None and scheme != FP32:
                weights |= self._weights(layer, numbers)
        places = self._network.opened.places
        put: list[tuple[Place, InputGrid]] = []
        for edge, grid in grids.items():
            if grid is not None and not schemes.get(self._edges.get(edge, ""), FP32).dynamic:
                steps = tuple(grid.scale * step for step in grid.steps) or (grid.scale,)
                put.append((places[edge], InputGrid(steps, grid.zero_point, grid.most)))
        for edge, layer in self._edges.items():
            if schemes.get(layer, FP32).dynamic:
                put.append((places[edge], InputGrid((1.0,), SYMMETRIC_ZERO, by_rows=True)))
        self._network.change(weights, put)

    def _steps(
        self, schemes: Mapping[str, Scheme], grids: Mapping[Edge, Quantization | None]
    ) -> dict[str, tuple[float, ...]]:
        """Give the steps of the channels that go into the weight of a layer."""
        return {
            layer: grid.steps
            for edge, layer in self._edges.items()
            if (grid := grids.get(edge)) is not None
            and grid.steps
            and (scheme := schemes.get(layer, FP32)).input
            and not scheme.dynamic
        }

    def _residuals(self, graph: Graph) -> dict[Edge, str]:
        """Give the edges at which layers add what no layer multiplies, and the layers' names."""
        multiplied = {tensor for _, tensor in self._edges}
        adds = {
            (var, chain.residual): chain.layer
            for chain in find_chains(graph)
            for var in chain.variables
            if chain.residual is not None and chain.residual not in multiplied
        }
        return {edge: adds[edge] for edge in self._all if edge in adds}

    def _narrow(self, edge: Edge, bits: int) -> Quantization:
        """Give the grid of fewer than 8 bits that a layer reads a tensor on if no other reads it."""
        found = statistics_of(self._statistics, self._network.opened.places[edge].tensor)
        low, high = ranges(found, self._recipe.calibration, bits)
        scale, zero = affine(low, high, bits)
        return Quantization(float(scale), zero, most=2**bits - 1)

    def _weights(self, layer: str, numbers: Numbers) -> dict[str, Array]:
        known = self._network.weights
        biases = zip(self._network.opened.biases.get(layer, ()), numbers.biases, strict=True)
        return {layer: numbers.weight} | {name: bias.reshape(known[name].shape) for name, bias in biases}

    def _read_grids(self, schemes: Mapping[str, Scheme]) -> dict[Edge, Quantization]:
        """Give the grids of what is read, as the passes would have them."""
        tables = {part.layer for part in self._numbers.tables}
        settled = {name: W8A32 if name in tables else scheme for name, scheme in schemes.items()}
        return read_grids(self._model.mod, settled, self._statistics, self._recipe.calibration)

    # What is measured

    def _run(self, index: int) -> list[Array]:
        self._network.load(self._samples[index])
        return self._network.run()

    def _run_float(self) -> list[list[Array]]:
        found = []
        for index in range(len(self._samples)):
            self._progress("running fp32", index, len(self._samples))
            outputs = self._run(index)
            if not all(np.isfinite(output).all() for output in outputs):
                raise UserError(f"fp32 gives numbers that are not finite on sample {index}: leave it out")
            found.append(outputs)
        return found

    def _measure(self, batches: int) -> Outcome:
        powers = [Power() for _ in self._expected[0]]
        classes = []
        for index in range(batches):
            self._progress("evaluating", index, batches)
            outputs = self._run(index)
            for power, expected, got in zip(powers, self._expected[index], outputs, strict=True):
                power.add(expected, got)
            classes.append(_classes(outputs[0]))
        tiny = np.finfo(np.float32).tiny
        loss = max(power.noise / max(power.signal, tiny) for power in powers)
        found = np.concatenate(classes)
        return Outcome(Measured(self._drop(found), float(loss), len(found)), found)

    def _drop(self, classes: Array) -> float:
        known = self.reference[: len(classes)]
        if self.labels is None:
            return 100 * int((classes != known).sum()) / len(classes)
        labels = self.labels[: len(classes)]
        return 100 * (int((known == labels).sum()) - int((classes == labels).sum())) / len(classes)

    # What the user gave

    def _checked(self, labels: Array | None) -> Array | None:
        if labels is None:
            return None
        given = np.asarray(labels)
        if given.shape != self.reference.shape:
            raise UserError(f"give a label for each of the {len(self.reference)} samples, got {given.shape}")
        return given

    @staticmethod
    def _check_samples(model: Model, samples: Samples) -> None:
        if not samples:
            raise UserError("there are no samples to evaluate on: give --data with at least one")
        for index, sample in enumerate(samples):
            for name, (shape, _) in model.inputs.items():
                if name not in sample:
                    raise UserError(f"sample {index} has no input {name!r}: it has {', '.join(sample)}")
                if sample[name].shape != shape:
                    raise UserError(
                        f"the input {name!r} of sample {index} is {sample[name].shape}, the network is "
                        f"evaluated on {shape}: give whole batches"
                    )
                if not np.isfinite(sample[name]).all():
                    raise UserError(f"the input {name!r} of sample {index} is not finite: leave it out")


def _rows(output: Array) -> int:
    return len(output) if output.ndim > 1 else 1


def _classes(output: Array) -> npt.NDArray[np.int64]:
    return output.reshape(_rows(output), -1).argmax(axis=1)
