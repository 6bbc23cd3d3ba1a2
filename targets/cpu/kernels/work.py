"""Work: the cycles that a kernel takes by its own loops, part by part.

Each part is counted as if it ran alone, from caches that hold what it reads: nothing is measured, and no part
hides another. What the sum misses depends on the shape smoothly, so that it can be learned.
"""

from dataclasses import dataclass, fields

from tersor.targets.cpu.host.detect import NOMINAL_CLOCK, macs_per_cycle
from tersor.targets.cpu.host.isa import Isa
from tersor.targets.cpu.kernels.choice import Kernel
from tersor.targets.cpu.kernels.conv2d import Gemm
from tersor.targets.cpu.kernels.depthwise import Depthwise
from tersor.targets.cpu.kernels.product import ProductKernel
from tersor.targets.cpu.kernels.tile_conv2d import TileGemm
from tersor.targets.cpu.kernels.tiles import LANES
from tersor.targets.cpu.layout.packing import channel_vectors

# Loads that begin in a cycle; cycles until a float sum, or one of four products, may be added to again.
LOADS, CHAIN = 2.0, 4.0
# Cycles that a vector of sums takes from the registers to memory as codes or floats, and a tile around them.
FINISH_CODES, FINISH_FLOATS, TILE = 5.0, 2.0, 8.0
# Bytes a cycle: from the memory that layers share, from a core's own cache, and copied inside of it.
FAR, NEAR, COPY = 10.0, 24.0, 16.0
# Bytes of a core's own cache.
CACHE = 1 << 19
# Elements of a right operand that are put in the order of a weight, a cycle.
PACKED = 1.0
# Cycles of a call, and of each task of it.
CALL, TASK = 2000.0, 60.0


@dataclass(frozen=True)
class Work:
    """Cycles of one core for a whole call, its tasks one after the other."""

    multiply: float  # steps of register tiles
    finish: float  # epilogues
    stage: float  # copies of the input
    pack: float  # of a right operand
    weights: float  # streamed for each task
    near: float  # inputs and outputs that stay in a core's cache
    far: float  # those that do not
    overhead: float  # of the call and its tasks

    @property
    def parts(self) -> tuple[float, ...]:
        """The cycles of each part."""
        return tuple(float(getattr(self, field.name)) for field in fields(self))

    def seconds(self, cores: int) -> float:
        """The time at the nominal clock, if all but a call's overhead is shared among so many cores."""
        return (CALL + (sum(self.parts) - CALL) / cores) / NOMINAL_CLOCK


@dataclass(frozen=True)
class Tiles:
    """Register tiles of a task: their number, and how many steps of how many cycles each makes."""

    count: float
    steps: float
    step: float
    vectors: float  # of sums in one

    def cycles(self, integer: bool) -> tuple[float, float]:
        """Give what multiplying and finishing them takes."""
        finish = FINISH_CODES if integer else FINISH_FLOATS
        return self.count * self.steps * self.step, self.count * (TILE + self.vectors * finish)


def work_of(kernel: Kernel | ProductKernel) -> Work:
    """Count the work of a kernel in its tiling."""
    return _product(kernel) if isinstance(kernel, ProductKernel) else _layer(kernel)


