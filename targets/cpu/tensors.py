"""Tensors in both layouts: each is kept as it was made, and brought to the other layout where that is needed.

channels first [N, C, H, W], or any rank   <->   channels last [N, H, W, C], maybe with a halo
"""

from collections.abc import Mapping

from tersor.ir.graph import Array, Builder, Expr, Graph, shape_of
from tersor.ir.operators import Quantize
from tersor.ir.untyped import relax
from tersor.targets.cpu.host.isa import Isa
from tersor.targets.cpu.kernels.interleave import can_interleave, interleave
from tersor.targets.cpu.layout.halo import Halo
from tersor.targets.cpu.layout.order import Arrangement, Order


class Tensors:
    """What stands in the new module for each variable of the old one, in either layout.

    `halos` are those of images that are made channels last; only kernels read these as they are.
    """

    def __init__(self, graph: Graph, builder: Builder, isa: Isa, halos: Mapping[Expr, Halo]) -> None:
        self.graph = graph
        self.builder = builder
        self.isa = isa
        self.halos = halos
        self.first: dict[Expr, Expr] = {var: var for var in graph.inputs}  # channels first, or any rank
        self.last: dict[Expr, Expr] = {}  # channels last
        self.arranged: dict[str, tuple[str, Arrangement]] = {}  # weights by name: whose, and in which order

    def weight(self, name: str, arrangement: Arrangement, value: Array) -> Expr:
        """Declare a weight in the order in which its kernel reads it."""
        var = self.builder.weight(name, arrangement(value))
        self.arranged[var.name] = name, arrangement
        return var

    def channels_first(self, var: Expr) -> Expr:
        """Give a tensor of any rank as the old module has it; a weight is declared."""
        if not isinstance(var, relax.Var):
            return var
        if var in self.graph.weights:
            return self.weight(var.name, Order(), self.graph.weights[var])
        if var not in self.first:
            image = self._without_halo(var)
            self.first[var] = self.builder.emit(relax.op.permute_dims(image, [0, 3, 1, 2]))
        return self.first[var]

    def channels_last(self, var: Expr) -> Expr:
        """Give an image as kernels read it, with its halo where it has one."""
        if var not in self.last:
            interleaved = self.interleaved(var)
            self.last[var] = self._transposed(var) if interleaved is None else interleaved
        return self.last[var]

    def all_last(self, operands: list[Expr]) -> dict[Expr, Expr]:
        """Bring the operands over; weights among them are scalars and stay as they are."""
        return {
            each: self.channels_first(each) if each in self.graph.weights else self.channels_last(each)
            for each in operands
        }

    def interleaved(self, var: Expr, step: Quantize | None = None) -> Expr | None:
        """Bring an image of few channels over by its own kernel, quantized on the way by `step`."""
        shape = shape_of(var)
        if str(var.ty.dtype) != "float32" or var in self.last or not can_interleave(shape, self.isa):
            return None
        function = interleave(shape, self.isa, step)
        batch, channels, height, width = shape
        out = (batch, height, width, channels)
        dtype = "uint8" if step else "float32"
        return self.builder.call(function, "interleave", [self.channels_first(var)], out, dtype)

    def _transposed(self, var: Expr) -> Expr:
        return self.builder.emit(relax.op.permute_dims(self.first[var], [0, 2, 3, 1]))

    def _without_halo(self, var: Expr) -> Expr:
        """Give an image as it is channels last, and where it has a halo, what is inside."""
        if var not in self.halos:
            return self.last[var]
        top, left, _, _ = self.halos[var].sides
        _, _, height, width = shape_of(var)
        inside = relax.op.strided_slice(
            self.last[var], [1, 2], [top, left], [top + height, left + width], assume_inbound=True
        )
        return self.builder.emit(inside)
