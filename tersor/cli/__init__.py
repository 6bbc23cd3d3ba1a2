"""The command line: tersor compress, run, bench, inspect and export."""

from tersor.cli.app import main

__all__ = ["main"]
