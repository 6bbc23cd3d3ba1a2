"""Products run on one thread inside, and on as many as before afterwards."""

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from tersor.autoscheduler.driver import search
from tersor.blas import on_one_blas_thread
from tersor.compiler import compile
from tersor.sensitivity.sensitivity import sensitivity


def threads() -> set[int]:
    np.ones((2, 2)) @ np.ones((2, 2))
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_one_thread_inside_and_as_many_as_before_outside() -> None:
    with threadpool_limits(2, user_api="blas"):
        assert on_one_blas_thread(threads)() == {1}
        assert threads() == {2}


def test_all_that_does_linear_algebra_for_long_is_limited() -> None:
    for verb in (compile, search, sensitivity):
        assert hasattr(verb, "__wrapped__"), verb
