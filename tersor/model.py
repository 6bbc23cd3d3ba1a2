"""Model: an imported network on a host, in the shapes of every bucket, and its float build."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy.typing as npt
import tvm

from tersor.buckets import Buckets, TensorSpec
from tersor.frontend.shapes import buckets_of
from tersor.hardware import Hardware
from tersor.ir.borrow import borrow
from tersor.ir.graph import Graph, expose, shape_of
from tersor.lowering import finished, generate
from tersor.mapping import Mapping as LoopMapping
from tersor.padding import check_padding
from tersor.passes.calibrate import channel_count
from tersor.passes.extract import tensor_names
from tersor.passes.quantization.imported import as_float
from tersor.plan import Plan
from tersor.runner import Runner, use_threads
from tersor.targets.accelerator.mapper.mapper import Mapper
from tersor.targets.accelerator.offload.offload import Mappings, Offloaded, Show, offload, split_mappings
from tersor.targets.cpu.host.detect import Host
from tersor.targets.cpu.lowering import Lowered, lower
from tersor.targets.cpu.mapping.planned import check_planned

Array = npt.NDArray[Any]
Run = Callable[[Mapping[str, Array]], dict[str, Array]]  # inputs by name -> tensors by name


@dataclass(frozen=True)
class Build:
    """A network compiled: its kernels in every bucket, the executable made of them, and what runs it.

    `finished` is the module of all buckets that code was made of, which took `seconds`.
    """

    lowered: tuple[Lowered, ...]
    finished: tvm.IRModule
    executable: Any
    runner: Runner
    seconds: float


@dataclass(frozen=True)
class Model:
    """An imported network on a host, with its float build; what every compression starts from.

    With several buckets `mod` is the network in the largest shapes, `smaller` in the others, the smallest
    first; `batched` names the inputs whose leading dimension was asked to be a batch; `known` are the buckets
    of an earlier compilation, whose padding needs not be found out again. An `accelerator` gets what it can
    run of the compressed network; everything else, and all that is compared with, runs on the host.
    """

    name: str
    mod: tvm.IRModule
    host: Host
    output_names: tuple[str, ...] = ()
    smaller: tuple[tvm.IRModule, ...] = ()
    batched: tuple[str, ...] = ()
    known: Buckets | None = None
    accelerator: Hardware | None = None

    @property
    def mods(self) -> tuple[tvm.IRModule, ...]:
        """The network in the shapes of every bucket."""
        return *self.smaller, self.mod

    @cached_property
    def buckets(self) -> Buckets:
        """The shapes of inputs and outputs; which of them may be padded is found out by running them."""
        return self.known or check_padding(self._unchecked, self._unpadded.runner.run_in)

    @property
    def inputs(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and dtype of the inputs by name, the largest."""
        return self._unchecked.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs in the model's order, the largest; numbered where the model has no names for them."""
        return self._unchecked.largest.outputs

    @property
    def float_runner(self) -> Runner:
        """The uncompressed build as something that runs."""
        return self.float_build.runner

    @cached_property
    def float_build(self) -> Build:
        """The uncompressed build: the baseline of speed and accuracy.

        Of a model that came quantized it computes in float what that rounds, as other tools define it.
        """
        return replace(self._unpadded, runner=self._unpadded.runner.with_buckets(self.buckets))

    def compiled(
        self, mods: Sequence[tvm.IRModule], mappings: Mapping[str, Sequence[LoopMapping]] | None = None
    ) -> Build:
        """Lower and compile the modules of all buckets; `mappings` as of `lowered_alike`."""
        lowered = self.lowered_alike(mods, mappings)
        return self._build(lowered, self.buckets)

    def offloaded(
        self,
        mods: Sequence[tvm.IRModule],
        plan: Plan,
        accelerator: Hardware,
        show: Show = lambda done, of: None,
    ) -> tuple[Build, tuple[Offloaded, ...]]:
        """Compile the modules of all buckets for the host and `accelerator`, and say what that runs.

        Layers run by the mappings of `plan`, and tensors on its edges stay on the chip; `show` hears how many
        shapes of a bucket's layers are mapped. Raises UserError for a tensor that cannot stay.
        """
        theirs, others = split_mappings(plan.mappings, accelerator)
        mapper = Mapper(accelerator)
        parts = tuple(offload(mod, accelerator, theirs, mapper, show, plan.edges) for mod in mods)
        return self.compiled([part.mod for part in parts], others), parts

    def host_mappings(self, mappings: Mappings) -> Mappings:
        """Give those of a plan's mappings that are not for the accelerator."""
        return mappings if self.accelerator is None else split_mappings(mappings, self.accelerator)[1]

    def lowered_alike(
        self, mods: Sequence[tvm.IRModule], mappings: Mapping[str, Sequence[LoopMapping]] | None = None
    ) -> tuple[Lowered, ...]:
        """Lower the modules of all buckets, with one packing of each weight, that of the largest bucket.

        Layers run as `mappings` says. Raises UserError for one that covers no use of its layer.
        """
        *smaller, largest = mods
        isa, cores = self.host.isa, self.host.cores
        first = lower(largest, isa, cores, None, mappings)
        others = [lower(mod, isa, cores, first.packing, mappings) for mod in smaller]
        check_planned(mappings or {}, [each.mappings for each in (first, *others)])
        return *others, first

    def runner(self, *lowered: Lowered, lender: Build | None = None) -> Runner:
        """Compile lowered kernels, of one network or of all buckets, to something that runs.

        Kernels that `lender` has, too, are taken from there.
        """
        mod = self._finished(lowered)
        if lender is not None:
            mod = borrow(mod, lender.finished, lender.executable)
        alone = len(lowered) < len(self.mods)
        return Runner(generate(mod, self.host), self.inputs if alone else self.buckets)

    def _build(self, lowered: tuple[Lowered, ...], buckets: Buckets) -> Build:
        start = time.monotonic()
        mod = self._finished(lowered)
        executable = generate(mod, self.host)
        runner = Runner(executable, buckets)
        return Build(lowered, mod, executable, runner, time.monotonic() - start)

    def _finished(self, lowered: Sequence[Lowered]) -> tvm.IRModule:
        use_threads(self.host.cores)
        entries = [bucket.entry for bucket in self._unchecked.shapes][-len(lowered) :]
        return finished(dict(zip(entries, lowered, strict=True)), self.host)

    @cached_property
    def float_tensors(self) -> Run:
        """Every float tensor between the parts of the uncompressed network, as large as the bucket has it."""
        return self._tensors(self.mods)

    def observe(self, *mods: tvm.IRModule) -> Run:
        """Compile a float network, given once or for all buckets, to be calibrated on."""
        own = all(mod is mine for mod, mine in zip(mods, self.mods, strict=False))
        tensors = self.float_tensors if own and len(mods) == len(self.mods) else self._tensors(mods)
        flat = _of_changing_channels([observable(mod) for mod in mods])

        def run(arrays: Mapping[str, Array]) -> dict[str, Array]:
            found = tensors(arrays).items()
            return {name: array.reshape(-1, 1) if name in flat else array for name, array in found}

        return run

    def _tensors(self, mods: Sequence[tvm.IRModule]) -> Run:
        named = [observable(mod) for mod in mods]
        exposed = [as_float(expose(mod, list(each.values()))) for mod, each in zip(mods, named, strict=True)]
        runner = self.runner(*self.lowered_alike(exposed), lender=self._unpadded)
        return lambda arrays: dict(zip(named[-1], runner.uncropped(arrays), strict=True))

    @cached_property
    def _unchecked(self) -> Buckets:
        graphs = [Graph(mod) for mod in self.mods]
        names = self.output_names or tuple(f"output{i}" for i in range(len(graphs[-1].outputs)))
        inputs = [[_spec(var.name, var) for var in graph.inputs] for graph in graphs]
        outputs = [
            [_spec(name, var) for name, var in zip(names, graph.outputs, strict=True)] for graph in graphs
        ]
        return buckets_of(inputs, outputs, self.batched)

    @cached_property
    def _unpadded(self) -> Build:
        lowered = self.lowered_alike([as_float(mod) for mod in self.mods])
        return self._build(lowered, self._unchecked)


def observable(mod: tvm.IRModule) -> dict[str, Any]:
    """Give the float tensors between the parts of a network, by name."""
    named = {name: var for var, name in tensor_names(mod).items()}
    return {name: var for name, var in named.items() if str(var.ty.dtype) == "float32"}


def _of_changing_channels(named: Sequence[Mapping[str, Any]]) -> set[str]:
    """Name the tensors with as many channels as a bucket is long: moments of each would mean nothing."""
    channels = [{name: channel_count(shape_of(var)) for name, var in each.items()} for each in named]
    return {name for name, count in channels[-1].items() if any(each[name] != count for each in channels)}


def _spec(name: str, var: Any) -> TensorSpec:
    return TensorSpec(name, shape_of(var), str(var.ty.dtype))
