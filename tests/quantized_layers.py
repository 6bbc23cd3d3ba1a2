"""Random quantized layers: one description, evaluated by arithmetic, by a kernel, and as a Relax module."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tersor import arithmetic as A
from tersor.ir import operators
from tersor.targets.cpu.host.detect import Host, detect
from tersor.targets.cpu.host.isa import Isa
from tersor.targets.cpu.kernels import epilogue as cpu
from tersor.targets.cpu.kernels.choice import Kernel, choose_kernel
from tersor.targets.cpu.kernels.tiles import LANES
from tersor.targets.cpu.layout.geometry import Geometry, Tiling
from tersor.targets.cpu.layout.halo import Halo, Halos, Image
from tersor.targets.cpu.mapping.tile_tiling import BLOCKS, layout_of, lines_of
from tests.relax_modules import Net

Array = np.ndarray


@dataclass(frozen=True)
class QuantizedLayer:
    """A convolution (a dense layer is one of 1x1 over a row) with its epilogue and seeded numbers."""

    geometry: Geometry
    is_dense: bool
    zero_point: int
    out_zero_point: int
    bounds: tuple[int, int]
    residual: cpu.Residual | None
    returns_float: bool
    seed: int

    def __str__(self) -> str:
        g = self.geometry
        kind = "dense" if self.is_dense else "depthwise" if g.is_depthwise else "conv2d"
        image = f"{g.batch}x{g.channels}x{g.height}x{g.width}"
        window = f"{g.outputs}x{g.depth}x{g.window[0]}x{g.window[1]}"
        places = f"s{g.stride} p{g.padding} d{g.dilation} g{g.groups}"
        return f"{kind} {image} * {window} {places} residual={self.residual} seed={self.seed}"

    @cached_property
    def numbers(self) -> tuple[Array, Array, Array, Array, Array]:
        """Input NCHW, weight OIHW, bias [K], multiplier [K], residual NKPQ."""
        g, rng = self.geometry, np.random.default_rng(self.seed)
        x = rng.integers(0, 256, (g.batch, g.channels, g.height, g.width)).astype(np.uint8)
        weight = rng.integers(-127, 128, (g.outputs, g.depth, *g.window)).astype(np.int8)
        terms = g.depth * g.window[0] * g.window[1]
        bias = rng.integers(-2000 * terms, 2000 * terms, g.outputs).astype(np.int32)
        multiplier = (rng.uniform(0.1, 2, g.outputs) / (np.sqrt(terms) * 73)).astype(np.float32)
        residual = rng.integers(0, 256, (g.batch, g.outputs, g.out_height, g.out_width)).astype(np.uint8)
        return x, weight, bias, multiplier, residual

    @cached_property
    def expected(self) -> Array:
        """What arithmetic gives, NKPQ."""
        x, weight, bias, multiplier, residual = self.numbers
        g = self.geometry
        acc = A.conv2d(x, weight, bias, self.zero_point, g.stride, g.padding, g.dilation, g.groups)
        if self.returns_float:
            return A.rescale_accumulator(acc, multiplier)
        if self.residual is None:
            return A.requantize(acc, multiplier, self.out_zero_point, self.bounds)
        other = self.residual
        return A.requantize_add(
            acc, multiplier, residual, other.multiplier, other.zero_point, self.out_zero_point, self.bounds
        )

    @property
    def folded_bias(self) -> Array:
        """The bias with the input's zero point folded in, as integer kernels take it."""
        _, weight, bias, _, _ = self.numbers
        return (bias - self.zero_point * weight.sum(axis=(1, 2, 3), dtype=np.int64)).astype(np.int32)

    @property
    def epilogue(self) -> cpu.Epilogue:
        if self.returns_float:
            return cpu.Rescale()
        return cpu.Requantize(self.out_zero_point, self.bounds, self.residual, bounded=self.seed % 3 > 0)

    # On a CPU

    def kernel(self, isa: Isa, default_tiling: bool = False) -> Kernel:
        """The kernel of this layer; small tiles of any proportion compile faster and reach more edges."""
        kernel = choose_kernel(isa, 2, self.geometry, self.epilogue, self.zero_point)
        if default_tiling:
            return kernel
        rng = np.random.default_rng(self.seed)
        if isa.tiles and not self.geometry.is_depthwise:
            return replace(kernel, isa=isa, tiling=draw_tile_tiling(self.geometry, rng))
        chosen = kernel.tiling
        pixels, vectors = (int(rng.integers(1, most + 1)) for most in (3, 2))
        tiling = Tiling(
            min(pixels, chosen.pixels),
            min(vectors, chosen.vectors),
            int(rng.integers(1, chosen.rows + 1)),
            int(rng.integers(1, 4)),
        )
        return replace(kernel, tiling=tiling)

    def prim_func(self, kernel: Kernel) -> Any:
        g = self.geometry
        if self.is_dense:
            return kernel.prim_func((g.width, g.channels), (g.width, g.outputs))
        source = Image(g.height, g.width, g.channels, kernel.halos.input)
        target = Image(g.out_height, g.out_width, g.outputs, kernel.halos.output)
        return kernel.prim_func((g.batch, *source.shape), (g.batch, *target.shape))

    def run(self, function: Any, kernel: Kernel) -> Array:
        """Call a compiled kernel; the result is brought to NKPQ, without the halo that it has to fill."""
        x, weight, _, multiplier, residual = self.numbers
        g = self.geometry

        def placed(array: Array, halo: Halo, border: int = 0) -> Array:
            last = array.transpose(0, 2, 3, 1)
            top, left, bottom, right = halo.sides
            around = ((0, 0), (top, bottom), (left, right), (0, 0))
            padded = np.ascontiguousarray(np.pad(last, around, constant_values=border))
            return padded.reshape(padded.shape[2:]) if self.is_dense else padded

        output = placed(np.full_like(self.expected, 7), kernel.halos.output, 9)
        arguments = [
            placed(x, kernel.halos.input, self.zero_point),
            kernel.pack_weight(weight),
            kernel.pack_channels(self.folded_bias),
            kernel.pack_channels(multiplier),
            *([placed(residual, kernel.halos.residual)] if self.residual else []),
            output,
        ]
        tensors = [tvm.runtime.tensor(argument) for argument in arguments]
        function(*tensors)
        image = Image(g.out_height, g.out_width, g.outputs, kernel.halos.output)
        result = tensors[-1].numpy().reshape(g.batch, *image.shape)
        top, left, _, _ = image.halo.sides
        inside = np.s_[:, top : top + g.out_height, left : left + g.out_width]
        border = result.copy()
        border[inside] = kernel.epilogue.zero_point
        assert (border == kernel.epilogue.zero_point).all(), "the halo is not filled"
        return result[inside].transpose(0, 3, 1, 2)

    # In Relax

    def inputs(self) -> list[Array]:
        """The tensors that `emit` reads, in the layout of the network: NCHW, or [M, C] of a dense layer."""
        x, _, _, _, residual = self.numbers
        return [self._rows(x), *([self._rows(residual)] if self.residual else [])]

    def emit(self, net: Net, inputs: list[Any], name: str) -> Any:
        """Write the layer as integerized networks have it."""
        _, weight, _, multiplier, _ = self.numbers
        g = self.geometry
        x, *residual = inputs
        axis = 1
        if self.is_dense:
            product = relax.op.matmul(x, net.weight(name, weight[:, :, 0, 0].T.copy()), out_dtype="int32")
            bias = net.weight(f"{name}.bias", self.folded_bias)
        else:
            top, left, bottom, right = g.padding
            if any(g.padding):
                widths = [0, 0, 0, 0, top, bottom, left, right]
                x = net.emit(relax.op.nn.pad(x, widths, "constant", self.zero_point))
            product = relax.op.nn.conv2d(
                x, net.weight(name, weight), g.stride, dilation=g.dilation, groups=g.groups, out_dtype="int32"
            )
            bias = net.weight(f"{name}.bias", self.folded_bias.reshape(1, -1, 1, 1))
        acc = net.emit(relax.op.add(net.emit(product), bias))
        scale = net.weight(f"{name}.multiplier", multiplier)
        if self.returns_float:
            return net.call(operators.RescaleAccumulator(axis), acc, scale)
        if self.residual is None:
            return net.call(operators.Requantize(self.out_zero_point, self.bounds, axis), acc, scale)
        step = operators.RequantizeAdd(
            self.residual.multiplier, self.residual.zero_point, self.out_zero_point, self.bounds, axis
        )
        return net.call(step, acc, scale, *residual)

    def read(self, result: Array) -> Array:
        """Bring a result of `emit` to NKPQ."""
        if not self.is_dense:
            return result
        return result.T[None, :, None, :]

    def _rows(self, array: Array) -> Array:
        return np.ascontiguousarray(array[0, :, 0, :].T) if self.is_dense else array


