"""Row stationary: the mapping of Eyeriss, by the seven numbers that configure the chip.

A unit keeps a row of some filters and slides a row of the input along it; sums of a window's rows add up
through the units. A pass takes p*t filters over q*r channels of n images, for e rows of the output:

    dram: weight, input, output
      K/m, P/e, N/n
        glb: output         sums of m filters, e rows, n images, until all channels are added up
          C/(q*r)
            glb: input
              m/(p*t)
                rows:    R, r of C, as many of t as fit, as much of e as `columns` cannot hold
                columns: e, and what is left of t
                  filter: weight
                    n, Q
                      ifmap: input         a window
                        psum: output
                          p, q, S

Y.-H. Chen et al., JSSC 52(1), 2017, table II, with its letters; groups come first.
"""

from dataclasses import dataclass

from tersor.hardware import Hardware
from tersor.layer import Dim, Layer
from tersor.mapping import Keep, Loop, Mapping


@dataclass(frozen=True)
class RowStationary:
    """Filters m in the buffer, images n, output rows e; p filters and q channels in a unit, r and t units."""

    m: int
    n: int
    e: int
    p: int
    q: int
    r: int
    t: int

    def __post_init__(self) -> None:
        if min(self.m, self.n, self.e, self.p, self.q, self.r, self.t) < 1:
            raise ValueError(f"the numbers of a row-stationary mapping are at least 1, got {self}")

    def mapping(self, layer: Layer, hardware: Hardware) -> Mapping:
        """Map `layer` to a machine with the memories and axes of `targets/machines/eyeriss.toml`."""
        rows, columns = hardware.axis("rows").size, hardware.axis("columns").size
        across = min(self.e, columns)
        folds = -(-self.e // across)
        down = max(1, min(self.t, rows // (layer.R * self.r * folds)))
        loops: list[tuple[Dim, int, str]] = [
            ("G", layer.G, "dram"),
            ("K", -(-layer.K // self.m), "dram"),
            ("P", -(-layer.P // self.e), "dram"),
            ("N", -(-layer.N // self.n), "dram"),
            ("C", -(-layer.C // (self.q * self.r)), "glb"),
            ("K", -(-self.m // (self.p * self.t)), "glb"),
            ("K", down, "rows"),
            ("C", self.r, "rows"),
            ("P", folds, "rows"),
            ("R", layer.R, "rows"),
            ("K", -(-self.t // down), "columns"),
            ("P", across, "columns"),
            ("N", self.n, "filter"),
            ("Q", layer.Q, "filter"),
            ("K", self.p, "psum"),
            ("C", self.q, "psum"),
            ("S", layer.S, "psum"),
        ]
        keep = [Keep(operand, "dram") for operand in ("weight", "input", "output")]
        keep += [Keep("output", "glb"), Keep("input", "glb", 1), Keep("weight", "glb", 2)]
        keep += [Keep("weight", "filter"), Keep("input", "ifmap"), Keep("output", "psum")]
        return Mapping(tuple(Loop(*loop) for loop in loops), tuple(keep))
