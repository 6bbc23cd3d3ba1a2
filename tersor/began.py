"""Began: when the package began to be imported, which takes seconds that a budget counts."""

import time

BEGAN = time.monotonic()  # s
