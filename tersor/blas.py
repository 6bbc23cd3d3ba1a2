"""BLAS: the matrices of a compiler are many and small, so its products run on one thread.

A BLAS that shares a product of a hundred rows among cores waits longer for its threads than it multiplies,
and where other threads compute at the same time (compiled kernels, other processes) many times as long. One
thread also adds up in one order, so that numbers do not depend on how many cores there are.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from threadpoolctl import threadpool_limits

Given = ParamSpec("Given")
Result = TypeVar("Result")


def on_one_blas_thread(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Make a function whose products numpy and scipy compute on one thread."""

    @functools.wraps(function)
    def limited(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        with threadpool_limits(1, user_api="blas"):
            return function(*args, **kwargs)

    return limited
