"""Tiling: how the implicit GEMM walks over a layer, chosen analytically."""

from tersor.targets.cpu.host.isa import Isa
from tersor.targets.cpu.host.threads import worth_sharing
from tersor.targets.cpu.layout.geometry import Geometry, Tiling, balanced_rows
from tersor.targets.cpu.layout.packing import channel_vectors


def default_tiling(isa: Isa, g: Geometry, cores: int, integer: bool, vectors: int | None = None) -> Tiling:
    """Choose the tiling analytically: no measurement, no search; for a packed weight its `vectors` are given.

    Registers hold the accumulators, one vector of weights per column of the tile, one broadcast input and, of
    integers, one product. Rows are taken together as far as their input stays in the second-level cache.
    """
    cores = cores if worth_sharing(isa, g.macs, integer) else 1
    vectors = vectors or _tile_vectors(isa, g, integer)
    rows = _staged_rows(isa, g, cores, integer)
    taken = vectors + (2 if integer else 1)
    pixels = _tile_pixels(max(1, (isa.registers - taken) // vectors), rows * g.out_width)
    chunks = g.batch * -(-g.out_height // rows)
    blocks = channel_vectors(isa, g) // vectors
    parts = 1 if chunks >= cores else max(1, min(cores, blocks))
    parallel = cores > 1 and chunks * parts > 1
    return Tiling(pixels, vectors, rows, parts, parallel, _written_steps(isa, g, integer))


# Inputs that a task works on; as many bytes as fit where many weights would be streamed again for the rest.
STAGED_COUNT = 48 * 1024
STAGED_MOST = 448 * 1024
MANY_WEIGHTS = 128 * 1024
# Output pixels from which on the rows are shared among the cores; below, it is the output channels.
PARALLEL_PIXELS = 196


# Steps of a whole reduction that is so short that what comes after it is half of the work.
SHORT = 16


def _written_steps(isa: Isa, g: Geometry, integer: bool) -> int:
    """Choose how many steps are written out: of a short reduction two.

    In a loop of single steps LLVM can keep what the epilogue needs in registers, and an accumulator on the
    stack.
    """
    steps = -(-g.run_length // (isa.group if integer else 1))
    return 2 if steps % 2 == 0 and len(g.runs) * steps <= SHORT else 1


def _tile_vectors(isa: Isa, g: Geometry, integer: bool) -> int:
    """Choose the vectors of a tile so that whole tiles cover the channels.

    Loads go down with the tile's half perimeter, and three or five vectors leave no register unused where the
    product needs none of its own.
    """
    count = channel_vectors(isa, g)
    if g.out_height * g.out_width == 1:
        # Each step of a sum waits for the one before: five cycles where the unit multiplies and adds at once.
        return min(count, 8 if integer and isa.group == 4 else 4)
    if integer:
        return 3 if count % 3 == 0 and count % 2 else min(count, 2)
    return 5 if count == 5 else 3 if count % 3 == 0 else min(count, 2)


def _tile_pixels(most: int, count: int) -> int:
    """Choose how many of `count` pixels a tile has: near the most, and little computed twice at the end.

    A smaller tile loads the same weights for fewer pixels, so it hardly takes less time.
    """
    if count <= most:
        return count
    candidates = range(max(1, most - most // 3), most + 1)
    return min(reversed(candidates), key=lambda pixels: -(-count // pixels) * max(pixels, most - 1))


def _staged_rows(isa: Isa, g: Geometry, cores: int, integer: bool) -> int:
    """Choose how many output rows are staged together: all, if they fit, else a balanced share."""
    size = (2 if isa.staged == "int16" else 1) if integer else 4
    row = (g.width + g.padding[1] + g.padding[3]) * g.channels * size * g.stride[0]
    weights = g.outputs * len(g.runs) * g.run_length * (1 if integer else 4)
    limit = STAGED_MOST if weights > MANY_WEIGHTS else STAGED_COUNT * size
    chunks = -(-g.out_height // max(1, limit // row))
    if g.batch * chunks < cores and g.out_height * g.out_width >= PARALLEL_PIXELS:
        chunks = cores
    return g.out_height if chunks == 1 else balanced_rows(g, min(chunks, g.out_height), cores)
