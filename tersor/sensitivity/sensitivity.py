"""Sensitivity: what each scheme of each layer does to the network's output, all else in float32.

The measured noise is that of the outputs, with one layer's weight compressed and its input rounded. Beside it
stand two estimates: the noise in the layer's own output (`tersor.scheduler.second_order`), and that times the
layer's gain, which is how much of a small random change of the weight arrives at the outputs.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from tersor import arithmetic
from tersor.blas import on_one_blas_thread
from tersor.compiler import Progress, silent
from tersor.document import write_json
from tersor.error import UserError
from tersor.evaluation.opened import InputGrid, Place
from tersor.evaluation.perturbed import Perturbed
from tersor.formats.matrix import matrix_of
from tersor.gram import Gram
from tersor.ir.chains import find_chains
from tersor.ir.graph import Graph
from tersor.layer import Layer
from tersor.measure import snr_db
from tersor.model import Model
from tersor.passes.calibrate import calibrate
from tersor.passes.extract import extract
from tersor.passes.grams import find_windows
from tersor.passes.quantization.imported import came_quantized
from tersor.passes.quantization.ranges import affine, ranges, symmetric
from tersor.plan import SchemeText
from tersor.planning import model_hash
from tersor.recipe import Recipe
from tersor.scheduler.journal import Journal
from tersor.scheduler.rounded import axis_of, rounded
from tersor.scheduler.second_order import input_noise, signal, weight_noise
from tersor.scheme import Scheme
from tersor.statistics import Statistics

Array = npt.NDArray[Any]
SCHEMES = ("int8", "w4a8", "w3a8", "w2a8", "int8+2:4", "int8+sparse50")
PROBE = 0.01  # root mean square of a random change of a weight, relative to the weight's


@dataclass(frozen=True)
class Cell:
    """One layer under one scheme: signal-to-noise ratios in dB, or the reason why it cannot have it.

    `snr_db` is measured at the output that suffers most, `layer_db` estimated at the layer's own output,
    `proxy_db` estimated at that output.
    """

    layer: str
    scheme: SchemeText
    snr_db: float | None = None
    layer_db: float | None = None
    proxy_db: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Sensitivity:
    """All cells of a model, by layer in the network's order, then by scheme, and how well the proxies rank.

    The correlations are Spearman's, over all cells that have both numbers.
    """

    model: str
    schemes: tuple[SchemeText, ...]
    samples: int
    cells: tuple[Cell, ...]
    layer_correlation: float | None = None
    proxy_correlation: float | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers in the network's order."""
        return tuple(dict.fromkeys(cell.layer for cell in self.cells))

    def cell(self, layer: str, scheme: Scheme) -> Cell:
        """Give the cell of a layer and a scheme. Raises KeyError."""
        for cell in self.cells:
            if (cell.layer, cell.scheme) == (layer, scheme):
                return cell
        raise KeyError((layer, str(scheme)))

    def save(self, path: Path) -> None:
        """Write JSON; equal results give equal bytes. Raises UserError."""
        write_json(path, self, Sensitivity)


@on_one_blas_thread
def sensitivity(
    model: Model,
    calibration: Iterable[Mapping[str, Array]],
    samples: Sequence[Mapping[str, Array]],
    schemes: Sequence[Scheme],
    recipe: Recipe | None = None,
    journal: Path | None = None,
    progress: Progress = silent,
) -> Sensitivity:
    """Measure every layer under every scheme on `samples`, with ranges found on `calibration`.

    Weights are rounded to nearest, or by least squares if the recipe's rounding is "mse", and biases
    corrected as it says. What has been measured is kept in the file `journal`, and not measured again. Raises
    UserError for a model that came quantized, samples that do not fit, and a file that is no journal.
    """
    if came_quantized(model.mod):
        raise UserError("the model came quantized: give the float model to see what quantizing does to it")
    if not samples:
        raise UserError("there are no samples to measure on: give --data with at least one")
    recipe = recipe or Recipe()
    layers = extract(model.mod).layers
    progress("calibrating", 0, None)
    statistics = calibrate(
        model.observe(*model.mods),
        calibration,
        lambda done: progress("calibrating", done, None),
        find_windows(model.mod, [layer.name for layer in layers]),
    )
    progress("compiling", 0, None)
    bench = _Bench(model, statistics, recipe, samples)
    cells: list[Cell] = []
    with Journal(journal, _digest(model, statistics, recipe, samples)) as kept:
        for index, layer in enumerate(layers):
            gain = None
            for scheme in schemes:
                progress("measuring", len(cells), len(layers) * len(schemes))
                cell, gain = _measure(bench, kept, layer, scheme, index, gain)
                cells.append(cell)
    layer_rank, proxy_rank = (
        _correlation(cells, lambda cell: cell.layer_db),
        _correlation(cells, lambda cell: cell.proxy_db),
    )
    return Sensitivity(model.name, tuple(schemes), len(samples), tuple(cells), layer_rank, proxy_rank)


