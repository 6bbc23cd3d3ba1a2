"""Loop tree: a mapping as text, memories and loops in the order in which they enclose one another.

    dram: weight, input, output
      for K in 4
        buffer: input, output
          for C in 8
            buffer: weight
              for P in 56
                for K in 16 on columns

A memory is followed by what it keeps from there on; one that keeps nothing and has loops says `nothing`. A
loop `on` an axis is spread over its units, any other runs at the memory above it. What has its home on the
chip comes before all, as in `buffer: input` above `dram: weight, output`.
"""

import re
from collections import Counter
from itertools import pairwise
from math import prod

from tersor.hardware import Axis, Hardware
from tersor.layer import Operand
from tersor.mapping import Keep, Loop, Mapping

_ORDER: tuple[Operand, ...] = ("weight", "input", "output")


def write_tree(mapping: Mapping, hardware: Hardware) -> str:
    """Write the tree of `mapping`. Raises ValueError with `why_misplaced`'s reason."""
    if reason := why_misplaced(mapping, hardware):
        raise ValueError(reason)
    homes = homes_of(mapping, hardware)
    lines: list[str] = []
    for memory in hardware.memories[1:]:
        if whole := [o for o in _ORDER if homes[o] == memory.name]:
            lines.append(f"{memory.name}: {', '.join(whole)}")
    for level, memory in enumerate(hardware.memories):
        loops = [loop for loop in mapping.loops if loop.at == memory.name]
        inside = [axis.name for axis in hardware.axes if axis.inside == memory.name]
        for place in range(len(loops) + 1):
            kept = [
                o
                for o in _ORDER
                if Keep(o, memory.name, place) in mapping.keep and (level == 0 or homes[o] != memory.name)
            ]
            if kept or (place == 0 and loops):
                lines.append(f"{memory.name}: {', '.join(kept) or 'nothing'}")
            if place < len(loops):
                lines.append(f"for {loops[place].dim} in {loops[place].size}")
        spread = [loop for loop in mapping.loops if loop.at in inside]
        lines += [f"for {loop.dim} in {loop.size} on {loop.at}" for loop in spread]
    return "\n".join("  " * depth + line for depth, line in enumerate(lines)) + "\n"


def parse_tree(text: str) -> Mapping:
    """Read what `write_tree` writes. Raises ValueError naming the line that is not understood."""
    loops: list[Loop] = []
    keep: list[Keep] = []
    memory = ""
    for depth, line in enumerate(text.splitlines()):
        if len(line) - len(line.lstrip(" ")) != 2 * depth:
            raise ValueError(f"line {depth + 1} of a loop tree is indented by {2 * depth} spaces: {line!r}")
        if found := re.fullmatch(r" *for (\S+) in (\d+)(?: on (\S+))?", line):
            if not memory:
                raise ValueError(f"a loop tree begins with a memory, as in 'dram: weight', got {line!r}")
            loops.append(Loop(found[1], int(found[2]), found[3] or memory))  # type: ignore[arg-type]
        elif found := re.fullmatch(r" *(\S+): (\S.*)", line):
            memory = found[1]
            outside = sum(loop.at == memory for loop in loops)
            names = [] if found[2] == "nothing" else found[2].split(", ")
            if loops and (late := [name for name in names if all(name != each.operand for each in keep)]):
                raise ValueError(f"line {depth + 1}: the {late[0]} begins whole: name it before all loops")
            keep += [Keep(name, memory, outside) for name in names]  # type: ignore[arg-type]
        else:
            raise ValueError(f"line {depth + 1} is no 'for K in 4' and no 'dram: weight, input': {line!r}")
    return Mapping(tuple(loops), tuple(keep))


def why_misplaced(mapping: Mapping, hardware: Hardware) -> str | None:
    """Say which loop or tile of `mapping` has no place on `hardware`, or None if all have one."""
    return _why_no_loops(mapping, hardware) or _why_not_kept(mapping, hardware)


def depth_of(hardware: Hardware) -> dict[str, int]:
    """The order of the places of loops: each memory, and the axes inside of it right behind it."""
    names = [memory.name for memory in hardware.memories]
    depths = {name: 2 * level for level, name in enumerate(names)}
    return depths | {axis.name: 2 * names.index(axis.inside) + 1 for axis in hardware.axes}


def _why_no_loops(mapping: Mapping, hardware: Hardware) -> str | None:
    depths = depth_of(hardware)
    for loop in mapping.loops:
        if loop.at not in depths:
            return f"{hardware.name} has no memory or axis {loop.at!r}; its places are {', '.join(depths)}"
    for outer, inner in pairwise(mapping.loops):
        if depths[outer.at] > depths[inner.at]:
            return f"the loop {inner} is inside of {outer}, but {inner.at} is outside of {outer.at}"
    for axis in hardware.axes:
        if reason := _why_not_unrolled(mapping, axis):
            return reason
    return None


def _why_not_unrolled(mapping: Mapping, axis: Axis) -> str | None:
    loops = [loop for loop in mapping.loops if loop.at == axis.name]
    for loop in loops:
        if loop.dim not in axis.unrolls and loop.size > 1:
            return f"the axis {axis.name} unrolls {', '.join(axis.unrolls)}, not {loop.dim}"
    if (used := prod(loop.size for loop in loops)) > axis.size:
        return f"the loops on {axis.name} need {used} units, it has {axis.size}"
    return None


def _why_not_kept(mapping: Mapping, hardware: Hardware) -> str | None:
    memories = {memory.name: memory for memory in hardware.memories}
    loops = Counter(loop.at for loop in mapping.loops)
    for keep in mapping.keep:
        if keep.at not in memories:
            return f"{hardware.name} has no memory {keep.at!r}; its memories are {', '.join(memories)}"
        if keep.operand not in memories[keep.at].keeps:
            kept = ", ".join(memories[keep.at].keeps)
            return f"the memory {keep.at} keeps {kept}, not the {keep.operand}"
        if keep.inside > loops[keep.at]:
            return f"{keep} is inside of {keep.inside} loops at {keep.at}, which has {loops[keep.at]}"
    for (operand, at), count in Counter((keep.operand, keep.at) for keep in mapping.keep).items():
        if count > 1:
            return f"the {operand} is kept {count} times at {at}; once is enough"
    return next(filter(None, (_why_not_whole(operand, mapping, hardware) for operand in _ORDER)), None)


def homes_of(mapping: Mapping, hardware: Hardware) -> dict[Operand, str]:
    """The memory in which each operand lies whole, the outermost that keeps it."""
    places = {memory.name: level for level, memory in enumerate(hardware.memories)}
    homes: dict[Operand, str] = {}
    for keep in sorted(mapping.keep, key=lambda keep: places[keep.at]):
        homes.setdefault(keep.operand, keep.at)
    return homes


def _why_not_whole(operand: Operand, mapping: Mapping, hardware: Hardware) -> str | None:
    outermost, home = hardware.memories[0].name, homes_of(mapping, hardware).get(operand)
    if home is None:
        return f"the {operand} begins whole in {outermost}; keep {operand}@{outermost}"
    if (instances := hardware.instances(hardware.memory(home))) > 1:
        return f"the {operand} lies whole in one of {instances} {home}; keep {operand}@{outermost}"
    if Keep(operand, home) not in mapping.keep:
        return f"the {operand} lies whole in {home}, inside of no loops; keep {operand}@{home}"
    return None
