"""Products of two activations, as attention has them: a small GEMM for each entry of the batch.

The right operand is packed while the network runs, in the order in which the register tile of `conv2d` reads
a weight, and its sums take the place of the bias where the left operand has a zero point. Both operands and
the result are strided views, so that the transposes around attention are never carried out.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tersor.arithmetic import SYMMETRIC_ZERO
from tersor.targets.cpu.host.isa import KERNEL_ATTRIBUTES, Isa
from tersor.targets.cpu.host.threads import worth_sharing
from tersor.targets.cpu.kernels.conv2d import Gemm, flat
from tersor.targets.cpu.kernels.epilogue import Epilogue, Place
from tersor.targets.cpu.layout.geometry import Geometry, Tiling
from tersor.targets.cpu.layout.moves import copy_run
from tersor.targets.cpu.layout.packing import channel_vectors
from tersor.targets.cpu.layout.views import View
from tersor.targets.cpu.mapping.nest import PRODUCT, Nest
from tersor.targets.cpu.mapping.tiling import default_tiling

Expr = Any


@dataclass(frozen=True)
class ProductKernel:
    """[..., M, C] x [..., C, K] -> [..., M, K] for one shape; `zero_point` is the left operand's.

    The tiling is the analytic one if none is `given`.
    """

    isa: Isa
    cores: int
    left: View
    right: View
    out: View
    epilogue: Epilogue
    zero_point: int = 0
    given: Tiling | None = None

    @property
    def name(self) -> str:
        """Name the kernel for the report."""
        precision = "int8" if self.epilogue.accumulator == "int32" else "fp32"
        tiling = self.tiling
        return f"product {precision} {self.isa.name} {tiling.pixels}x{tiling.vectors}"

    @property
    def batch(self) -> tuple[int, ...]:
        """The leading axes."""
        return self.out.shape[:-2]

    @property
    def nest(self) -> Nest:
        """The loops that its tiling is one of: each entry of the batch is an image of one column."""
        rows, columns = self.out.shape[-2:]
        geometry = Geometry(prod(self.batch), rows, 1, self.left.shape[-1], columns)
        return Nest(self.isa, geometry, self.epilogue.accumulator == "int32", PRODUCT)

    @cached_property
    def tiling(self) -> Tiling:
        """The register tile, and the rows of a task; a batch that occupies the cores has all in one."""
        if self.given is not None:
            return self.given
        nest, entries = self.nest, prod(self.batch)
        cores = self.cores if worth_sharing(self.isa, nest.geometry.macs, nest.integer) else 1
        chunks = 1 if entries >= cores else -(-cores // entries)
        rows = -(-self.out.shape[-2] // chunks)
        row_of_pixels = replace(nest.geometry, batch=1, height=1, width=rows)
        tile = default_tiling(self.isa, row_of_pixels, 1, nest.integer)
        tiling = replace(tile, rows=rows, parallel=False)
        return replace(tiling, parallel=cores > 1 and nest.tasks(tiling) > 1)

    @property
    def chunks(self) -> int:
        """Parts of the rows."""
        return -(-self.out.shape[-2] // self.tiling.rows)

    @property
    def rows(self) -> int:
        """Rows of one part."""
        return self.tiling.rows

    @property
    def geometry(self) -> Geometry:
        """One part as a 1x1 convolution over a column of pixels."""
        return Geometry(1, self.rows, 1, self.left.shape[-1], self.out.shape[-1])

    @property
    def gemm(self) -> Gemm:
        """The loops over one part."""
        return Gemm(self.isa, self.geometry, self.tiling, self.epilogue, pitch=self.out.strides[-2])

    def prim_func(self) -> Any:
        """Build the PrimFunc ``(left, right, [multiplier]) -> out`` on the tensors behind the views."""
        with IRBuilder() as builder, T.prim_func(s_tir=True, private=True):
            T.func_name("product")
            T.func_attr(dict(KERNEL_ATTRIBUTES))
            self._emit()
        return builder.get()

    def _emit(self) -> None:
        gemm = self.gemm
        left = T.arg("left", T.Buffer(self.left.source, gemm.dtype))
        right = T.arg("right", T.Buffer(self.right.source, gemm.dtype))
        padded = channel_vectors(self.isa, self.geometry) * self.isa.lanes
        multiplier = (
            T.arg("multiplier", T.Buffer((padded,), "float32")) if self.epilogue.has_multiplier else None
        )
        y = T.arg("y", T.Buffer(self.out.source, self.epilogue.output))
        left, right, y = flat(left), flat(right), flat(y)
        with (T.parallel if self.tiling.parallel else T.serial)(0, prod(self.batch) * self.chunks) as task:
            entry = T.bind(task // self.chunks)
            first = T.bind(T.min(task % self.chunks * self.rows, self.out.shape[-2] - self.rows))
            packed, sums = self._emit_packed(gemm, right, T.bind(self._base(self.right, entry)), padded)
            start = self._base(self.left, entry) + first * self.left.strides[-2]
            staged = self._emit_staged(gemm, left, T.bind(start))
            out = T.bind(self._base(self.out, entry) + first * self.out.strides[-2])
            place = Place(out, out)
            gemm.emit_blocks((staged, packed, sums, multiplier, None, y), T.int32(0), place, T.int32(0))

    def _base(self, view: View, entry: Expr) -> Expr:
        """Give the offset of one entry of the batch in the tensor behind a view."""
        offset: Expr = T.int32(0)
        for extent, stride in zip(reversed(self.batch), reversed(view.strides[:-2]), strict=True):
            offset = offset + entry % extent * stride
            entry = entry // extent
        return offset

    def _emit_staged(self, gemm: Gemm, left: Expr, start: Expr) -> Expr:
        """Copy the rows of the left operand one after the other, widened as the dot product wants them."""
        inner = self.left.shape[-1]
        row, step = self.left.strides[-2:]
        staged = T.alloc_buffer((self.rows * inner + gemm.group,), gemm.staged_dtype)
        with T.serial(0, self.rows) as m:
            if step == 1:
                copy_run(staged, m * inner, left, start + m * row, inner, gemm.staged_dtype)
            else:
                with T.serial(0, inner) as c:
                    value = T.cast(left[start + m * row + c * step], gemm.staged_dtype)
                    T.buffer_store(staged, value, [m * inner + c])
        with T.serial(0, gemm.group) as i:  # read by the last step of the last row, to meet zero weights
            T.buffer_store(staged, T.cast(T.int32(0), gemm.staged_dtype), [self.rows * inner + i])
        return staged

    def _emit_packed(self, gemm: Gemm, right: Expr, start: Expr, padded: int) -> tuple[Expr, Expr]:
        """Pack the right operand, and make what starts the accumulators: minus the zero point's share."""
        lanes = self.isa.lanes
        packed = T.alloc_buffer((padded * gemm.steps * gemm.group,), gemm.weight_dtype)
        sums = T.alloc_buffer((padded,), self.epilogue.accumulator)
        vectors, width = padded // lanes, gemm.tiling.vectors
        whole, rest = divmod(vectors, width)
        if whole:
            with T.serial(0, whole) as block:
                self._emit_block(gemm, right, start, packed, sums, block * width, width)
        if rest:
            self._emit_block(gemm, right, start, packed, sums, T.int32(whole * width), rest)
        return packed, sums

    def _emit_block(
        self, gemm: Gemm, right: Expr, start: Expr, packed: Expr, sums: Expr, vector: Expr, width: int
    ) -> None:
        lanes, group, steps = self.isa.lanes, gemm.group, gemm.steps
        block = T.bind(vector * (lanes * group * steps))
        with T.serial(0, width) as v, T.serial(0, lanes) as lane:
            column = T.bind((vector + v) * lanes + lane)
            total = T.alloc_buffer((1,), self.epilogue.accumulator, scope="local")
            T.buffer_store(total, T.cast(T.int32(0), self.epilogue.accumulator), [0])
            with T.serial(0, steps) as s:
                for j in range(group):
                    value = self._element(gemm, right, start, s * group + j, column)
                    at = block + ((s * width + v) * lanes + lane) * group + j
                    T.buffer_store(packed, value, [at])
                    if self.zero_point:
                        T.buffer_store(total, total[0] - T.cast(packed[at], "int32") * self.zero_point, [0])
            T.buffer_store(sums, total[0], [column])

    def _element(self, gemm: Gemm, right: Expr, start: Expr, row: Expr, column: Expr) -> Expr:
        """Give an element of the right operand as a weight: int8 codes around zero; zero beyond its edges."""
        inner, columns = self.right.shape[-2:]
        row_step, column_step = self.right.strides[-2:]
        value = right[start + row * row_step + column * column_step]
        if gemm.weight_dtype == "int8":
            value = T.cast(T.cast(value, "int32") - SYMMETRIC_ZERO, "int8")
        checks = []
        if inner % gemm.group:
            checks.append(row < inner)
        if columns % self.isa.lanes:
            checks.append(column < columns)
        zero = T.cast(T.int32(0), gemm.weight_dtype)
        for check in checks:
            value = T.if_then_else(check, value, zero)
        return value
