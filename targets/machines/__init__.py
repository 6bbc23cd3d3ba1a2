"""Machines described as TOML files."""
