"""Run a compiled model with TVM's runtime alone: run_compiled.py model.so input.npy ... output.npy.

The inputs come in the model's order. Where the model was compiled for several shapes, report.json beside it
says for which: the smallest that holds the inputs is taken, and what was padded is cut off again.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tvm


def place(buckets: dict[str, Any], arrays: list[Any]) -> tuple[str, list[Any], tuple[slice, ...]]:
    """Choose the function of the library, pad its inputs, and say what to keep of its first output."""
    shapes, dims = buckets["shapes"], buckets["dims"]
    names = [spec["name"] for spec in shapes[0]["inputs"]]
    places = [dim["inputs"][0] for dim in dims]
    sizes = [arrays[names.index(name)].shape[axis] for name, axis in places]

    def fits(dim: dict[str, Any], index: int, size: int) -> bool:
        return size == dim["sizes"][index] or (dim["padding"] != "exact" and size < dim["sizes"][index])

    for index, bucket in enumerate(shapes):  # from the smallest to the largest
        if not all(fits(dim, index, size) for dim, size in zip(dims, sizes, strict=True)):
            continue
        pads = [[[0, 0] for _ in array.shape] for array in arrays]
        keep = [slice(None) for _ in bucket["outputs"][0]["shape"]]
        for dim, size in zip(dims, sizes, strict=True):
            for name, axis in dim["inputs"]:
                pads[names.index(name)][axis][1] = dim["sizes"][index] - size
            for name, axis in dim["outputs"]:
                if name == bucket["outputs"][0]["name"]:
                    keep[axis] = slice(size)
        padded = [np.pad(array, widths) for array, widths in zip(arrays, pads, strict=True)]
        return bucket["entry"], padded, tuple(keep)
    sys.exit("no shape of the library holds these inputs: report.json lists them")


library, *sources, destination = sys.argv[1:]
arrays = [np.load(source) for source in sources]
report = Path(library).with_name("report.json")
entry, arrays, keep = place(json.loads(report.read_text())["buckets"], arrays)
machine = tvm.runtime.vm.VirtualMachine(tvm.runtime.load_module(library), tvm.cpu())
result = machine[entry](*map(tvm.runtime.tensor, arrays))
first = result if isinstance(result, tvm.runtime.Tensor) else result[0]  # several outputs come as an array
np.save(destination, first.numpy()[keep])
