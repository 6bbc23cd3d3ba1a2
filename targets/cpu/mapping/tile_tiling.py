"""How a convolution is laid over the matrix unit: the split of its sums, its lines of pixels, its blocks.

The default is chosen analytically, by cycles as the unit's vendor states them (Intel 64 and IA-32
Architectures Optimization Reference Manual, on Intel AMX): a product of full tiles every 16 cycles, ready
after 52; a load of a tile every 8.
"""

from dataclasses import dataclass
from math import gcd

from tersor.targets.cpu.host.isa import Isa
from tersor.targets.cpu.host.threads import worth_sharing
from tersor.targets.cpu.kernels.staging import Window, direct, staged, subsamples
from tersor.targets.cpu.kernels.tiles import GROUP, LANES, ROW_BYTES, ROWS, Block
from tersor.targets.cpu.layout.fold import fold_of, folded
from tersor.targets.cpu.layout.geometry import Geometry, Tiling
from tersor.targets.cpu.layout.halo import NO_HALO, Halo, Image
from tersor.targets.cpu.mapping.tiling import default_tiling

PRODUCT_CYCLES = 16
LATENCY_CYCLES = 52
LOAD_CYCLES = 8
# Loading a tile of pixels whose rows lie in two lines of the cache: measured by blocks of other shapes.
SPLIT_LOAD_CYCLES = 24
LINE_BYTES = 64
# Storing the sums of a tile and reading them again, while the products of the next block run.
STORE_CYCLES = 32
# Finishing a vector of sums: the same for tiles, beside products, and for vectors, after them.
EPILOGUE_CYCLES = 2.5
# Configuring the unit and releasing it, in every task.
TASK_CYCLES = 300
# Dot products of vectors that a core computes in a cycle.
VECTOR_RATE = 2
# Bytes of one operand that stay in the first-level cache beside the other, and bytes a cycle from beyond it.
NEAR_BYTES = 24 * 1024
FAR_RATE = 32.0
# Bytes of the sums of a tile, and products between which they are worth being put down.
SUM_BYTES = ROWS * LANES * 4
LEAST_PIECES = 6

BLOCKS = tuple(
    Block(pixels, channels)
    for pixels, channels in ((2, 2), (4, 1), (1, 4), (3, 1), (1, 3), (2, 1), (1, 2), (1, 1))
)


@dataclass(frozen=True)
class Layout:
    """How the pixels of a task lie before the tiles."""

    flat: bool  # whether its rows are one line of pixels, those between two rows computed for nothing
    staged: bool  # whether the input is copied to scratch rows; always, where it must be


