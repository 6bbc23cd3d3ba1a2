from dataclasses import replace

import pytest

from tersor.targets.cpu.host.detect import detect
from tersor.targets.cpu.host.isa import AMX, AVX512_VNNI, PLAIN, Isa
from tersor.targets.cpu.layout.geometry import Geometry
from tersor.targets.cpu.layout.halo import Halo, Halos, Image
from tests.quantized_layers import draw, draw_halos, mismatches

NATIVE = detect().isa
READ_IN_PLACE = (AVX512_VNNI.described(), AMX.described())


def test_an_image_with_a_halo_has_rows_and_columns_around_it() -> None:
    image = Image(4, 5, 3, Halo((1, 2, 0, 1)))
    assert image.shape == (5, 8, 3)
    assert image.pitch == 24
    assert image.size == 120
    assert image.place(-1, -2) == 0
    assert image.place(0, 0) == 24 + 6


def test_a_halo_covers_the_paddings_that_it_was_widened_for() -> None:
    halo = Halo().widened((1, 0, 2, 0)).widened((0, 3, 1, 0))
    assert halo == Halo((1, 3, 2, 0))
    assert halo.covers((1, 3, 2, 0))
    assert halo.covers((0, 0, 0, 0))
    assert not halo.covers((1, 3, 2, 1))


def failures(isa: Isa, seeds: range) -> list[str]:
    layers = [layer for layer in map(draw, seeds) if not layer.is_dense]
    kernels = [replace(layer.kernel(isa), halos=draw_halos(layer)) for layer in layers]
    return mismatches(layers, kernels, isa)


@pytest.mark.parametrize("isa", [NATIVE, *READ_IN_PLACE], ids=["native", "vectors", "tiles"])
def test_layers_read_and_fill_halos(isa: Isa) -> None:
    assert failures(isa, range(30)) == []


@pytest.mark.slow
@pytest.mark.parametrize("isa", [NATIVE, PLAIN, *READ_IN_PLACE], ids=lambda isa: isa.name)
def test_many_layers_read_and_fill_halos(isa: Isa) -> None:
    assert failures(isa, range(30, 250)) == []


def test_a_layer_reads_in_place_what_has_a_halo_for_its_padding() -> None:
    geometry = Geometry(1, 6, 6, 16, 16, (3, 3), padding=(1, 1, 1, 1), groups=16)
    layer = replace(draw(0), geometry=geometry, is_dense=False, residual=None)
    kernel = layer.kernel(AVX512_VNNI.described())
    assert not kernel.reads_in_place
    halos = Halos(input=Halo(layer.geometry.padding))
    assert replace(kernel, halos=halos).reads_in_place
