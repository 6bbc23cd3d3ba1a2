"""How tensors and weights lie in memory for the kernels."""