def _measure(
    bench: "_Bench", journal: Journal, layer: Layer, scheme: Scheme, index: int, gain: float | None
) -> tuple[Cell, float | None]:
    """Give a cell, and the layer's gain, which is measured at its first scheme."""
    try:
        weight = bench.compressed(layer, scheme)
    except UserError as error:
        return Cell(layer.name, scheme, reason=str(error)), gain
    noise = journal.remember("noise", f"{layer.name}={scheme}", lambda: bench.noise(layer, weight, scheme))
    local = bench.local_noise(layer, weight, scheme)
    if gain is None and local is not None:
        probe = bench.probe(layer, index)
        arrived = journal.remember("probe", layer.name, lambda: bench.noise(layer, probe, Scheme()))
        gain = arrived / (bench.local_noise(layer, probe, Scheme()) or 1.0)
    return Cell(
        layer.name,
        scheme,
        snr_db(1.0, noise),
        None if local is None else snr_db(1.0, local),
        None if local is None or gain is None else snr_db(1.0, local * gain),
    ), gain


class _Bench:
    """The float network, opened, with the samples and what their tensors are."""

    def __init__(
        self, model: Model, statistics: Statistics, recipe: Recipe, samples: Sequence[Mapping[str, Array]]
    ) -> None:
        self._statistics, self._recipe, self._samples = statistics, recipe, samples
        self._network = Perturbed(model)
        chains = find_chains(Graph(model.mod))
        names = [chain.bias_name for chain in chains]
        self._biases = {c.layer: c.bias_name for c in chains if c.bias_name and names.count(c.bias_name) == 1}
        self._model = model
        self._exact: list[list[Array]] = []
        for sample in samples:
            self._network.load(sample)
            self._exact.append(self._network.run())

    @cached_property
    def _tensors(self) -> list[dict[str, Array]]:
        """What layers read of each sample."""
        read = {place.tensor for places in self._network.opened.reads.values() for place in places}
        found = ({**sample, **self._model.float_tensors(sample)} for sample in self._samples)
        return [{name: seen[name] for name in read} for seen in found]

    def compressed(self, layer: Layer, scheme: Scheme) -> Array | None:
        """Give the layer's weight under the scheme, None if it has none. Raises UserError saying why not."""
        if not layer.weight_bearing:
            if scheme.input is None or scheme.sparsity or scheme.factor or scheme.dynamic:
                raise UserError("a product of two activations has no weight to compress, and no rows' ranges")
            return None
        if scheme.dynamic and layer.operator != "matmul":
            raise UserError("only dense layers find ranges row by row")
        if layer.operator == "gather" and scheme.input:
            raise UserError("rows are looked up, not multiplied: its input is not rounded")
        method = "mse" if self._recipe.rounding == "mse" else "nearest"
        return rounded(self._network.weights[layer.name], layer, scheme, method)

    def probe(self, layer: Layer, seed: int) -> Array:
        """Give the layer's weight with a small random change."""
        weight = self._network.weights[layer.name]
        random = np.random.default_rng(seed).normal(size=weight.shape)
        return (weight + PROBE * np.sqrt(np.square(weight).mean()) * random).astype(np.float32)

    def noise(self, layer: Layer, weight: Array | None, scheme: Scheme) -> float:
        """Run all samples with another weight and rounded inputs: noise over signal of the worst output."""
        weights = {} if weight is None else {layer.name: weight, **self._corrected(layer, weight)}
        signals, noises = np.zeros(len(self._exact[0])), np.zeros(len(self._exact[0]))
        self._network.change(weights, self._grids(layer, scheme))
        for sample, exact in zip(self._samples, self._exact, strict=True):
            self._network.load(sample)
            for i, (expected, got) in enumerate(zip(exact, self._network.run(), strict=True)):
                wide = expected.astype(np.float64)
                signals[i] += np.square(wide).sum()
                noises[i] += np.square(got.astype(np.float64) - wide).sum()
        return float((noises / np.maximum(signals, np.finfo(np.float32).tiny)).max())

    def local_noise(self, layer: Layer, weight: Array | None, scheme: Scheme) -> float | None:
        """Estimate noise over signal in the layer's own output; None without a weight that is multiplied."""
        gram = self._statistics.grams.get(layer.name)
        if weight is None or gram is None:
            return None
        axis = axis_of(layer)
        before, after = (matrix_of(each, axis) for each in (self._network.weights[layer.name], weight))
        noise = weight_noise(after - before, gram, self._corrects(layer))
        for place in self._network.opened.reads.get(layer.name, ())[:1]:
            noise += input_noise(after, self._step(layer, scheme, place.tensor))
        return noise / signal(before, gram)

    def _corrects(self, layer: Layer) -> bool:
        return self._recipe.bias_correction and layer.name in self._biases

    def _corrected(self, layer: Layer, weight: Array) -> dict[str, Array]:
        """Give the bias that takes up the mean error of the weight."""
        gram: Gram | None = self._statistics.grams.get(layer.name)
        if gram is None or not self._corrects(layer):
            return {}
        change = matrix_of(weight - self._network.weights[layer.name], axis_of(layer))
        rows = change.astype(np.float64).reshape(gram.groups, -1, gram.columns)
        shift = np.einsum("gkn,gn->gk", rows, gram.mean).reshape(-1)
        bias = self._network.weights[self._biases[layer.name]]
        return {self._biases[layer.name]: (bias - shift.reshape(bias.shape)).astype(np.float32)}

    def _grids(self, layer: Layer, scheme: Scheme) -> list[tuple[Place, InputGrid]]:
        """Give the grids of what the layer reads; a second operand has a symmetric one."""
        if not scheme.input:
            return []
        return [
            (place, self._grid(place.tensor, scheme, not layer.weight_bearing and position % 2 == 1))
            for position, place in enumerate(self._network.opened.reads.get(layer.name, ()))
        ]

    def _grid(self, name: str, scheme: Scheme, is_right: bool) -> InputGrid:
        if scheme.dynamic:
            return InputGrid((1.0,), arithmetic.SYMMETRIC_ZERO, by_rows=True)
        low, high = ranges(self._statistics.tensors[name], self._recipe.calibration)
        bits = scheme.input_bits
        if is_right and bits == 8:
            scale, zero = symmetric(low, high)
        else:
            scale, zero = affine(low, high, bits)
        return InputGrid((float(scale),), zero, 2**bits - 1)

    def _step(self, layer: Layer, scheme: Scheme, name: str) -> float:
        """Give the step that a layer's input is rounded to, 0 where it stays float."""
        if not scheme.input:
            return 0.0
        if scheme.dynamic:
            return float(
                np.sqrt(np.mean([np.square(arithmetic.row_scale(t[name])).mean() for t in self._tensors]))
            )
        low, high = ranges(self._statistics.tensors[name], self._recipe.calibration)
        return float(affine(low, high, scheme.input_bits)[0])


def _digest(
    model: Model, statistics: Statistics, recipe: Recipe, samples: Sequence[Mapping[str, Array]]
) -> str:
    """Hash all that the measured numbers depend on."""
    said = json.dumps([recipe.calibration, recipe.bias_correction, recipe.rounding])
    digest = hashlib.sha256(f"{model_hash(model.mod)} {statistics.digest()} {said}".encode())
    for sample in samples:
        for name, array in sorted(sample.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _correlation(cells: Sequence[Cell], estimate: Callable[[Cell], float | None]) -> float | None:
    pairs = [(cell.snr_db, estimate(cell)) for cell in cells]
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    if len(set(both)) < 3:
        return None
    result: Any = spearmanr([a for a, _ in both], [b for _, b in both])
    found = float(result.statistic)
    return found if np.isfinite(found) else None
