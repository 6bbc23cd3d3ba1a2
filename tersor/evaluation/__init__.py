"""Evaluation: a network compiled once, whose weights and grids are inputs, and what schemes do to it."""
