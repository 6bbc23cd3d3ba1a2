"""The random cases of the counter, some of whose memories are double buffered, lowered."""

from dataclasses import replace
from functools import cache
from random import Random

from tersor.scheme import Scheme
from tersor.targets.accelerator.isa.program import Program
from tersor.targets.accelerator.lowering.lower import lower
from tests.targets.accelerator.tiny_cases import Case, tiny_case

INT8 = Scheme.parse("int8")


@cache
def lowered_case(seed: int, most_products: int = 100) -> tuple[Case, Program]:
    """The case of a seed, and its program."""
    case = tiny_case(seed, most_products)
    random = Random(-seed)
    memories = tuple(replace(each, double_buffered=random.random() < 0.5) for each in case.hardware.memories)
    case = replace(case, hardware=replace(case.hardware, memories=memories))
    return case, lower(case.layer, INT8, case.mapping, case.hardware)