@dataclass(frozen=True)
class Depth:
    """A run of inputs in pieces of at most a tile's row; the last ends where the run ends."""

    run: int

    @property
    def pieces(self) -> int:
        """How many pieces there are."""
        return -(-self.run // ROW_BYTES)

    @property
    def size(self) -> int:
        """Bytes of a piece: whole lanes."""
        return -(-self.run // (self.pieces * GROUP)) * GROUP

    @property
    def last(self) -> int:
        """Where the last piece starts: it overlaps the one before, rather than to read beyond the run."""
        return max(0, self.run - self.size)

    @property
    def overread(self) -> int:
        """Bytes read beyond a run that is shorter than whole lanes."""
        return max(0, self.size - self.run)


@dataclass(frozen=True)
class Lines:
    """Output pixels of a task as lines of neighbours that a tile can read, and the tiles that cover them.

    The last tile of a line overlaps the one before it where the line does not divide.
    """

    count: int
    length: int
    step: int  # elements of the input between two lines
    pitch: int  # pixels between the first ones of two output rows, in a line of several rows; 0 in one of one

    @property
    def rows(self) -> int:
        """Pixels of a tile."""
        return -(-self.length // -(-self.length // ROWS))

    @property
    def line_tiles(self) -> int:
        """Tiles of one line."""
        return -(-self.length // self.rows)

    @property
    def tiles(self) -> int:
        """Tiles of all lines."""
        return self.count * self.line_tiles


def must_stage(g: Geometry, halo: Halo = NO_HALO) -> bool:
    """Whether tiles cannot read the input in place: it is to be folded or padded, or ends within a lane."""
    return fold_of(g) > 1 or not halo.covers(g.padding) or Depth(g.run_length).overread > 0


def window_of(g: Geometry, rows: int, layout: Layout, halo: Halo = NO_HALO) -> Window:
    """Say where tiles find the input of `rows` output rows."""
    if layout.staged or must_stage(g, halo):
        seen = folded(g)
        return staged(seen, rows, Depth(seen.run_length).overread)
    return direct(g, Image(g.height, g.width, g.channels, halo))


def lines_of(g: Geometry, rows: int, layout: Layout, halo: Halo = NO_HALO) -> Lines:
    """Lay the pixels of `rows` output rows out; rows that are no whole number of pixels apart stay lines."""
    window = window_of(g, rows, layout, halo)
    pitch, uneven = divmod(window.row_step, window.column_step)
    if layout.flat and not uneven and rows > 1:
        return Lines(1, (rows - 1) * pitch + g.out_width, 0, pitch)
    return Lines(rows, g.out_width, window.row_step, 0)


def layout_of(g: Geometry, rows: int, halo: Halo = NO_HALO) -> Layout:
    """Choose the layout of tasks of `rows` output rows: that of the fewest tiles."""
    stagings = (True,) if must_stage(g, halo) else (False, True) if subsamples(g) else (False,)
    layouts = [Layout(flat, copies) for copies in stagings for flat in (False, True)]
    return min(layouts, key=lambda layout: _layout_cost(g, rows, layout, halo))


def default_tile_tiling(isa: Isa, g: Geometry, cores: int) -> Tiling:
    """Choose the tiling analytically: as many rows as vectors take, and the cheapest block.

    Its `pixels` and `vectors` are tiles of pixels and of output channels in a block.
    """
    cores = cores if worth_sharing(isa, g.macs, integer=True) else 1
    rows = default_tiling(isa.vector_unit, g, cores, integer=True).rows
    tiles, channels = lines_of(g, rows, layout_of(g, rows)).tiles, _channel_tiles(g)
    fitting = [block for block in BLOCKS if block.pixels <= tiles and block.channels <= channels]
    block = min(fitting, key=lambda block: _block_cycles(folded(g), block, tiles))
    tasks = g.batch * -(-g.out_height // rows)
    blocks = -(-channels // block.channels)
    parts = 1 if tasks >= cores else max(1, min(cores, blocks))
    return Tiling(block.pixels, block.channels, rows, parts, parallel=cores > 1 and tasks * parts > 1)


def why_not_tiles(isa: Isa, g: Geometry, cores: int) -> str | None:
    """Say why the vector kernel is the faster one for `g`, or None if it is not.

    Few channels leave a tile mostly empty, and few pixels fetch it for little: a vector kernel, whose sums
    need not be stored to be finished, then takes no longer.
    """
    if g.is_depthwise:
        return "a depthwise convolution has one input for each sum"
    tiling = default_tile_tiling(isa, g, cores)
    tasks = g.batch * -(-g.out_height // tiling.rows)
    tiles = lines_of(g, tiling.rows, layout_of(g, tiling.rows)).tiles
    block = Block(tiling.pixels, tiling.vectors)
    tiled = tasks * (tiling.parts * TASK_CYCLES + _block_cycles(folded(g), block, tiles))
    steps = len(g.runs) * -(-g.run_length // GROUP)
    pixels = g.batch * g.out_height * g.out_width
    by_vectors = pixels * g.groups * _channel_tiles(g) * (steps / VECTOR_RATE + EPILOGUE_CYCLES)
    if tiled < by_vectors:
        return None
    return f"tiles take about {tiled:.0f} cycles, vectors {by_vectors:.0f}"


def _layout_cost(g: Geometry, rows: int, layout: Layout, halo: Halo) -> float:
    """Tiles, and as a part of one what copying the inputs of a tile takes where that can be avoided."""
    lines = lines_of(g, rows, layout, halo)
    waste = lines.tiles * lines.rows - rows * g.out_width
    copied = 0.25 if layout.staged and not must_stage(g, halo) else 0.0
    return lines.tiles * (1 + copied) + waste / (16 * ROWS)


def _channel_tiles(g: Geometry) -> int:
    return -(-g.group_outputs // LANES)


def _block_cycles(g: Geometry, block: Block, tiles: int) -> float:
    """Cycles of all blocks of a task with `tiles` tiles of pixels, of a layer as the tiles see it."""
    depth = Depth(g.run_length)
    sums = block.pixels * block.channels
    pieces = len(g.runs) * depth.pieces
    pixel_cycles = SPLIT_LOAD_CYCLES if _splits_lines(g) else LOAD_CYCLES
    loads = block.pixels * pixel_cycles + block.channels * LOAD_CYCLES
    products = pieces * max(sums * PRODUCT_CYCLES, loads, LATENCY_CYCLES)
    finished = sums * (STORE_CYCLES + ROWS * EPILOGUE_CYCLES)
    blocks = g.groups * -(-tiles // block.pixels) * -(-_channel_tiles(g) // block.channels)
    fetched = _far_bytes(g, block, tiles) / FAR_RATE
    interrupted = (passes_of(g, block, tiles) - 1) * sums * STORE_CYCLES
    return blocks * (max(products, finished, fetched) + sums * LOAD_CYCLES + interrupted)


def _splits_lines(g: Geometry) -> bool:
    """Whether rows of a tile of pixels begin where a part of them lies in the next line of the cache."""
    depth = Depth(g.run_length)
    steps = [g.channels, g.channels * g.stride[1]] + [depth.size] * (depth.pieces > 1)
    return depth.size > gcd(LINE_BYTES, *steps)


def _far_bytes(g: Geometry, block: Block, tiles: int) -> int:
    """Bytes that a block fetches from beyond the first-level cache.

    Weights stay near from one block of pixels to the next, and neighbouring columns of a window are fetched
    once; what is larger than the cache does not stay, see `passes_of`.
    """
    weights, activations = _operand_bytes(g, block, tiles)
    passes = passes_of(g, block, tiles)
    if passes > 1 or weights <= NEAR_BYTES:
        weights //= -(-tiles // block.pixels)
    pixel = g.depth * min(g.stride[1], g.window[1]) * g.window[0]
    sums = 2 * (passes - 1) * block.pixels * block.channels * SUM_BYTES
    return weights + sums + (0 if activations <= NEAR_BYTES else pixel * ROWS * block.pixels)


def _operand_bytes(g: Geometry, block: Block, tiles: int) -> tuple[int, int]:
    """Bytes of the weights of one block and of the activations of all blocks of a task."""
    depth = Depth(g.run_length)
    weights = block.channels * depth.size * LANES * len(g.runs) * depth.pieces
    return weights, g.depth * min(g.stride[1], g.window[1]) * g.window[0] * ROWS * tiles


def passes_of(g: Geometry, block: Block, tiles: int) -> int:
    """Give in how many passes the sums of blocks are made, each of a window's row, or a part of the inputs.

    In one pass every block fetches all of its weights again. A pass over all blocks of pixels keeps its part
    of them near, and puts the sums down between.
    """
    weights, activations = _operand_bytes(g, block, tiles)
    if weights <= NEAR_BYTES or activations <= NEAR_BYTES or tiles <= block.pixels:
        return 1
    if g.window[0] > 1:
        return g.window[0] if weights // g.window[0] <= NEAR_BYTES else 1
    depth = Depth(g.run_length)
    if g.runs != ((0, 0),):
        return 1
    most = NEAR_BYTES // (block.channels * depth.size * LANES)
    part = max(each for each in range(1, most + 1) if depth.pieces % each == 0)
    return depth.pieces // part if part >= LEAST_PIECES else 1