def draw_halos(layer: QuantizedLayer) -> Halos:
    """Draw halos around the images of a layer: of what it reads they cover the padding, or there is none."""
    rng = np.random.default_rng(layer.seed)

    def halo() -> Halo:
        return Halo(tuple(int(side) for side in rng.integers(0, 3, 4)))  # type: ignore[arg-type]

    source = halo().widened(layer.geometry.padding) if rng.integers(3) else Halo()
    return Halos(source, halo(), halo())


def draw(seed: int) -> QuantizedLayer:
    """Draw a layer; its seed modulo 10 says of which kind."""
    rng = np.random.default_rng(seed)
    kind = ("dense", "row", "1x1", "kxk", "strided", "dilated", "grouped", "depthwise", "uneven", "any")[
        seed % 10
    ]
    zero_point, out_zero_point = (int(point) for point in rng.choice([0, 255, *rng.integers(1, 255, 4)], 2))
    low = int(rng.choice([0, out_zero_point]))
    high = int(rng.choice([255, min(255, low + 60)]))
    residual = cpu.Residual(float(np.float32(rng.uniform(0.1, 3))), int(rng.integers(256)))
    returns_float = bool(rng.integers(8) == 0)
    return QuantizedLayer(
        _geometry(rng, kind),
        kind in ("dense", "row"),
        zero_point,
        out_zero_point,
        (low, high),
        None if returns_float or rng.integers(2) else residual,
        returns_float,
        seed,
    )


