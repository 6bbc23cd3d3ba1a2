"""Report: what was done to each layer, what it cost, and what was refused and why."""

import io
from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from tersor.buckets import Buckets, TensorSpec
from tersor.fallback import Fallback


def faster(before: float, after: float) -> str:
    """Say how two latencies compare."""
    return f"{before / after:.2f}x faster" if after <= before else f"{after / before:.2f}x slower"


@dataclass(frozen=True)
class LayerReport:
    """One layer: `bytes` are its stored constants, `snr_db` its result against fp32 in the whole network.

    `mapping` are the loops of its kernel, of each use that has others; `kernel_bytes` are the constants as
    the kernel reads them, which is more than is stored where a weight is decoded when the library is loaded.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    scheme: str
    kernel: str
    bytes: int
    snr_db: float | None
    reason: str = ""
    mapping: str = ""
    kernel_bytes: int | None = None


@dataclass(frozen=True)
class Totals:
    """The whole network; latencies are measured on the machine that compiled it, all else follows the plan.

    `bytes` and `bytes_fp32` are stored constants, `file_bytes` is the library; `agreement` is the share of
    samples whose largest output is fp32's, `snr_db` over all samples that of the output that has the least.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    bytes_fp32: int
    bytes: int
    kernel_bytes: int | None = None  # constants as kernels read them
    file_bytes: int | None = None
    samples: int = 0
    agreement: float | None = None
    snr_db: float | None = None
    latency_ms_fp32: float | None = None
    latency_ms: float | None = None
    accuracy_fp32: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class Stays:
    """An operator that stays on the CPU beside an accelerator, and why."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    reason: str


@dataclass(frozen=True)
class OnChip:
    """A tensor that stays on an accelerator's chip: its `size` there, and `saved` bytes outside, at least."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    producer: str
    readers: tuple[str, ...]
    size: int
    saved: int


@dataclass(frozen=True)
class MachineShare:
    """What an accelerator has of a network: the `share` of all products, and what stays on the CPU.

    Of the tensors between its layers, `on_chip` stay there.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    share: float
    stays: tuple[Stays, ...]
    on_chip: tuple[OnChip, ...] = ()


@dataclass(frozen=True)
class Report:
    """What `tersor compress` writes beside the library."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    model: str
    hardware: str
    buckets: Buckets
    layers: tuple[LayerReport, ...]
    totals: Totals
    fallbacks: tuple[Fallback, ...] = ()  # what multiplies or holds a weight and is no layer
    race: str = ""  # what was raced, what each took and what was emitted
    machine: MachineShare | None = None  # of a network that runs on an accelerator

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs in their largest shapes."""
        return self.buckets.largest.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs in their largest shapes."""
        return self.buckets.largest.outputs

    def __rich__(self) -> RenderableType:
        """Give the report as tables to print."""
        return Group(
            self._layers(), self._totals(), *self._shapes(), *self._refusals(), *self._beside_machine()
        )

    def text(self, width: int = 120) -> str:
        """Give the same as plain text, `width` columns wide."""
        console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
        with console.capture() as capture:
            console.print(self)
        return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"

    def _layers(self) -> Table:
        table = Table(title=f"{self.model} on {self.hardware}", title_justify="left")
        table.add_column("layer", overflow="fold")
        for name in ("scheme", "kernel"):
            table.add_column(name)
        for name in ("bytes", "SNR dB"):
            table.add_column(name, justify="right")
        for layer in self.layers:
            snr = "" if layer.snr_db is None else f"{layer.snr_db:.1f}"
            read = layer.kernel_bytes or layer.bytes
            size = f"{layer.bytes:,}" if read == layer.bytes else f"{layer.bytes:,} > {read:,}"
            table.add_row(layer.name, layer.scheme, layer.kernel, size, snr)
        return table

    def _totals(self) -> Table:
        t = self.totals
        table = Table("", "fp32", "compressed", "", title="totals", title_justify="left")
        ratio = f"{t.bytes / t.bytes_fp32:.3f}x" if t.bytes_fp32 else ""
        table.add_row("stored constants", f"{t.bytes_fp32:,} B", f"{t.bytes:,} B", ratio)
        if t.kernel_bytes not in (None, t.bytes):
            table.add_row("read by kernels", "", f"{t.kernel_bytes:,} B", "")
        if t.file_bytes is not None:
            table.add_row("library", "", f"{t.file_bytes:,} B", "")
        if t.latency_ms is not None and t.latency_ms_fp32 is not None:
            speed = faster(t.latency_ms_fp32, t.latency_ms)
            table.add_row("latency", f"{t.latency_ms_fp32:.3f} ms", f"{t.latency_ms:.3f} ms", speed)
        if t.accuracy is not None and t.accuracy_fp32 is not None:
            drop = f"{100 * (t.accuracy - t.accuracy_fp32):+.2f} points"
            table.add_row("accuracy", f"{100 * t.accuracy_fp32:.2f} %", f"{100 * t.accuracy:.2f} %", drop)
        if t.agreement is not None:
            table.add_row("agreement with fp32", "", f"{100 * t.agreement:.2f} %", f"{t.samples} samples")
        if t.snr_db is not None:
            table.add_row("output SNR", "", f"{t.snr_db:.2f} dB", "")
        return table

    def _shapes(self) -> list[RenderableType]:
        """Give the shapes of several buckets, and what else fits into them."""
        if not self.buckets.dims:
            return []
        table = Table("function", *(spec.name for spec in self.inputs), title="shapes", title_justify="left")
        for bucket in self.buckets.shapes:
            table.add_row(bucket.entry, *("x".join(map(str, spec.shape)) for spec in bucket.inputs))
        takes = [f"{spec.name} takes {self.buckets.describe(spec.name)}" for spec in self.inputs]
        reasons = [f"no padding: {dim.why}" for dim in self.buckets.dims if dim.why]
        return [table, *map(Text, takes + reasons)]

    def _refusals(self) -> list[RenderableType]:
        reasons = [f"{layer.name} is {layer.scheme}: {layer.reason}" for layer in self.layers if layer.reason]
        reasons += [f"{each.name} ({each.operator}) stays fp32: {each.reason}" for each in self.fallbacks]
        reasons += [f"race: {self.race}"] if self.race else []
        return [Text(line) for line in reasons]

    def _beside_machine(self) -> list[RenderableType]:
        """Say what an accelerator leaves to the CPU, operators of the same reason together."""
        if self.machine is None:
            return []
        reasons: dict[str, list[str]] = {}
        for each in self.machine.stays:
            reasons.setdefault(each.reason, []).append(each.name)
        lines = [f"{self.machine.name} makes {100 * self.machine.share:.2f} % of the products; on the CPU:"]
        lines += [f"  {', '.join(names)}: {reason}" for reason, names in reasons.items()]
        if kept := self.machine.on_chip:
            saved = sum(each.saved for each in kept)
            lines.append(
                f"{len(kept)} tensors stay on the chip; at least {saved:,} bytes are not moved outside:"
            )
        lines += [f"  {each.producer} > {', '.join(each.readers)}: {each.size:,} bytes" for each in kept]
        return [Text(line) for line in lines]
