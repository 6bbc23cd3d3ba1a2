"""Mapper: finds the mappings of a layer that take the least time and energy on an accelerator."""
