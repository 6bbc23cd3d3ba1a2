"""Custom accelerators: their cost model."""
