"""Run a compiled model with TVM's runtime alone: run_compiled.py model.so input.npy output.npy."""

import sys

import numpy as np
import tvm

library, source, destination = sys.argv[1:]
machine = tvm.runtime.vm.VirtualMachine(tvm.runtime.load_module(library), tvm.cpu())
result = machine["main"](tvm.runtime.tensor(np.load(source)))
first = result if isinstance(result, tvm.runtime.Tensor) else result[0]  # several outputs come as an array
np.save(destination, first.numpy())
