"""Planned mappings: each use of a layer takes the first of the plan's mappings that covers it.

A layer has several uses where a weight is shared, where its weight is factored, and in each compiled shape. A
use that no mapping covers has the analytic tiling; a mapping that covers no use is a mistake in the plan.
"""

from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Table

from tersor.error import UserError
from tersor.mapping import Mapping
from tersor.targets.cpu.layout.geometry import Tiling
from tersor.targets.cpu.mapping.nest import Loops


class PlannedMappings:
    """The mappings of a plan by layer, and what became of them in one module."""

    def __init__(self, planned: Table[str, Sequence[Mapping]]) -> None:
        self._planned = planned
        self.ran: dict[str, tuple[Mapping, ...]] = {}  # of every layer, planned or not
        self.misfits: dict[str, dict[Mapping, str]] = {}

    def tiling(self, layer: str, nest: Loops, default: Tiling, vectors: int | None = None) -> Tiling:
        """Choose the tiling of one use; its weight is packed for tiles of `vectors` already, if given."""
        chosen = self._first(layer, nest, vectors) or default
        mapping = nest.mapping(chosen)
        self.ran[layer] = tuple(dict.fromkeys((*self.ran.get(layer, ()), mapping)))
        return chosen

    def _first(self, layer: str, nest: Loops, vectors: int | None) -> Tiling | None:
        for mapping in self._planned.get(layer, self._planned.get(layer.rpartition(".")[0], ())):
            try:
                tiling = nest.tiling(mapping)
            except ValueError as error:
                self._refuse(layer, mapping, str(error))
                continue
            if vectors in (None, tiling.vectors):
                return tiling
            self._refuse(layer, mapping, f"its weight is packed for tiles of {vectors} vectors")
        return None

    def _refuse(self, layer: str, mapping: Mapping, reason: str) -> None:
        self.misfits.setdefault(layer, {}).setdefault(mapping, reason)


def check_planned(planned: Table[str, Sequence[Mapping]], modules: Iterable[PlannedMappings]) -> None:
    """Raise UserError for a mapping that covers no use of its layer in any module, the largest first."""
    modules = list(modules)
    for layer, mappings in planned.items():
        for mapping in mappings:
            uses = [(module, name) for module in modules for name in _uses(module, layer)]
            if any(mapping in module.ran[name] for module, name in uses):
                continue
            reasons = [module.misfits.get(name, {}).get(mapping) for module, name in uses]
            reason = next((each for each in reasons if each), "it has no kernel with loops to map")
            written = str(mapping) or "no loops"
            raise UserError(f"the plan maps {layer!r} as {written}, but {reason}: change or remove it")


def _uses(module: PlannedMappings, layer: str) -> list[str]:
    """Name the layer, or the factors that it became."""
    return [name for name in module.ran if name == layer or name.rpartition(".")[0] == layer]
