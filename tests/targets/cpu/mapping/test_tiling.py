import pytest

from tersor.targets.cpu.host.isa import ISAS, Isa
from tersor.targets.cpu.mapping.tiling import default_tiling
from tests.quantized_layers import draw


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
@pytest.mark.parametrize("cores", [1, 2, 7])
def test_default_tilings_fit_the_registers_and_the_image(isa: Isa, cores: int) -> None:
    for seed in range(60):
        g = draw(seed).geometry
        for integer in (False, True):
            tiling = default_tiling(isa, g, cores, integer)
            assert 1 <= tiling.pixels <= g.out_height * g.out_width
            # One pixel takes its weights from memory, several keep them in registers.
            weights = tiling.vectors if tiling.pixels > 1 else 0
            assert tiling.pixels * tiling.vectors + weights < isa.registers
            assert 1 <= tiling.rows <= g.out_height
            assert tiling.parts >= 1
