"""Each use of a layer takes the mapping that covers it; one that covers none is refused."""

import pytest

from tersor.error import UserError
from tersor.mapping import Loop, Mapping
from tersor.targets.cpu.host.isa import AVX2
from tersor.targets.cpu.layout.geometry import Geometry, Tiling
from tersor.targets.cpu.mapping.nest import Nest
from tersor.targets.cpu.mapping.planned import PlannedMappings, check_planned

LARGE = Nest(AVX2, Geometry(1, 28, 28, 32, 32), integer=True)
SMALL = Nest(AVX2, Geometry(1, 14, 14, 32, 32), integer=True)
DEFAULT = Tiling(6, 2, 14, 1, parallel=False)
OTHER = Tiling(3, 4, 14, 1, parallel=False)
NONE = Mapping((Loop("K", 3, "nowhere"),))


def test_a_use_that_no_mapping_covers_has_the_default() -> None:
    planned = PlannedMappings({"conv": (LARGE.mapping(OTHER),)})
    assert planned.tiling("conv", LARGE, DEFAULT) == OTHER
    assert planned.tiling("conv", SMALL, DEFAULT) == DEFAULT
    assert planned.tiling("fc", SMALL, DEFAULT) == DEFAULT
    assert planned.ran == {
        "conv": (LARGE.mapping(OTHER), SMALL.mapping(DEFAULT)),
        "fc": (SMALL.mapping(DEFAULT),),
    }
    check_planned({"conv": (LARGE.mapping(OTHER),)}, [planned])


def test_the_factors_of_a_layer_take_its_mappings() -> None:
    mappings = {"conv": (LARGE.mapping(OTHER), SMALL.mapping(OTHER))}
    planned = PlannedMappings(mappings)
    assert planned.tiling("conv.U", LARGE, DEFAULT) == OTHER
    assert planned.tiling("conv.V", SMALL, DEFAULT) == OTHER
    check_planned(mappings, [planned])


def test_a_mapping_for_another_packing_of_the_weight_is_refused() -> None:
    mappings = {"conv": (LARGE.mapping(OTHER),)}
    planned = PlannedMappings(mappings)
    assert planned.tiling("conv", LARGE, DEFAULT, vectors=2) == DEFAULT
    with pytest.raises(UserError, match="its weight is packed for tiles of 2 vectors: change or remove it"):
        check_planned(mappings, [planned])


def test_a_mapping_may_be_for_one_of_several_modules() -> None:
    mappings = {"conv": (LARGE.mapping(OTHER), SMALL.mapping(OTHER))}
    modules = [PlannedMappings(mappings), PlannedMappings(mappings)]
    for module, nest in zip(modules, (LARGE, SMALL), strict=True):
        module.tiling("conv", nest, DEFAULT)
    check_planned(mappings, modules)
    with pytest.raises(UserError, match=r"the plan maps 'conv' as P=2@dram, .*but with its tasks"):
        check_planned(mappings, modules[1:])


def test_what_fits_nothing_is_refused_with_the_reason() -> None:
    planned = PlannedMappings({"conv": (NONE,)})
    assert planned.tiling("conv", LARGE, DEFAULT) == DEFAULT
    with pytest.raises(UserError, match="maps 'conv' as K=3@nowhere, but a CPU has loops at"):
        check_planned({"conv": (NONE,)}, [planned])
    with pytest.raises(UserError, match="maps 'table' as no loops, but it has no kernel with loops to map"):
        check_planned({"table": (Mapping(),)}, [planned])
