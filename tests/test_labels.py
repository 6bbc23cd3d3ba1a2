import numpy as np
import pytest

from tersor.data import load_samples
from tests.samples import IMAGE, refused, save_images


def test_labels_come_from_a_csv_file(tmp_path):
    save_images(tmp_path / "images", ["a.png", "b.png", "c/d.png"])
    (tmp_path / "labels.csv").write_text("file,class,comment\nb.png,2,\na.png,5,x\nc/d.png,7,\n")
    samples = load_samples(tmp_path / "images", IMAGE, labels=tmp_path / "labels.csv")
    np.testing.assert_array_equal(samples.labels, [5, 2, 7])


def test_labels_come_from_the_last_number_in_the_file_names(tmp_path):
    save_images(tmp_path, ["imagenet_00_243.jpg", "imagenet_01_7.jpg"])
    np.testing.assert_array_equal(load_samples(tmp_path, IMAGE, labels="filename").labels, [243, 7])
    save_images(tmp_path, ["plain.jpg"])
    with refused("--labels filename finds no number in the name 'plain.jpg'"):
        load_samples(tmp_path, IMAGE, labels="filename")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,class\nb.png,1\n", "has no class for the file 'a.png'"),
        ("name,class\na.png,1\n", "need a first line with the columns file and class"),
        ("", "need a first line with the columns file and class"),
        ("file,class\na.png,cat\n", "line 2: the class must be a number, got 'cat'"),
        ("file,class\na.png\n", "line 2: the class must be a number, got None"),
    ],
)
def test_a_csv_file_without_the_labels_is_refused(tmp_path, content, message):
    save_images(tmp_path / "images", ["a.png"])
    (tmp_path / "labels.csv").write_text(content)
    with refused(message):
        load_samples(tmp_path / "images", IMAGE, labels=tmp_path / "labels.csv")


def test_a_missing_csv_file_is_refused(tmp_path):
    save_images(tmp_path, ["a.png"])
    with refused("the labels '.*none.csv' cannot be read; give a CSV file, or 'filename'"):
        load_samples(tmp_path, IMAGE, labels=tmp_path / "none.csv")
