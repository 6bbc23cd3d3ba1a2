"""What C code prints is kept from the terminal while it is asked to, and no longer."""

import ctypes
import os

import pytest

from tersor.silence import quiet_stderr, quiet_stdout


def test_what_c_prints_meanwhile_goes_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    c = ctypes.CDLL(None)
    print("before", flush=True)
    with quiet_stdout():
        c.puts(b"HighsMipSolverData")
    c.puts(b"after")
    c.fflush(None)
    assert capfd.readouterr().out == "before\nafter\n"


def test_each_stream_is_by_itself(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_stderr():
        os.write(1, b"out")
        os.write(2, b"Warning: Scope")
    os.write(2, b"err")
    assert capfd.readouterr() == ("out", "err")


def test_an_error_inside_ends_it(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="inside"), quiet_stdout():
        raise ValueError("inside")
    os.write(1, b"heard")
    assert capfd.readouterr().out == "heard"
