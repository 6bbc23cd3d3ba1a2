"""Rule: a scheme for layers by name or kind, written before any model is known.

    {"layers": "layer1.*", "scheme": "w4a8"}        layers whose name matches: * is any text, ? any letter
    {"kind": "depthwise", "scheme": "int8"}         layers of a kind
    {"layers": "enc*", "kind": "dense", "scheme": "w4g64"}      both

Of several rules the first that matches a layer is taken.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from pydantic import ConfigDict

from tersor.error import UserError
from tersor.layer import Layer
from tersor.network import Network
from tersor.plan import SchemeText

Kind = Literal[
    "conv2d", "depthwise", "pointwise", "dense", "recurrent", "table", "product", "first", "last", "any"
]


@dataclass(frozen=True)
class Rule:
    """The scheme of the layers whose name matches `layers` and that are of a kind.

    `conv2d` are all convolutions, of which `depthwise` and `pointwise` (1x1) are some; `product` is one of
    two activations; `first` and `last` are those of all convolutions and matrix products with a weight.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    scheme: SchemeText
    layers: str = "*"
    kind: Kind = "any"

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"a kind of layer is one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        if not self.layers:
            raise ValueError("a rule needs a layer's name or a pattern such as * in layers")

    def __str__(self) -> str:
        return self.layers if self.kind == "any" else f"{self.layers} ({self.kind})"

    @property
    def names_one(self) -> bool:
        """Whether it is about a single layer, by its full name."""
        return not re.search(r"[*?]", self.layers)

    def names(self, layer: Layer) -> bool:
        """Whether the layer's name matches."""
        pattern = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in self.layers)
        return re.fullmatch(pattern, layer.name, re.DOTALL) is not None

    def matches(self, layer: Layer, network: Network) -> bool:
        """Whether the rule is about a layer of the network."""
        return self.names(layer) and _is_of_kind(layer, self.kind, network)


def assign(rules: Sequence[Rule], network: Network) -> dict[str, Rule]:
    """Give the layers the first rule that matches them; a layer that none matches is left out.

    Raises UserError for a rule that names layers (`layers` is not `*`) and gets none of them, because there
    are none or earlier rules have them all.
    """
    assigned = {
        layer.name: next(found, None)
        for layer in network.layers
        for found in [(index for index, rule in enumerate(rules) if rule.matches(layer, network))]
    }
    for index, rule in enumerate(rules):
        if rule.layers == "*" or index in assigned.values():
            continue
        if not any(rule.matches(layer, network) for layer in network.layers):
            known = ", ".join(layer.name for layer in network.layers[:3])
            raise UserError(
                f"the rule for {rule} matches no layer of the model, whose layers are {known}, ...: "
                "correct or remove it"
            )
        raise UserError(f"earlier rules have all layers that {rule} matches: move the rule up, or remove it")
    return {name: rules[index] for name, index in assigned.items() if index is not None}


def _is_of_kind(layer: Layer, kind: Kind, network: Network) -> bool:
    match kind:
        case "any":
            return True
        case "conv2d":
            return layer.operator == "conv2d"
        case "depthwise":
            return layer.is_depthwise
        case "pointwise":
            return layer.operator == "conv2d" and (layer.R, layer.S) == (1, 1) and not layer.is_depthwise
        case "dense":
            return layer.operator == "matmul" and layer.weight_bearing and not layer.recurrent
        case "recurrent":
            return layer.recurrent
        case "table":
            return layer.operator == "gather"
        case "product":
            return not layer.weight_bearing
        case "first" | "last":
            ends = [each for each in network.layers if each.weight_bearing and each.operator != "gather"]
            return bool(ends) and layer is ends[0 if kind == "first" else -1]
