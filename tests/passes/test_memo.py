import numpy as np

from tersor.passes.memo import remembered
from tersor.scheme import INT8, W8A32


def test_equal_arguments_compute_once_and_others_anew() -> None:
    calls: list[int] = []

    def compute() -> int:
        calls.append(1)
        return len(calls)

    weight = np.arange(6, dtype=np.float32)
    assert remembered(compute, 8, "test_memo", weight, INT8) == 1
    assert remembered(compute, 8, "test_memo", weight.copy(), INT8) == 1
    assert remembered(compute, 8, "test_memo", weight.reshape(2, 3), INT8) == 2
    assert remembered(compute, 8, "test_memo", weight + 1, INT8) == 3
    assert remembered(compute, 8, "test_memo", weight, W8A32) == 4
