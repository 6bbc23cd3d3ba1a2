"""Compute: how many products of one number format a machine makes in a cycle, and what one costs."""

import re
from dataclasses import dataclass
from math import inf
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, ConfigDict, PlainSerializer

from tersor.hardware.energy import check_energy
from tersor.sparsity import NM
from tersor.units import Picojoules


def _parse_sparsity(text: object) -> NM:
    if not isinstance(text, str):
        raise ValueError(f"write a sparsity as text, as in '2:4', got {text!r}")
    return NM.parse(text)


SparsityText = Annotated[NM, BeforeValidator(_parse_sparsity), PlainSerializer(str)]


@dataclass(frozen=True)
class Compute:
    """What computes products of one number format: `int8`, `int4`, `fp32`, ...

    `skips` are the sparsities whose zero weights take neither time nor energy; any other zero is multiplied,
    unless the datapath leaves it out.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    precision: str
    macs_per_cycle: float  # of all cores or units together
    skips: tuple[SparsityText, ...] = ()
    energy_per_mac: Picojoules = 0.0  # pJ; 0 where it is not known
    source: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"(int|fp|bf)[0-9]+", self.precision):
            raise ValueError(f"a precision is int8, int4, fp32 or the like, got {self.precision!r}")
        if not 0 < self.macs_per_cycle < inf:
            raise ValueError(f"{self.precision} needs more than 0 MAC per cycle, got {self.macs_per_cycle}")
        check_energy(self.precision, self.energy_per_mac, self.source)

    @property
    def bits(self) -> int:
        """Bits of one factor of a product."""
        return int(self.precision.lstrip("intfpb"))

    @property
    def is_integer(self) -> bool:
        """Whether it multiplies integers."""
        return self.precision.startswith("int")
