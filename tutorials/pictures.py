"""A small task that the tutorials share: pictures of eight kinds, and a network that tells them apart.

The first three layers have random weights, the last one is fitted by least squares: no training, no download.
"""

# %%
import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from onnx import helper, numpy_helper

SIZE, KINDS = 16, 8
SHAPES = {"first": (16, 1, 3, 3), "second": (32, 16, 3, 3), "third": (32, 32, 3, 3)}
STRIDES = {"first": 1, "second": 2, "third": 2}

Samples = list[dict[str, np.ndarray]]

# %% [markdown]
# Stripes of three directions, a chequerboard, a disc, a ring, a cross and a square, each somewhere else in
# the picture, under noise.


# %%
def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw pictures, float32 [count, 1, 16, 16], and their kinds, int64 [count]."""
    random = np.random.default_rng(seed)
    kinds = random.integers(0, KINDS, count)
    y, x = np.mgrid[:SIZE, :SIZE]
    drawn = []
    for kind in kinds:
        down, right = random.integers(5, 11, 2)
        far, near = np.hypot(y - down, x - right), np.maximum(abs(y - down), abs(x - right))
        sign = ((y + down) // 2 % 2, (x + right) // 2 % 2, (x + y + down) // 3 % 2)
        wide = (abs(y - down) < 2) | (abs(x - right) < 2)
        every = [*sign, sign[0] ^ sign[1], far < 5, abs(far - 4) < 1, wide, near < 4]
        drawn.append(every[kind] + random.normal(0, 0.45, (SIZE, SIZE)))
    return np.asarray(drawn, np.float32)[:, None], kinds


def samples(count: int, seed: int) -> tuple[Samples, np.ndarray]:
    """Give pictures as inputs of the network, one each, and their kinds."""
    drawn, kinds = pictures(count, seed)
    return [{"x": picture[None]} for picture in drawn], kinds


# %%
def convolved(images: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """A 3 x 3 convolution with a border of zeros, and what is below zero cut off."""
    padded = np.pad(images, [(0, 0), (0, 0), (1, 1), (1, 1)])
    windows = sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::stride, ::stride]
    return np.maximum(np.einsum("ncpqrs,kcrs->nkpq", windows, weight, optimize=True), 0)


def network() -> onnx.ModelProto:
    """Write the network as ONNX: x [1, 1, 16, 16] to the scores of the kinds, y [1, 8]."""
    random = np.random.default_rng(0)
    weights = {
        name: random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape) for name, shape in SHAPES.items()
    }
    seen, kinds = pictures(1500, seed=0)
    for name, weight in weights.items():
        seen = convolved(seen, weight, STRIDES[name])
    seen = seen.reshape(len(seen), -1)
    seen1 = np.hstack([seen, np.ones((len(seen), 1))])
    normal = seen1.T @ seen1 + 30 * np.eye(seen1.shape[1])  # a ridge, so that the weights stay small
    fitted = np.linalg.solve(normal, seen1.T @ np.eye(KINDS)[kinds])
    weights |= {"scores": fitted[:-1], "bias": fitted[-1]}
    nodes, x = [], "x"
    for name, stride in STRIDES.items():
        nodes.append(
            helper.make_node("Conv", [x, name], [f"{name}.sum"], pads=[1] * 4, strides=[stride, stride])
        )
        nodes.append(helper.make_node("Relu", [f"{name}.sum"], [x := f"{name}.out"]))
    nodes.append(helper.make_node("Flatten", [x], ["flat"]))
    nodes.append(helper.make_node("Gemm", ["flat", "scores", "bias"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "pictures",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, KINDS])],
        [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
