import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from tersor.compression import canonical
from tersor.linking import export_library
from tersor.lowering import build
from tersor.targets.cpu.host.detect import Host, cpu_flags, detect
from tersor.targets.cpu.host.guard import FEATURES, NAME, build_check, check_cpu, guard, refusal
from tersor.targets.cpu.host.isa import AMX, AVX2, ISAS, PLAIN, Isa
from tersor.targets.cpu.lowering import lower
from tests.relax_modules import Net

NATIVE = detect().isa
SHAPE = (1, 3, 8, 8)

RUN = """
import sys
import numpy
import tvm
machine = tvm.relax.VirtualMachine(tvm.runtime.load_module(sys.argv[1]), tvm.cpu())
assert "tersor" not in sys.modules
for _ in range(2):
    print(machine["main"](tvm.runtime.tensor(numpy.ones((1, 3, 8, 8), "float32"))).numpy().sum())
"""


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> Isa:
    """This CPU's instruction set and a feature whose bit is reserved, so that no CPU has it."""
    monkeypatch.setitem(FEATURES, "unheard_of", (1, 0, 3, 10))
    return replace(NATIVE, flags=(*NATIVE.flags, "unheard_of"))


def compiled(isa: Isa) -> Any:
    net = Net(SHAPE)
    y = net.conv(net.inputs[0], "conv", np.ones((4, 3, 3, 3), np.float32))
    return build(lower(canonical(net.finish(y)), isa, 1), Host(isa, 1))


def run_alone(isa: Isa, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run the exported library in a process that knows TVM alone."""
    path = folder / "model.so"
    export_library(compiled(isa), path)
    return subprocess.run(
        [sys.executable, "-c", RUN, str(path)], capture_output=True, text=True, check=False, cwd=folder
    )


def test_a_library_for_this_cpu_runs_again_and_again(tmp_path: Path) -> None:
    assert run_alone(NATIVE, tmp_path).stdout.split() == ["3888.0", "3888.0"]


def test_a_library_for_another_cpu_refuses_in_one_sentence(lacking: Isa, tmp_path: Path) -> None:
    result = run_alone(lacking, tmp_path)
    assert result.returncode == 1  # not a signal
    assert result.stderr.splitlines()[-1] == f"RuntimeError: {refusal(lacking.name)}"
    assert result.stdout == ""


def test_it_refuses_again(lacking: Isa) -> None:
    device: Any = tvm.cpu()
    machine = relax.VirtualMachine(compiled(lacking), device)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="compile the model again on this machine"):
            machine["main"](tvm.runtime.tensor(np.ones(SHAPE, np.float32)))


@pytest.mark.parametrize("isa", [isa for isa in ISAS if not set(isa.flags) <= set(NATIVE.flags)])
def test_an_instruction_set_that_this_cpu_may_lack_is_refused_exactly_then(isa: Isa) -> None:
    check = build_check(isa)[NAME]
    if set(isa.flags) <= cpu_flags():
        check()
        return
    with pytest.raises(RuntimeError, match=f"with {isa.name}, which this one lacks"):
        check()


def test_features_beyond_what_the_cpu_knows_are_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some CPUs answer an unknown leaf with another one's bits."""
    monkeypatch.setitem(FEATURES, "unheard_of", (0x1000, 0, 0, 0))
    isa = replace(NATIVE, flags=("unheard_of",))
    check = build_check(isa)[NAME]
    with pytest.raises(RuntimeError, match="lacks"):
        check()


def test_every_feature_of_every_instruction_set_is_checked() -> None:
    assert {flag for isa in ISAS for flag in isa.flags} <= FEATURES.keys()
    assert len(set(FEATURES.values())) == len(FEATURES)


@pytest.mark.parametrize("isa", [AMX, AVX2], ids=lambda isa: isa.name)
def test_the_check_itself_runs_on_any_x86(isa: Isa) -> None:
    text = build_check(isa).inspect_source("asm")
    assert "cpuid" in text
    assert not re.search(r"\t(v[a-z]+|shlx|shrx|andn|bextr|tile\w+)\t|%[yz]mm", text)


def test_only_tiles_are_asked_for() -> None:
    assert "syscall" in check_cpu(AMX).script()
    assert "syscall" not in check_cpu(AVX2).script()


def test_every_function_begins_with_the_check_where_kernels_need_more_than_any_x86() -> None:
    net = Net(SHAPE)
    mod = net.finish(net.emit(relax.op.nn.relu(net.inputs[0])))
    several = tvm.IRModule({"main": mod["main"], "main_1": mod["main"]})
    guarded = guard(several, AVX2)
    for name in ("main", "main_1"):
        assert guarded[name].body.blocks[0].bindings[0].value.op.global_symbol == NAME
    assert guard(several, PLAIN) is several
