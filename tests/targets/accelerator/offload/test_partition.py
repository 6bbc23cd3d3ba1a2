"""Before and after: composites become functions, neighbours one region, and the module means the same."""

from dataclasses import replace

import numpy as np

from tersor.document import parse_json
from tersor.ir.graph import Graph, operator
from tersor.ir.untyped import relax
from tersor.targets.accelerator.offload.composite import find_composites
from tersor.targets.accelerator.offload.partition import TASK, partition
from tersor.targets.accelerator.offload.region import Task
from tests.relax_modules import run
from tests.targets.accelerator.offload.networks import (
    IMAGES,
    TOKENS,
    integer_attention_net,
    integer_image_net,
)


def regions(mod: object) -> dict[str, list[str]]:
    """Give the kinds of the composites in each region, in order."""
    found = {}
    for name, function in mod.functions.items():  # type: ignore[attr-defined]
        if isinstance(function, relax.Function) and name.name_hint != "main":
            bindings = [each for block in function.body.blocks for each in block.bindings]
            inner = {each.var: each.value for each in bindings if isinstance(each.value, relax.Function)}
            calls = [each.value for each in bindings if isinstance(each.value, relax.Call)]
            kinds = [str(inner[call.op].attrs["Composite"]) for call in calls]
            found[name.name_hint] = [kind.removeprefix("tersor.") for kind in kinds]
    return found


def test_neighbours_are_one_region_and_what_is_refused_stays_between() -> None:
    mod = integer_image_net()
    after = partition(mod, find_composites(Graph(mod), {}))
    image, dense = regions(after).values()
    assert image == [
        "conv2d", "max_pool2d", "depthwise", "conv2d", "average_pool", "rescale", "average_pool", "add",
        "average_pool",
    ]  # fmt: skip
    assert dense == ["matmul"]
    kinds = [operator(value) or value.op.name_hint for _, value in Graph(after).bindings]
    first, second = regions(after)
    assert kinds == ["call_tir", first, "reshape", second]


def test_only_what_is_given_is_moved() -> None:
    mod = integer_image_net()
    found = [each for each in find_composites(Graph(mod), {}) if each.kind == "depthwise"]
    after = partition(mod, found)
    assert list(regions(after).values()) == [["depthwise"]]
    assert sum(operator(value) == "nn.conv2d" for _, value in Graph(after).bindings) == 2


def test_a_region_carries_the_tasks_of_its_composites() -> None:
    mod = integer_image_net()
    (found,) = [each for each in find_composites(Graph(mod), {}) if each.kind == "depthwise"]
    found = replace(found, task=replace(found.task, program="AAAA"))
    ((name, region),) = [
        (name.name_hint, function)
        for name, function in partition(mod, [found]).functions.items()
        if isinstance(function, relax.Function) and name.name_hint != "main"
    ]
    (composite,) = [
        each.value
        for block in region.body.blocks
        for each in block.bindings
        if isinstance(each.value, relax.Function)
    ]
    assert parse_json(str(composite.attrs[TASK]), Task, "it") == found.task
    assert (region.attrs["Codegen"], region.attrs["global_symbol"]) == ("tersor", name)


def test_the_name_of_a_region_is_that_of_what_it_does() -> None:
    mod = integer_image_net()
    composites = find_composites(Graph(mod), {})
    names = regions(partition(mod, composites))
    assert regions(partition(mod, composites)) == names
    other = [replace(each, task=replace(each.task, zero_point=7)) for each in composites]
    assert not set(regions(partition(mod, other))) & set(names)


def test_what_is_partitioned_computes_what_it_did() -> None:
    for mod, data in ((integer_image_net(), IMAGES), (integer_attention_net(), TOKENS)):
        after = relax.transform.LambdaLift()(partition(mod, find_composites(Graph(mod), {})))
        np.testing.assert_array_equal(run(after, data[1])[0], run(mod, data[1])[0])
