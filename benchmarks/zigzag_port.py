"""ZigZag (zigzag-dse) on a machine and a layer of ours: its search, and its cost model for any mapping.

Mei et al., "ZigZag", IEEE Transactions on Computers 2021; Symons et al., "LOMA", AICAS 2021.
"""

import logging
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from zigzag.cost_model.cost_model import CostModelEvaluation
from zigzag.datatypes import LayerDim, LayerOperand
from zigzag.hardware.architecture.accelerator import Accelerator
from zigzag.mapping.temporal_mapping import TemporalMapping, TemporalMappingDict, TemporalMappingType
from zigzag.opt.loma.engine import NoValidLoopOrderingFoundException
from zigzag.parser.accelerator_factory import AcceleratorFactory
from zigzag.parser.accelerator_validator import AcceleratorValidator
from zigzag.parser.workload_factory import LayerNodeFactory
from zigzag.stages.evaluation.cost_model_evaluation import CostModelStage
from zigzag.stages.mapping.spatial_mapping_conversion import SpatialMappingConversionStage
from zigzag.stages.mapping.spatial_mapping_generation import SpatialMappingGeneratorStage
from zigzag.stages.mapping.temporal_mapping_generator_stage import TemporalMappingGeneratorStage
from zigzag.workload.layer_node import LayerNode
from zigzag_mapping import TimedLoop, ZigZagMapping

from tersor.hardware import Hardware, Memory
from tersor.layer import Dim, Layer, Operand

THEIRS: dict[Dim, str] = {
    "N": "B", "G": "G", "K": "K", "C": "C", "P": "OY", "Q": "OX", "R": "FY", "S": "FX",
}  # fmt: skip
OURS: dict[str, Dim] = {theirs: ours for ours, theirs in THEIRS.items()}
LINKS: dict[Operand, tuple[str, str]] = {"weight": ("W", "I2"), "input": ("I", "I1"), "output": ("O", "O")}


@dataclass(frozen=True)
class Score:
    """What ZigZag says of a mapping; `used` is the fullest memory's share in use."""

    cycles: float
    energy: float
    used: float

    @classmethod
    def of(cls, evaluation: CostModelEvaluation) -> "Score":
        """Read it off ZigZag's own record."""
        used = max(share for shares in evaluation.mem_utili_shared.values() for share in shares)
        return cls(float(evaluation.latency_total2), float(evaluation.energy_total), float(used))


@dataclass(frozen=True)
class ZigZag:
    """ZigZag with its default settings for `hardware`; `spatial` mappings are tried for each layer."""

    hardware: Hardware
    spatial: int = 3
    lpf_limit: int = 6

    def search(self, layer: Layer, mixed: bool) -> Iterator[tuple[Score, ZigZagMapping]]:
        """All mappings that LOMA makes for the best spatial ones; `mixed` puts several loops on an axis."""
        logging.disable(logging.WARNING)
        stage = SpatialMappingGeneratorStage(
            [_Lenient, CostModelStage],
            accelerator=self.accelerator,
            layer=self._node(layer, {dim: layer.size(dim) for dim in THEIRS}, {}),
            enable_mix_spatial_mapping_generation=mixed,
            nb_mappings_generated=self.spatial,
            loma_lpf_limit=self.lpf_limit,
            loma_show_progress_bar=False,
            temporal_mapping_type=TemporalMappingType.UNEVEN,
        )
        for evaluation, _ in stage.run():
            assert isinstance(evaluation, CostModelEvaluation)
            yield Score.of(evaluation), self._read(evaluation)

    def score(self, layer: Layer, mapping: ZigZagMapping) -> Score:
        """ZigZag's cost model for one mapping."""
        logging.disable(logging.WARNING)
        spatial = {
            f"D{i + 1}": [
                f"{THEIRS[dim]}, {size}" for dim, size in _merged(mapping.spatial.get(axis.name, ()))
            ]
            for i, axis in enumerate(self.hardware.axes)
        }
        node = self._node(layer, mapping.padded(layer), {axis: s for axis, s in spatial.items() if s})
        node.spatial_mapping.initialize_oa_dims(self.accelerator.operational_array.dimension_sizes)
        held: TemporalMappingDict = {
            LayerOperand(LINKS[operand][0]): [
                [(LayerDim(THEIRS[dim]), size) for dim, size in loops]
                for loops in mapping.levels(operand, self.hardware)
            ]
            for operand in LINKS
        }
        stage = SpatialMappingConversionStage(
            [CostModelStage],
            accelerator=self.accelerator,
            layer=node,
            temporal_mapping=TemporalMapping(held, node, TemporalMappingType.UNEVEN),
        )
        ((evaluation, _),) = stage.run()
        assert isinstance(evaluation, CostModelEvaluation)
        return Score.of(evaluation)

    @cached_property
    def accelerator(self) -> Accelerator:
        """The machine as ZigZag's parser makes it."""
        checked = AcceleratorValidator(describe(self.hardware))
        if not checked.validate():
            raise ValueError(f"ZigZag does not accept the description of {self.hardware.name}")
        return AcceleratorFactory(checked.normalized_data).create()

    def _node(self, layer: Layer, sizes: dict[Dim, int], spatial: dict[str, list[str]]) -> LayerNode:
        dims: list[Dim] = [dim for dim in THEIRS if dim != "G" or sizes["G"] > 1]
        group = "[g]" if "G" in dims else ""
        windows: list[tuple[int, Dim, Dim, str]] = [(0, "P", "R", "iy"), (1, "Q", "S", "ix")]
        data: dict[str, Any] = {
            "id": 0,
            "name": layer.name,
            "operator_type": "Conv",
            "equation": f"O[b]{group}[k][oy][ox]+=W{group}[k][c][fy][fx]*I[b]{group}[c][iy][ix]",
            "dimension_relations": [
                f"{name}={layer.stride[i]}*{THEIRS[out].lower()}+{layer.dilation[i]}*{THEIRS[tap].lower()}"
                for i, out, tap, name in windows
            ],
            "loop_dims": [THEIRS[dim] for dim in dims],
            "loop_sizes": [sizes[dim] for dim in dims],
            "operand_precision": {"W": 8, "I": 8, "O": self._accumulator, "O_final": 8},
            "operand_source": {"W": 0, "I": -1},
        }
        mapping = {
            "name": "default",
            "spatial_mapping": spatial or None,
            "spatial_mapping_hint": {
                f"D{i + 1}": [THEIRS[dim] for dim in axis.unrolls]
                for i, axis in enumerate(self.hardware.axes)
            },
            "memory_operand_links": dict(LINKS.values()),
        }
        return LayerNodeFactory(data, [mapping]).create()

    @property
    def _accumulator(self) -> int:
        assert self.hardware.datapath
        return self.hardware.datapath.accumulator

    def _read(self, evaluation: CostModelEvaluation) -> ZigZagMapping:
        """ZigZag's mapping, each operand's memories with the loops that they hold."""
        held = evaluation.temporal_mapping.mapping_dic_origin
        order: list[TimedLoop] = [
            (OURS[dim.name], int(size)) for loops in held[LayerOperand("W")] for dim, size in loops
        ]
        outside: dict[Operand, dict[str, int]] = {}
        for operand, (theirs, _) in LINKS.items():
            names = [memory.name for memory in self.hardware.memories if operand in memory.keeps]
            left, outside[operand] = len(order), {}
            for name, loops in zip(reversed(names), held[LayerOperand(theirs)], strict=True):
                left -= len(loops)
                outside[operand][name] = left
        spatial = evaluation.layer.spatial_mapping
        spread: dict[str, tuple[TimedLoop, ...]] = {}
        for axis, (_, loops) in zip(self.hardware.axes, sorted(spatial.items(), key=str), strict=True):
            spread[axis.name] = tuple((OURS[dim.name], int(size)) for dim, size in loops.items() if size > 1)
        return ZigZagMapping(spread, tuple(reversed(order)), outside)


