"""Workloads: what layers of one shape have in common, and arguments that are the same in every tiling."""

from dataclasses import replace

import numpy as np

from tersor.targets.cpu.kernels.epilogue import Requantize, Residual
from tests.tuning.workloads import FLOAT, HOST, use, workload, workloads


def test_layers_of_one_shape_are_one_workload_whatever_their_numbers() -> None:
    uses = [use("a"), use("b", Requantize(77, (0, 255))), use("c", outputs=32), use("d", FLOAT)]
    found = workloads(uses)
    assert [[each.layer for each in same] for same in found.values()] == [["a", "b"], ["c"], ["d"]]
    assert all(each.free for each in found)


def test_another_epilogue_is_another_workload() -> None:
    with_residual = use("b", Requantize(9, residual=Residual(0.3, 4)))
    assert len(workloads([use("a"), with_residual])) == 2


def test_a_layer_of_several_shapes_keeps_the_width_of_its_tiles() -> None:
    found = workloads([use("a"), use("a", height=12), use("b", width=9)])
    assert [each.free for each in found] == [False, False, True]


def test_the_hash_is_of_the_code_that_is_measured() -> None:
    assert workload().digest == workload(Requantize(9)).digest
    assert workload().digest != workload(FLOAT).digest


def test_arguments_are_the_same_numbers_in_every_packing() -> None:
    each = workload()
    runs = {}
    for vectors in (1, 2):
        tiling = replace(each.default, pixels=2, vectors=vectors)
        arguments = each.arguments(tiling, each.prim_func(tiling))
        assert len(arguments) > 1  # copies of the weight, which is cold in a network
        runs[vectors] = arguments
    (x, w, bias, multiplier, _), (x2, w2, bias2, multiplier2, _) = runs[1][0], runs[2][0]
    for one, two in ((x, x2), (bias, bias2), (multiplier, multiplier2)):
        np.testing.assert_array_equal(one, two)
    assert np.array_equal(w, w2) == HOST.isa.tiles  # tiles are packed one by one
    np.testing.assert_array_equal(np.sort(w), np.sort(w2))
    assert runs[1][0][0] is runs[1][1][0]
    assert runs[1][0][1] is not runs[1][1][1]
