"""Network: the layers of a model and the tensors between them, as the scheduler sees it."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from tersor.layer import Layer


@dataclass(frozen=True)
class Edge:
    """A tensor of `shape` between two layers; a name may also be that of the model's input or output."""

    producer: str
    consumer: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if any(size < 1 for size in self.shape):
            raise ValueError(
                f"the tensor from {self.producer!r} to {self.consumer!r} needs sizes >= 1, got {self.shape}"
            )


@dataclass(frozen=True)
class Network:
    """Layers in the order of execution, the edges between them, and what ties them.

    `tied` are groups of layers that share one weight; `movers` are the operators that only move data
    (reshapes, transposes, concatenations, slices), `others` the kinds of those that compute and are in no
    layer (`nn.softmax`), one for each.
    """

    layers: tuple[Layer, ...]
    edges: tuple[Edge, ...] = ()
    tied: tuple[tuple[str, ...], ...] = ()
    movers: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        counts = Counter(layer.name for layer in self.layers)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise ValueError(
                f"layers need names of their own, {twice[0]!r} is there {counts[twice[0]]} times"
            )
        for group in self.tied:
            if len(group) < 2:
                raise ValueError(f"a tied group needs two or more layers, got {group}")
            if unknown := [name for name in group if name not in counts]:
                raise ValueError(f"the tied group {group} names {unknown[0]!r}, which is no layer")

    @cached_property
    def _by_name(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    def __getitem__(self, name: str) -> Layer:
        """The layer of that name. Raises KeyError."""
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one run."""
        return sum(layer.macs for layer in self.layers)

    @property
    def weight_count(self) -> int:
        """Stored weights; a weight that layers share counts once."""
        copies = {name for group in self.tied for name in group[1:]}
        return sum(
            layer.weight_count for layer in self.layers if layer.weight_bearing and layer.name not in copies
        )
