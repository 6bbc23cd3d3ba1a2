from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tvm

from tersor.error import UserError
from tersor.targets.cpu.host import detect as module
from tersor.targets.cpu.host.detect import (
    Host,
    cpu_flags,
    detect,
    hardware,
    host_of,
    host_of_target,
    tiles_permitted,
)
from tersor.targets.cpu.host.isa import AMX, AVX2, AVX512, AVX512_VNNI, AVX_VNNI, ISAS, PLAIN, Isa


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[Isa], None]:
    """Pretend that the CPU has the flags of an instruction set."""

    def pretend(isa: Isa) -> None:
        monkeypatch.setattr(module, "cpu_flags", lambda: frozenset(isa.flags))

    return pretend


def cpuinfo(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, machine: str = "x86_64"
) -> None:
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(module, "Path", lambda _: path)
    monkeypatch.setattr(module.platform, "machine", lambda: machine)


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
def test_the_widest_instruction_set_whose_flags_are_there_is_chosen(
    cpu: Callable[[Isa], None], isa: Isa
) -> None:
    cpu(isa)
    assert detect().isa is isa


def test_every_flag_of_an_instruction_set_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    for isa in ISAS:
        for flag in isa.flags:
            monkeypatch.setattr(
                module, "cpu_flags", lambda flags=isa.flags, flag=flag: frozenset(flags) - {flag}
            )
            assert detect().isa is not isa


def test_a_narrower_instruction_set_can_be_forced(cpu: Callable[[Isa], None]) -> None:
    cpu(AVX512_VNNI)
    assert detect("avx512").isa is AVX512
    assert detect("avx2").isa is AVX2
    assert detect("plain").isa is PLAIN


def test_tiles_that_the_kernel_does_not_permit_are_no_feature(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cpuinfo(monkeypatch, tmp_path, f"flags : {' '.join(AMX.flags)}\n")
    for permitted, isa in ((True, AMX), (False, AVX512_VNNI)):
        monkeypatch.setattr(module, "tiles_permitted", lambda permitted=permitted: permitted)
        assert detect().isa is isa


def test_asking_for_tiles_on_a_cpu_without_them_is_refused_in_silence() -> None:
    assert tiles_permitted() == ("amx_tile" in cpu_flags())


def test_an_unknown_instruction_set_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        UserError, match=r"'neon'.*choose one of amx, avx512-vnni, avx512, avx-vnni, avx2, plain"
    ):
        detect("neon")


def test_one_that_the_cpu_lacks_is_refused_with_those_it_has(cpu: Callable[[Isa], None]) -> None:
    cpu(AVX2)
    with pytest.raises(UserError, match="this CPU cannot run avx512: choose one of avx2, plain"):
        detect("avx512")


def test_cores_are_those_this_process_may_use_unless_told() -> None:
    assert detect(cores=3).cores == 3
    assert detect().cores >= 1


def test_flags_are_read_from_the_first_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cpuinfo(
        monkeypatch, tmp_path, "processor\t: 0\nflags\t\t: fpu avx2 fma\nprocessor\t: 1\nflags\t\t: fpu\n"
    )
    assert cpu_flags() == {"fpu", "avx2", "fma"}
    assert detect().isa is AVX2


@pytest.mark.parametrize(
    ("text", "machine"), [("flags : avx2 fma\n", "aarch64"), (None, "x86_64"), ("model : 1\n", "x86_64")]
)
def test_a_cpu_that_tells_nothing_gets_plain_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, machine: str
) -> None:
    cpuinfo(monkeypatch, tmp_path, text, machine)
    assert cpu_flags() == frozenset()
    assert detect().isa is PLAIN


@pytest.mark.parametrize("isa", ISAS, ids=lambda isa: isa.name)
def test_a_host_is_read_back_from_its_target_and_from_its_hardware(isa: Isa) -> None:
    host = Host(isa, 3)
    assert host_of_target(host.target) == host
    assert host_of(hardware(host)) == host


def test_a_target_by_the_name_of_a_cpu_allows_what_that_cpu_has() -> None:
    for name, isa in (
        ("sapphirerapids", AMX),
        ("icelake-server", AVX512_VNNI),
        ("alderlake", AVX_VNNI),
        ("znver3", AVX2),
    ):
        assert host_of_target(tvm.target.Target({"kind": "llvm", "mcpu": name, "num-cores": 1})).isa is isa


def test_hardware_that_is_no_cpu_is_refused() -> None:
    with pytest.raises(UserError, match="is not a CPU"):
        host_of(replace(hardware(Host(AVX2, 1)), features=()))


def test_rates_grow_with_cores_and_integers_are_faster() -> None:
    one, four = (hardware(Host(AVX2, cores)) for cores in (1, 4))
    rates = {each.precision: each.macs_per_cycle for each in one.compute}
    assert rates["int8"] > rates["fp32"]
    assert [c.macs_per_cycle * 4 for c in one.compute] == [c.macs_per_cycle for c in four.compute]
    assert one.name == "cpu-avx2"


def test_a_description_does_not_depend_on_the_moment() -> None:
    assert hardware(Host(AVX2, 2)) == hardware(Host(AVX2, 2))
