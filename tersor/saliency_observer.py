"""Salience: the saliencies of a model's layers, gathered beside its calibration."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tersor.formats.matrix import matrix_of
from tersor.ir.graph import weights_of
from tersor.model import Model
from tersor.passes.gradients import with_gradients
from tersor.passes.saliencies import SaliencyObserver

Array = npt.NDArray[Any]


def saliency_observer(model: Model, layers: Collection[str]) -> SaliencyObserver:
    """Compile a float network with its gradients and give what sums up the saliencies of `layers`.

    Raises UserError for a network that there are no gradients of.
    """
    found = [with_gradients(mod, layers) for mod in model.mods]
    runner = model.runner(*model.lowered_alike([mod for mod, _ in found]))
    uses = found[-1][1]
    weights = weights_of(model.mod)
    matrices = {use.layer: matrix_of(weights[use.layer], 0 if use.window.kernel else 1) for use in uses}
    return SaliencyObserver(runner.uncropped, uses, matrices)


def watched(
    samples: Iterable[Mapping[str, Array]], model: Model, observer: SaliencyObserver
) -> Iterator[Mapping[str, Array]]:
    """Give the samples again, one by one, once the observer has seen each."""
    for sample in samples:
        # A batch that is smaller than a library was compiled for is filled up with copies of its last image.
        real = min((len(np.asarray(sample[name])) for name in model.batched if name in sample), default=None)
        observer.observe(sample, real)
        yield sample
