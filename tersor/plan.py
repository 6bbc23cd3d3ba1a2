"""Plan: all that crosses from the scheduler to the compiler, as JSON that a person can read, edit and replay.

    {
      "edges": [],
      "groups": [],
      "hardware": "edge",
      "layers": {
        "fc1.weight": {"mappings": [], "reason": "", "scheme": "int8+2:4"}
      },
      "model": "<sha256 of the model>",
      "recipe": {"bias_correction": true, "calibration": "mse", ...},
      "statistics": null,
      "version": 2
    }

A scheme is written as its short text (`tersor.scheme`), a mapping as lists of its loops and places
(`tersor.mapping`). Keys with a default may be left out. An edge with `"on_chip": true` keeps a tensor on an
accelerator's chip; all edges to those that read it have to.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, ConfigDict, PlainSerializer

from tersor.document import read_json, write_json
from tersor.error import UserError
from tersor.mapping import Keep, Loop, Mapping
from tersor.recipe import Recipe
from tersor.scheme import Scheme


def _parse_mapping(document: object) -> Mapping:
    match document:
        case {"loops": [*loops], **others} if set(others) <= {"keep"}:
            keep = others.get("keep", [])
            if isinstance(keep, list) and all(isinstance(text, str) for text in [*loops, *keep]):
                return Mapping(tuple(map(Loop.parse, loops)), tuple(map(Keep.parse, keep)))
    raise ValueError('write a mapping as {"loops": ["K=4@dram", ...], "keep": ["weight@dram", ...]}')


def _write_mapping(mapping: Mapping) -> dict[str, list[str]]:
    return {"loops": [str(loop) for loop in mapping.loops], "keep": [str(keep) for keep in mapping.keep]}


def _parse_scheme(document: object) -> Scheme:
    if not isinstance(document, str):
        raise ValueError(f"write a scheme as text, as in 'int8+2:4', got {document!r}")
    return Scheme.parse(document)


def _parse_channels(document: object) -> tuple[int, ...]:
    if not isinstance(document, str) or not re.fullmatch(r"\d+(-\d+)?(, *\d+(-\d+)?)*", document):
        raise ValueError(f"write channels as ranges, as in '0-7, 9, 12-15', got {document!r}")
    kept: list[int] = []
    for part in document.split(","):
        first, _, last = part.strip().partition("-")
        kept.extend(range(int(first), int(last or first) + 1))
    return tuple(kept)


def _write_channels(kept: tuple[int, ...]) -> str:
    starts: list[int] = [i for i, channel in enumerate(kept) if channel - 1 not in kept[max(i - 1, 0) : i]]
    runs = [list(kept[start:end]) for start, end in zip(starts, [*starts[1:], len(kept)], strict=True)]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


ChannelsText = Annotated[tuple[int, ...], BeforeValidator(_parse_channels), PlainSerializer(_write_channels)]
SchemeText = Annotated[Scheme, BeforeValidator(_parse_scheme), PlainSerializer(str)]
MappingText = Annotated[Mapping, BeforeValidator(_parse_mapping), PlainSerializer(_write_mapping)]


@dataclass(frozen=True)
class LayerPlan:
    """What is done to one layer, where its parts run, and why (`reason`, for the reader only)."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    scheme: SchemeText
    mappings: tuple[MappingText, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class GroupPlan:
    """Layers whose output channels are dropped together, and which of the first one's channels are `kept`.

    In JSON the kept channels are written as ranges: `"0-7, 9, 12-15"`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    layers: tuple[str, ...]
    kept: ChannelsText

    def __post_init__(self) -> None:
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise ValueError(f"a group needs one or more different layers, got {list(self.layers)}")
        if not self.kept or sorted(set(self.kept)) != list(self.kept) or self.kept[0] < 0:
            raise ValueError(f"a group keeps one or more channels in rising order, got {list(self.kept)}")


@dataclass(frozen=True)
class EdgePlan:
    """The layout of the tensor between two layers, and whether it stays on chip."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    producer: str
    consumer: str
    layout: str = ""
    on_chip: bool = False


@dataclass(frozen=True)
class Plan:
    """The choices for one model (`model`, its hash) on one hardware (its name), a scheme for each layer.

    `statistics` is the hash of the calibration that the choices were made from, `recipe` says by which
    algorithms they are carried out.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    model: str
    hardware: str
    layers: dict[str, LayerPlan]
    statistics: str | None = None
    recipe: Recipe = field(default_factory=Recipe)
    groups: tuple[GroupPlan, ...] = ()
    edges: tuple[EdgePlan, ...] = ()
    version: Literal[2] = 2

    def __post_init__(self) -> None:
        if self.version != 2:
            raise ValueError(f"this tersor reads plans of version 2, got version {self.version}")
        for what, value in (("model", self.model), ("statistics", self.statistics)):
            if value is not None and not re.fullmatch(r"[0-9a-f]{64}", value):
                raise ValueError(f"{what} is a sha256 of 64 hexadecimal digits, got {value!r}")

    @property
    def mappings(self) -> dict[str, tuple[Mapping, ...]]:
        """The mappings of the layers that have some."""
        return {name: layer.mappings for name, layer in self.layers.items() if layer.mappings}

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a plan's JSON file. Raises UserError naming the file, the key and what to change."""
        return read_json(path, cls)

    def save(self, path: str | Path) -> None:
        """Write the plan; equal plans give equal bytes. Raises UserError if `path` cannot be written."""
        write_json(path, self, Plan)

    def check_model(self, model: str) -> None:
        """Raise UserError if the plan was made for another model than the one of hash `model`."""
        if self.model != model:
            raise UserError(
                f"the plan was made for another model (its hash begins {self.model[:12]}, this model's "
                f"{model[:12]}); give the model it was made for, or tune a new plan"
            )

    def check_layers(self, names: Iterable[str]) -> None:
        """Raise UserError if the plan names a layer that is not among `names`, the model's layers."""
        known = set(names)
        named = [*self.layers, *(name for group in self.groups for name in group.layers)]
        if unknown := [name for name in named if name not in known]:
            raise UserError(
                f"the plan names the layer {unknown[0]!r}, which the model does not have; remove it"
            )
