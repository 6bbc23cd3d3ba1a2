"""Roundings: how the weights of a layer find their numbers on the grid of a format."""
