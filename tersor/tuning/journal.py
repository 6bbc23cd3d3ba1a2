"""Journal: MetaSchedule's JSON database of what was measured, so that a tuning that was killed goes on.

A workload is a module that says which kernel it is, on which CPU; a record's trace holds the tiling, as the
mapping that it is. A record is one line; one that a kill tore is dropped when the journal is opened.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm import s_tir
from tvm.s_tir.meta_schedule.database import JSONDatabase, TuningRecord
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T

from tersor.error import UserError
from tersor.silence import quiet_stderr
from tersor.targets.cpu.host.detect import Host
from tersor.tuning.database_files import check_records, check_workloads, drop_torn_line, ends_with_a_line
from tersor.tuning.measurement import Candidate, Timing

WORKLOADS, RECORDS = "workloads.json", "measurements.json"
KERNEL, CPU, MAPPING = "tersor.kernel", "tersor.cpu", "tersor.mapping"
# What a candidate's time is to be compared to.
DEFAULT, REFERENCE = "tersor.default_seconds", "tersor.reference_seconds"

Key = tuple[str, str]  # the kernel's hash, and the mapping's text


@dataclass(frozen=True)
class Entry:
    """The timings of one candidate, or what is wrong with it."""

    timings: tuple[Timing, ...] = ()
    wrong: bool = False

    @property
    def ratio(self) -> float:
        """The share of the default's time that it takes, the worst of what was seen."""
        return float("inf") if self.wrong else max(each.ratio for each in self.timings)


class Journal:
    """What was measured in a directory, on this CPU. Raises UserError if it cannot be used.

    `beside` is the name of what took turns with the candidates: times beside something else are refused.
    """

    def __init__(self, directory: Path, host: Host, cpu: str, beside: str = DEFAULT) -> None:
        self._beside = beside
        self._paths = [directory / name for name in (WORKLOADS, RECORDS)]
        self._target = host.target
        self._cpu = f"{cpu}, {host.isa.name}, {host.cores} cores"
        self._entries: dict[Key, Entry] = {}
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for path in self._paths:
                drop_torn_line(path)
            workloads, records = self._paths
            check_records(records, check_workloads(workloads), (MAPPING, beside))
            with quiet_stderr():
                self._database = JSONDatabase(str(workloads), str(records))
                known = list(self._database.get_all_tuning_records())
        except OSError as error:
            raise UserError(
                f"cannot write to {directory}: {(error.strerror or str(error)).lower()}"
            ) from error
        except Exception as error:
            raise self._unreadable(directory) from error
        for record in known:
            self._read(record, directory)

    def find(self, candidate: Candidate) -> Entry | None:
        """Give what is known of a candidate."""
        return self._entries.get(_key(candidate))

    def add(self, candidate: Candidate, measured: Timing | str) -> None:
        """Take a measurement down, on the disk. Raises UserError if that is full."""
        mod = self._module(candidate)
        schedule = s_tir.Schedule(mod)
        root = schedule.get_sblock("root")
        schedule.annotate(root, MAPPING, str(candidate.workload.nest.mapping(candidate.tiling)))
        timing = measured if isinstance(measured, Timing) else None
        if timing is not None:
            schedule.annotate(root, self._beside, repr(float(timing.default)))
        before = [_size(path) for path in self._paths]
        is_new = not self._database.has_workload(mod)
        workload = self._database.commit_workload(mod)
        seconds = None if timing is None else [timing.seconds]
        trace: Any = schedule.trace
        self._database.commit_tuning_record(TuningRecord(trace, workload, seconds, self._target, []))
        for path, size, grows in zip(self._paths, before, (is_new, True), strict=True):
            if (_size(path) <= size and grows) or not ends_with_a_line(path):
                raise UserError(f"cannot write to {path}: is the disk full? Make room and start again")
        self._note(_key(candidate), timing)

    def _module(self, candidate: Candidate) -> Any:
        with IRBuilder() as builder, T.prim_func(s_tir=True):
            T.func_name("main")
            T.func_attr({KERNEL: candidate.workload.digest, CPU: self._cpu})
            with T.sblock("root"):
                T.evaluate(0)
        return tvm.IRModule({"main": builder.get()})

    def _note(self, key: Key, timing: Timing | None) -> None:
        entry = self._entries.get(key, Entry())
        if timing is None:
            self._entries[key] = Entry(entry.timings, wrong=True)
        else:
            self._entries[key] = Entry((*entry.timings, timing), entry.wrong)

    def _read(self, record: Any, directory: Path) -> None:
        attributes = record.workload.mod["main"].attrs
        notes = {
            str(instruction.attrs[0]): str(instruction.inputs[1])
            for instruction in record.trace.insts
            if str(instruction.kind.name) == "Annotate"
        }
        if not {KERNEL, CPU} <= set(attributes.keys()) or MAPPING not in notes:
            raise self._unreadable(directory)
        if (cpu := str(attributes[CPU])) != self._cpu:
            raise UserError(
                f"the measurements in {directory} are of another CPU ({cpu}; this is {self._cpu}): "
                "give another directory, or remove it"
            )
        timing = None
        if record.run_secs is not None:
            try:
                timing = Timing(float(record.run_secs[0]), float(notes[self._beside]))
            except (KeyError, ValueError, IndexError) as error:
                raise self._unreadable(directory) from error
        self._note((str(attributes[KERNEL]), notes[MAPPING]), timing)

    def _unreadable(self, directory: Path) -> UserError:
        names = " and ".join(path.name for path in self._paths)
        kind = "of `tersor tune`" if self._beside == DEFAULT else "of a CPU's costs"
        return UserError(f"{directory} holds no measurements {kind}: remove {names}, or give another")


def _key(candidate: Candidate) -> Key:
    return candidate.workload.digest, str(candidate.workload.nest.mapping(candidate.tiling))


def _size(path: Path) -> int:
    return path.stat().st_size
