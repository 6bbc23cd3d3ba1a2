"""The kernels, and the choice of one for a layer."""