class _Lenient(TemporalMappingGeneratorStage):
    """LOMA, which gives up on a layer at the first spatial mapping for which no order fits."""

    def run(self) -> Generator[Any, None, None]:
        try:
            yield from super().run()
        except NoValidLoopOrderingFoundException:
            return


def describe(hardware: Hardware) -> dict[str, Any]:
    """The machine as ZigZag's YAML has it, from the innermost memory; all axes are inside of one memory."""
    names = [memory.name for memory in hardware.memories]
    (inside,) = {names.index(axis.inside) for axis in hardware.axes}
    axes = [f"D{i + 1}" for i in range(len(hardware.axes))]
    memories = {
        memory.name: _memory(memory, hardware, axes if level <= inside else [], level == 0)
        for level, memory in reversed(list(enumerate(hardware.memories)))
    }
    unit = hardware.unit("int8")
    assert unit
    array = {
        "unit_energy": unit.energy_per_mac,
        "unit_area": 1.0,
        "dimensions": axes,
        "sizes": [axis.size for axis in hardware.axes],
    }
    return {"name": hardware.name, "memories": memories, "operational_array": array}


def _memory(memory: Memory, hardware: Hardware, serves: list[str], outermost: bool) -> dict[str, Any]:
    reads = [f"{LINKS[each][1]}, tl" for each in memory.keeps]
    writes = [f"{LINKS[each][1]}, fh" for each in memory.keeps]
    if "output" in memory.keeps:
        reads.append("O, th")
        writes.append("O, fl")
    if memory.bandwidth is not None:
        width = int(8 * memory.bandwidth / hardware.clock)
        ports = [_port("rw", 1, "read_write", memory.word or 8, width, reads + writes)]
    else:
        assert memory.word
        width = memory.banks * memory.word
        ports = _ports("r", "read", memory.read_ports, memory.word, width, reads)
        ports += _ports("w", "write", memory.write_ports, memory.word, width, writes)
    return {
        "size": 8 * memory.size,
        "r_cost": memory.energy_per_byte * width / 8,
        "w_cost": memory.write_energy * width / 8,
        "area": 0.0,
        "latency": 1,
        "operands": sorted(LINKS[each][1] for each in memory.keeps),
        "ports": ports,
        "served_dimensions": serves,
        "force_double_buffering": memory.double_buffered and not outermost,
    }


def _ports(
    name: str, kind: str, count: float | None, least: int, width: int, uses: list[str]
) -> list[dict[str, Any]]:
    """One port for all uses, or one for each."""
    if count == 1:
        return [_port(name, 1, kind, least, width, uses)]
    if count != len(uses):
        raise ValueError(f"{count} ports are neither one for all nor one for each of {', '.join(uses)}")
    return [_port(name, i + 1, kind, least, width, [use]) for i, use in enumerate(uses)]


def _port(name: str, number: int, kind: str, least: int, width: int, uses: list[str]) -> dict[str, Any]:
    return {
        "name": f"{name}_port_{number}",
        "type": kind,
        "bandwidth_min": least,
        "bandwidth_max": width,
        "allocation": uses,
    }


def _merged(loops: tuple[TimedLoop, ...]) -> list[TimedLoop]:
    sizes: dict[Dim, int] = {}
    for dim, size in loops:
        sizes[dim] = sizes.get(dim, 1) * size
    return list(sizes.items())
