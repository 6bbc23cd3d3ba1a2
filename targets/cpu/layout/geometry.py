"""The shape of one convolution (a dense layer is one of 1x1), and how the CPU walks over it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Geometry:
    """A convolution over NHWC activations: extents, window and borders."""

    batch: int
    height: int
    width: int
    channels: int  # all input channels
    outputs: int  # all output channels
    window: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)  # top, left, bottom, right
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def out_height(self) -> int:
        """Rows of the output."""
        top, _, bottom, _ = self.padding
        return (self.height + top + bottom - (self.window[0] - 1) * self.dilation[0] - 1) // self.stride[
            0
        ] + 1

    @property
    def out_width(self) -> int:
        """Columns of the output."""
        _, left, _, right = self.padding
        return (self.width + left + right - (self.window[1] - 1) * self.dilation[1] - 1) // self.stride[1] + 1

    @property
    def depth(self) -> int:
        """Input channels of one group."""
        return self.channels // self.groups

    @property
    def group_outputs(self) -> int:
        """Output channels of one group."""
        return self.outputs // self.groups

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        pixels = self.batch * self.out_height * self.out_width
        return pixels * self.outputs * self.depth * self.window[0] * self.window[1]

    @property
    def is_depthwise(self) -> bool:
        """Whether every channel is a group of its own, with one output."""
        return self.groups > 1 and self.depth == 1 and self.group_outputs == 1

    @property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """Window positions (row, column) at which a run of contiguous inputs starts.

        Without dilation, and with all channels in one group, a window's row is one contiguous run.
        """
        rows, columns = self.window
        if self.merges_columns:
            return tuple((r, 0) for r in range(rows))
        return tuple((r, s) for r in range(rows) for s in range(columns))

    @property
    def merges_columns(self) -> bool:
        """Whether the columns of a window are one contiguous run."""
        return self.groups == 1 and (self.dilation[1] == 1 or self.window[1] == 1)

    @property
    def run_length(self) -> int:
        """Inputs in one run."""
        return self.depth * (self.window[1] if self.merges_columns else 1)


def balanced_rows(g: Geometry, chunks: int, cores: int) -> int:
    """Choose the output rows of a chunk, for at least `chunks` chunks an image.

    All cores get equally many chunks, and little is computed twice: the last chunk overlaps the one before it
    where the rows do not divide.
    """
    most = min(g.out_height, 2 * chunks + cores)
    shared = [count for count in range(chunks, most + 1) if g.batch * count % cores == 0]
    counts = shared or range(chunks, most + 1)
    best = min(counts, key=lambda count: (-(-g.out_height // count) * count, count))
    return -(-g.out_height // best)


@dataclass(frozen=True)
class Tiling:
    """How a kernel walks over a convolution: register tile, rows staged at a time, grid of tasks.

    `tersor.targets.cpu.mapping.nest` writes it as loops.
    """

    pixels: int  # output pixels of a register tile
    vectors: int  # vectors of output channels of a register tile
    rows: int  # output rows whose input is staged together
    parts: int  # parts of the output channels, each a task of its own
    parallel: bool = True  # whether the tasks are shared among the cores
    steps: int = 1  # steps of the reduction that are written out one after the other
