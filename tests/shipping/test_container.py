"""A container: one file that gives the same numbers on any machine, and is refused where it is damaged."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tersor
from tersor.compiler import Compiled
from tersor.compression import compress
from tersor.error import UserError
from tersor.ir.graph import weights_of
from tersor.runner import Runner
from tersor.shipping.container import MAGIC, Package, Size, load, pack, save, unpack
from tersor.shipping.shipping import build_package, save_package
from tersor.targets.cpu.host.detect import detect, hardware
from tests.models import mobile_net, random_inputs

pytest.importorskip("constriction")
SAMPLE = random_inputs(mobile_net())


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    return tersor.compile(tersor.load_model(mobile_net(), check=False), [SAMPLE], measure=False)


@pytest.fixture(scope="module")
def package(compiled: Compiled) -> Package:
    mods = (compress(tersor.import_model(mobile_net()), compiled.plan, compiled.statistics),)
    return Package(mods, compiled.plan, compiled.report)


@pytest.fixture(scope="module")
def packed(package: Package) -> tuple[bytes, Size]:
    return pack(package)


def test_all_comes_back_as_it_was(package: Package, packed: tuple[bytes, Size]) -> None:
    again = unpack(packed[0], "net.tersor")
    assert (again.plan, again.report) == (package.plan, package.report)
    before, after = weights_of(package.mods[0]), weights_of(again.mods[0])
    assert before.keys() == after.keys()
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    assert pack(again)[0] == packed[0]


def test_its_size_is_told_beside_the_entropy(packed: tuple[bytes, Size]) -> None:
    data, size = packed
    assert size.file == len(data)
    assert size.contents + size.arrays < size.file < size.contents + size.arrays + 64
    assert size.bound <= size.arrays <= size.stored


def test_a_library_built_from_it_gives_the_same_numbers(
    compiled: Compiled, packed: tuple[bytes, Size], tmp_path: Path
) -> None:
    save(tmp_path / "net.tersor", packed[0])
    package, plain = load(tmp_path / "net.tersor"), hardware(detect("plain", 1))
    report = save_package(package, build_package(package, plain), plain, tmp_path / "built")
    assert report.hardware == "cpu-plain"
    runner = Runner.load(tmp_path / "built" / "model.so", report.buckets)
    assert all(map(np.array_equal, runner(SAMPLE), compiled(SAMPLE)))


def flipped(data: bytes) -> bytes:
    return data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: b"", "is no container"),
        (lambda data: b"PK\x03\x04" + data, "is no container"),
        (lambda data: data[:12], "is truncated"),
        (lambda data: data[:-1], "is truncated, 1 bytes are missing"),
        (lambda data: data + b"\0", "is damaged"),
        (flipped, "is damaged"),
        (lambda data: MAGIC + b"\x07\x00" + data[10:], "is of version 7, this tersor reads 1"),
    ],
)
def test_what_is_damaged_is_refused_in_one_sentence(
    damage: Callable[[bytes], bytes], said: str, packed: tuple[bytes, Size]
) -> None:
    with pytest.raises(UserError, match=f"^net.tersor {said}"):
        unpack(damage(packed[0]), "net.tersor")


def test_a_body_that_is_none_is_refused_even_with_a_right_checksum() -> None:
    for body in (b"", b"\x05\0\0\0hello", struct.pack("<I", 1 << 31)):
        data = struct.pack("<8sHQI", MAGIC, 1, len(body), zlib.crc32(body)) + body
        with pytest.raises(UserError, match=r"net.tersor is damaged"):
            unpack(data, "net.tersor")


def test_a_file_that_cannot_be_written_or_read_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write"):
        save(tmp_path / "missing" / "net.tersor", b"")
    with pytest.raises(UserError, match="cannot read"):
        load(tmp_path / "net.tersor")
