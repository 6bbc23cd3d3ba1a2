import re
from itertools import product

import pytest

from tersor.targets.cpu.kernels.tiles import REGISTERS, Block, TileUnit
from tersor.targets.cpu.mapping.tile_tiling import BLOCKS


def test_a_block_that_the_registers_do_not_hold_is_refused() -> None:
    message = "2 x 3 tiles need 9 of 8 registers"
    with pytest.raises(ValueError, match=re.escape(message)):
        Block(2, 3)


def test_every_register_has_one_role() -> None:
    for block in BLOCKS:
        unit = TileUnit(block, 16, 64, described=False)
        registers = [*range(unit.sums), *unit.left, *unit.right]
        assert sorted(registers) == list(range(len(registers)))
        assert len(registers) <= REGISTERS


def test_the_fewer_operands_stay_and_the_others_pass_through_the_rest() -> None:
    unit = TileUnit(Block(4, 1), 16, 64, described=False)
    assert (len(unit.left), len(unit.right)) == (3, 1)
    unit = TileUnit(Block(2, 2), 16, 64, described=False)
    assert (len(unit.left), len(unit.right)) == (2, 2)


def test_all_blocks_that_fit_and_hide_the_latency_are_known() -> None:
    fitting = set()
    for pixels, channels in product(range(1, 5), range(1, 5)):
        if pixels * channels + min(pixels, channels) < REGISTERS:
            fitting.add(Block(pixels, channels))
    assert set(BLOCKS) == fitting
