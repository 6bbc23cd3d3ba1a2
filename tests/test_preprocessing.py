import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tersor.data import load_samples
from tersor.preprocessing import Preprocessing
from tests.samples import IMAGE, TEXT, VECTOR, only, refused, save_images


def test_pixels_are_normalised_per_channel_in_the_layout_asked_for(tmp_path):
    save_images(tmp_path, ["a.png"])
    pixels = np.asarray(Image.open(tmp_path / "a.png"), np.float32)
    preprocessing = Preprocessing(mean=(1, 2, 3), std=(4, 5, 6), layout="NHWC")
    (batch,) = load_samples(tmp_path, {"x": ((1, 8, 8, 3), "float32")}, preprocessing)
    np.testing.assert_allclose(batch["x"][0], (pixels - [1, 2, 3]) / [4, 5, 6], rtol=1e-6)


def test_images_become_grey_for_a_model_of_one_channel(tmp_path):
    save_images(tmp_path, ["a.png"])
    (batch,) = load_samples(
        tmp_path, {"x": ((1, 1, 8, 8), "float32")}, Preprocessing(mean=(127,), std=(128,))
    )
    grey = np.asarray(Image.open(tmp_path / "a.png").convert("L"), np.float32)
    np.testing.assert_allclose(batch["x"][0, 0], (grey - 127) / 128, rtol=1e-6)


@pytest.mark.parametrize("size", [(20, 12), (12, 20), (8, 8), (5, 9), (100, 9)])
def test_the_short_side_is_resized_and_the_centre_cut(tmp_path, size):
    save_images(tmp_path, ["a.png"], size)
    picture = Image.open(tmp_path / "a.png")
    short = min(size)
    wide = picture.resize((10 * size[0] // short, 10 * size[1] // short), Image.Resampling.BICUBIC)
    left, top = round((wide.width - 8) / 2), round((wide.height - 8) / 2)
    expected = np.asarray(wide.crop((left, top, left + 8, top + 8)), np.float32).transpose(2, 0, 1)
    (batch,) = load_samples(tmp_path, IMAGE, Preprocessing(resize=10, crop=8))
    np.testing.assert_array_equal(batch["x"][0], expected)


@given(width=st.integers(1, 40), height=st.integers(1, 40), target=st.sampled_from([(8, 8), (6, 9), (1, 5)]))
def test_any_image_fills_the_input_without_a_resize_option(tmp_path_factory, width, height, target):
    folder = tmp_path_factory.mktemp("images")
    Image.new("RGB", (width, height), (10, 20, 30)).save(folder / "a.png")
    (batch,) = load_samples(folder, {"x": ((1, 3, *target), "float32")})
    np.testing.assert_array_equal(
        batch["x"][0], np.broadcast_to(np.float32([[[10]], [[20]], [[30]]]), (3, *target))
    )


def test_a_broken_image_is_named_when_it_is_reached(tmp_path):
    save_images(tmp_path, ["a.png", "b.png"])
    data = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(data[: len(data) // 2])
    samples = load_samples(tmp_path, IMAGE)
    with refused(r"the image '.*b.png' is broken or of an unknown format"):
        only(samples)


def test_images_must_fit_the_model(tmp_path):
    save_images(tmp_path, ["a.png"])
    with refused(r"images do not fit the input 'x', whose samples are \[4\]"):
        load_samples(tmp_path, VECTOR)
    with refused("another --layout than NHWC"):
        load_samples(tmp_path, IMAGE, Preprocessing(layout="NHWC"))
    with refused("images serve models with one input, this one has 2"):
        load_samples(tmp_path, TEXT)
    with refused("--crop 7 does not give the 8x8 images that the model takes"):
        load_samples(tmp_path, IMAGE, Preprocessing(crop=7))
    with refused("--resize 7 is less than the 8x8 images"):
        load_samples(tmp_path, IMAGE, Preprocessing(resize=7))
    with refused("--mean 1,2,3 has three numbers, but the model's images have one channel"):
        load_samples(tmp_path, {"x": ((1, 1, 8, 8), "float32")}, Preprocessing(mean=(1, 2, 3)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": 0}, "--resize must be at least 1, got 0"),
        ({"crop": -1}, "--crop must be at least 1, got -1"),
        ({"resize": 8, "crop": 9}, "--resize 8 leaves no room for --crop 9"),
        ({"mean": (1, 2)}, "--mean needs one number, or three for RGB, got 1,2"),
        ({"mean": (float("nan"),)}, "--mean needs one number, or three for RGB, got nan"),
        ({"std": (1, 0, 1)}, "--std must not be 0"),
        ({"layout": "CHWN"}, "--layout must be NCHW or NHWC, got CHWN"),
    ],
)
def test_preprocessing_checks_itself(options, message):
    with refused(message):
        Preprocessing(**options)
