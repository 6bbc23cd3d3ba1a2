"""The arithmetic of pruning in numpy: which weights stay."""