def _layer(kernel: Kernel) -> Work:
    g, loops, rows = kernel.geometry, kernel.loops, kernel.tiling.rows
    integer = kernel.epilogue.accumulator == "int32"
    chunks = g.batch * -(-g.out_height // rows)
    multiply, finish = _sum([each.cycles(integer) for each in _tiles(loops)])
    element = 1 if integer else 4
    staged = 2 if integer and kernel.isa.staged == "int16" else element
    weights = g.outputs * g.depth * g.window[0] * g.window[1] * element
    images = g.batch * (g.height * g.width * g.channels + g.out_height * g.out_width * g.outputs) * element
    near, far = _streamed(images)
    return Work(
        multiply=chunks * multiply,
        finish=chunks * finish,
        stage=chunks * kernel.tiling.parts * loops.window.size * staged / COPY,
        pack=0.0,
        weights=chunks * weights / FAR,
        near=near,
        far=far,
        overhead=CALL + chunks * kernel.tiling.parts * TASK,
    )


def _product(kernel: ProductKernel) -> Work:
    g, loops = kernel.nest.geometry, kernel.gemm
    integer = kernel.epilogue.accumulator == "int32"
    tasks = g.batch * kernel.chunks
    multiply, finish = _sum([each.cycles(integer) for each in _tiles(loops)])
    element = 1 if integer else 4
    staged = 2 if integer and kernel.isa.staged == "int16" else element
    near, far = _streamed(g.batch * g.height * (g.channels + g.outputs) * element)
    return Work(
        multiply=tasks * multiply,
        finish=tasks * finish,
        stage=tasks * kernel.rows * g.channels * staged / COPY,
        pack=tasks * g.channels * g.outputs / PACKED,
        weights=tasks * g.channels * g.outputs * element / FAR,
        near=near,
        far=far,
        overhead=CALL + tasks * TASK,
    )


def _tiles(loops: Gemm | Depthwise | TileGemm) -> list[Tiles]:
    """Give the register tiles of one task, those of all its parts together."""
    match loops:
        case Gemm():
            return _of_vectors(loops)
        case Depthwise():
            return _of_taps(loops)
        case TileGemm():
            return [_of_matrix_unit(loops)]


def _of_vectors(loops: Gemm) -> list[Tiles]:
    g, t, isa = loops.g, loops.tiling, loops.isa
    integer = loops.dtype == "uint8"
    pixels = min(t.pixels, t.rows * g.out_width)
    count = -(-t.rows * g.out_width // pixels)
    whole, rest = divmod(channel_vectors(isa, g), t.vectors)
    found = []
    for blocks, vectors in ((whole, t.vectors), (1 if rest else 0, rest)):
        chain = 1.0 if integer and loops.group < 4 else CHAIN
        step = max(chain, pixels * vectors / _rate(isa, integer, loops.group), (pixels + vectors) / LOADS)
        found.append(Tiles(g.groups * blocks * count, len(g.runs) * loops.steps, step, pixels * vectors))
    return found


def _of_taps(loops: Depthwise) -> list[Tiles]:
    """Depthwise: a step is a tap, or a pair of taps, which reads a vector of inputs for each of weights."""
    g, t = loops.g, loops.tiling
    count = t.rows * -(-g.out_width // t.pixels)
    whole, rest = divmod(-(-g.channels // loops.isa.lanes), t.vectors)
    taps = loops.pairs * g.window[1]
    found = []
    for blocks, vectors in ((whole, t.vectors), (1 if rest else 0, rest)):
        sums = t.pixels * vectors
        step = max(sums / _rate(loops.isa, loops.integer, loops.group), sums * loops.group / LOADS)
        found.append(Tiles(blocks * count, taps, step, sums))
    return found


def _of_matrix_unit(loops: TileGemm) -> Tiles:
    vectors = loops.tiling.pixels * LANES * loops.tiling.vectors
    macs = vectors * LANES * loops.depth.size
    blocks = loops.g.groups * loops.pixel_blocks * loops.vector_blocks
    return Tiles(blocks, loops.pieces, macs / macs_per_cycle(loops.isa, "int8"), vectors)


def _rate(isa: Isa, integer: bool, group: int) -> float:
    """Vectors of sums to which a cycle adds `group` products a lane, or as many as an instruction does."""
    if integer:
        return macs_per_cycle(isa, "int8") / (isa.lanes * max(isa.group, group))
    return macs_per_cycle(isa, "fp32") / isa.lanes


def _streamed(size: int) -> tuple[float, float]:
    """Give the cycles of bytes that are read or written once: all of them stay in a core's cache, or none."""
    return (size / NEAR, 0.0) if size <= CACHE else (0.0, size / FAR)


def _sum(cycles: list[tuple[float, float]]) -> tuple[float, float]:
    return sum(multiply for multiply, _ in cycles), sum(finish for _, finish in cycles)
