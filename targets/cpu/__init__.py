"""The host CPU: detection, kernels per instruction set, layouts, lowering."""
