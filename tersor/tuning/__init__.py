"""Tuning: mappings that are faster than the analytic ones, found by measuring them one at a time."""
