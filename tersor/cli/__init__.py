"""The command line: tersor compress, run, bench and inspect."""

from tersor.cli.app import main

__all__ = ["main"]