def draw_tile_tiling(g: Geometry, rng: np.random.Generator) -> Tiling:
    """Draw any way to lay a layer over the matrix unit, whether or not that would pay."""
    rows = int(rng.integers(1, g.out_height + 1))
    tiles, channels = lines_of(g, rows, layout_of(g, rows)).tiles, -(-g.group_outputs // LANES)
    fitting = [block for block in BLOCKS if block.pixels <= tiles and block.channels <= channels]
    block = fitting[rng.integers(len(fitting))]
    parts = int(rng.integers(1, -(-channels // block.channels) + 1))
    return Tiling(block.pixels, block.channels, rows, parts)


def _geometry(rng: np.random.Generator, kind: str) -> Geometry:
    """Tiny extents, but for the last kind; channels are odd, whole vectors, or a vector and a bit."""

    def size(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    channels = int(rng.choice([1, 3, 4, 5, 8, 16, 19, 32]))
    outputs = int(rng.choice([1, 3, 5, 8, 13, 16, 24, 32, 35, 48]))
    batch, height, width = size(1, 2), size(3, 7), size(3, 7)
    window = (size(1, 3), size(2, 3))
    pad = (window[0] // 2, window[1] // 2) * 2
    match kind:
        case "dense":
            return Geometry(1, 1, 1, size(1, 70), outputs)
        case "row":
            return Geometry(1, 1, size(2, 9), size(1, 40), outputs)
        case "1x1":
            return Geometry(batch, height, width, channels, outputs, stride=(size(1, 2), size(1, 2)))
        case "strided":
            stride = (size(1, 3), size(2, 3))
            return Geometry(batch, height, width, channels, outputs, window, stride, pad)
        case "dilated":
            dilation = (size(1, 2), 2)
            padding = (dilation[0], dilation[1]) * 2
            return Geometry(batch, height, width, channels, outputs, window, (1, 1), padding, dilation)
        case "grouped":
            groups = size(2, 4)
            return Geometry(
                batch,
                height,
                width,
                groups * size(1, 9),
                groups * size(1, 18),
                window,
                (1, 1),
                pad,
                (1, 1),
                groups,
            )
        case "depthwise":
            channels = int(rng.choice([3, 8, 16, 21, 32, 40]))
            stride, dilation = (size(1, 2), size(1, 2)), (size(1, 2), size(1, 2))
            window = (size(1, 4), size(1, 4))
            padding = (dilation[0] * (window[0] // 2), dilation[1] * (window[1] // 2)) * 2
            return Geometry(
                batch, height, width, channels, channels, window, stride, padding, dilation, channels
            )
        case "uneven":
            padding = (size(0, 2), size(0, 2), size(0, 2), size(0, 2))
            return Geometry(batch, height, width, channels, outputs, window, (1, size(1, 2)), padding)
        case _:
            window, stride, dilation = (
                (size(1, 7), size(1, 7)),
                (size(1, 3), size(1, 2)),
                (size(1, 2), size(1, 2)),
            )
            groups = int(rng.choice([1, 1, 2, 3]))
            spans = [(extent - 1) * step + 1 for extent, step in zip(window, dilation, strict=True)]
            padding = (spans[0] // 2, spans[1] // 2, size(0, spans[0] // 2), size(0, spans[1] // 2))
            return Geometry(
                size(1, 4),
                spans[0] + size(0, 5),
                spans[1] + size(0, 20),
                groups * size(1, 150 // groups),
                groups * size(1, 72 // groups),
                window,
                stride,
                padding,
                dilation,
                groups,
            )


def nhwc(array: Array) -> Array:
    """Bring NCHW to contiguous NHWC."""
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))


def convolve(g: Geometry, x: Array, w: Array, b: Array) -> Array:
    """Convolve NCHW in float64."""
    top, left, bottom, right = g.padding
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    out = np.zeros((g.batch, g.outputs, g.out_height, g.out_width)) + b.reshape(1, -1, 1, 1)
    for k in range(g.outputs):
        group = k // g.group_outputs
        for c, r, s in np.ndindex(g.depth, *g.window):
            y0, x0 = r * g.dilation[0], s * g.dilation[1]
            rows = slice(y0, y0 + (g.out_height - 1) * g.stride[0] + 1, g.stride[0])
            columns = slice(x0, x0 + (g.out_width - 1) * g.stride[1] + 1, g.stride[1])
            out[:, k] += w[k, c, r, s] * padded[:, group * g.depth + c, rows, columns]
    return out


def mismatches(layers: Sequence[QuantizedLayer], kernels: Sequence[Kernel], isa: Isa) -> list[str]:
    """Compile a kernel for each layer into one library, run all, and name those that arithmetic denies."""
    functions = {
        f"f{i}": layer.prim_func(kernel).with_attr("global_symbol", f"f{i}")
        for i, (layer, kernel) in enumerate(zip(layers, kernels, strict=True))
    }
    # A description is for any CPU; the widest one at hand runs it soonest.
    target = Host(isa if isa.dot is not None else detect().isa, 2).target
    library = tvm.tirx.build(tvm.IRModule(functions), target=target)
    return [
        f"{layer} {kernel.tiling}"
        for i, (layer, kernel) in enumerate(zip(layers, kernels, strict=True))
        if not np.array_equal(layer.run(library[f"f{i}"], kernel), layer.expected)
    ]
