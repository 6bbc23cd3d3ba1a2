"""Interleave: bring an image of few channels from planes (NCHW) to pixels (NHWC), and quantize it.

The planes are read a vector at a time and interleaved in registers; a transposition by elements would cost
more than the first layer's padding and widening together.
"""

from typing import Any

from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tersor.ir.operators import Quantize
from tersor.targets.cpu.host.isa import KERNEL_ATTRIBUTES, Isa
from tersor.targets.cpu.host.threads import worth_sharing_elements

Expr = Any

# Pixels that a task brings over: enough to be worth a task.
PIXELS = 8192
# What is done to a vector of them.
OPERATIONS = 8


def can_interleave(shape: tuple[int, ...], isa: Isa) -> bool:
    """Whether the kernel covers images of this shape [N, C, H, W]."""
    _, channels, height, width = shape
    return 2 <= channels <= 4 and height * width % (2 * isa.lanes) == 0


def interleave(shape: tuple[int, ...], isa: Isa, step: Quantize | None = None) -> Any:
    """Build ``(x float32 [N, C, H, W]) -> [N, H, W, C]``: uint8 codes with a `step`, else float32."""
    batch, channels, height, width = shape
    lanes, pixels = 2 * isa.lanes, height * width
    dtype = "float32" if step is None else "uint8"
    blocks = pixels // lanes
    with IRBuilder() as builder, T.prim_func(s_tir=True, private=True):
        T.func_attr(dict(KERNEL_ATTRIBUTES))
        x = T.arg("x", T.Buffer(shape, "float32"))
        y = T.arg("y", T.Buffer((batch, height, width, channels), dtype))
        planes = T.decl_buffer((batch * channels * pixels,), "float32", data=x.data)
        image = T.decl_buffer((batch * pixels * channels,), dtype, data=y.data)
        # Relax asks of a function with one input whether it is a reshape, and insists on a block.
        with T.sblock("root"):
            tasks = -(-blocks * lanes // PIXELS)
            share = -(-blocks // tasks)
            shared = worth_sharing_elements(isa.lanes, batch * channels * pixels, OPERATIONS)
            with (T.parallel if shared else T.serial)(0, batch * tasks) as task:
                first = T.bind(T.min(task % tasks * share, blocks - share))
                start = T.bind(task // tasks * (channels * pixels))
                with T.serial(0, share) as block:
                    pixel = T.bind((first + block) * lanes)
                    loaded = [planes[T.ramp(start + c * pixels + pixel, 1, lanes)] for c in range(channels)]
                    values = loaded if step is None else [_quantize(v, step, lanes) for v in loaded]
                    order = [c * lanes + p for p in range(lanes) for c in range(channels)]
                    mixed = T.Shuffle([T.bind(value) for value in values], [T.int32(i) for i in order])
                    place = T.ramp(start + pixel * channels, 1, lanes * channels)
                    T.buffer_store(image, mixed, [place])
    return builder.get()


def _quantize(value: Expr, step: Quantize, lanes: int) -> Expr:
    zero_point = step.zero_point
    steps = T.nearbyint(value / T.broadcast(T.float32(step.scale), lanes))
    low, high = (T.broadcast(T.float32(bound - zero_point), lanes) for bound in step.bounds)
    codes = T.cast(T.min(T.max(steps, low), high), f"int32x{lanes}")
    return T.cast(codes + T.broadcast(T.int32(zero_point), lanes), f"uint8x{lanes}")
