"""Targets: hardware described as data, and the kernels or programs that run on it."""
