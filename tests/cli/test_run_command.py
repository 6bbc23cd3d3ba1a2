from pathlib import Path

import numpy as np

from tersor.cli.run import _write


def test_outputs_may_have_any_name(tmp_path: Path) -> None:
    arrays = {"file": np.arange(3), "allow_pickle": np.ones((2, 2), np.float32)}
    _write(tmp_path / "outputs.npz", arrays)
    with np.load(tmp_path / "outputs.npz") as written:
        assert sorted(written) == sorted(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(written[name], array)
