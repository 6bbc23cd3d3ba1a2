"""PlanMemory: the tensors between the kernels of a network share as few bytes as they can.

    a = alloc_tensor();  f(x, a);  b = alloc_tensor();  g(a, b);  c = alloc_tensor();  h(b, c)
        ->  first = alloc_storage();  a = first;  f(x, a);  second = alloc_storage();  b = second;  g(a, b)
            c = first;  h(b, c)

Two tensors share a block only if one is read for the last time before the other is written. What a network
returns has memory of its own, so a caller may keep it across runs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from tersor.ir.graph import Expr, Module, operands, operator, shape_of
from tersor.ir.untyped import relax, tvm


@dataclass(frozen=True)
class Lifetime:
    """A tensor of some bytes, from the step that allocates it to the last that reads it."""

    bytes: int
    first: int
    last: int

    def meets(self, other: "Lifetime") -> bool:
        """Whether both hold something at some step."""
        return self.first <= other.last and other.first <= self.last


def share(lifetimes: Sequence[Lifetime]) -> list[int]:
    """Give each tensor a block, by number, so that no two in a block live at the same time.

    Tensors choose in the order of their size or in that of their lives, whichever takes fewer bytes
    (Pisarchyk and Lee, Efficient Memory Management for Deep Neural Net Inference, 2020: shared objects).
    Blocks begin where their tensors do: a kernel takes no tensor with an offset.
    """
    by_size = sorted(range(len(lifetimes)), key=lambda i: (-lifetimes[i].bytes, i))
    candidates = [_shared(lifetimes, order) for order in (by_size, range(len(lifetimes)))]
    return min(candidates, key=lambda blocks: sum(block_sizes(lifetimes, blocks)))


def _shared(lifetimes: Sequence[Lifetime], order: Iterable[int]) -> list[int]:
    """Let each tensor take the free block that grows least and has the fewest bytes left over."""
    blocks: list[list[Lifetime]] = []
    sizes: list[int] = []
    chosen = [0] * len(lifetimes)
    for index in order:
        mine = lifetimes[index]
        free = [i for i, held in enumerate(blocks) if not any(mine.meets(each) for each in held)]
        best = min(free, key=lambda i: (max(mine.bytes - sizes[i], 0), sizes[i], i), default=len(blocks))
        if best == len(blocks):
            blocks.append([])
            sizes.append(0)
        blocks[best].append(mine)
        sizes[best] = max(sizes[best], mine.bytes)
        chosen[index] = best
    return chosen


def block_sizes(lifetimes: Sequence[Lifetime], blocks: Sequence[int]) -> list[int]:
    """Give the bytes of each block."""
    sizes = [0] * (max(blocks, default=-1) + 1)
    for life, block in zip(lifetimes, blocks, strict=True):
        sizes[block] = max(sizes[block], life.bytes)
    return sizes


def plan_memory(mod: Module) -> Module:
    """Place the tensors of every network of a module, whose operators are calls of kernels already."""
    planned = tvm.IRModule(dict(mod.functions.items()), attrs=mod.attrs)
    for name, function in mod.functions.items():
        if isinstance(function, relax.Function):
            planned.update_func(name, _plan_function(function))
    return planned


def _plan_function(function: Expr) -> Expr:
    bindings = [binding for block in function.body.blocks for binding in block.bindings]
    if not all(isinstance(binding, relax.VarBinding) for binding in bindings):
        return function
    lifetimes = _lifetimes(bindings, function.body.body)
    blocks = share(list(lifetimes.values()))
    sizes = block_sizes(list(lifetimes.values()), blocks)
    storages = [relax.Var(f"block{i}", relax.AnyType()) for i in range(len(sizes))]
    rewritten = [
        relax.VarBinding(var, relax.op.memory.alloc_storage(relax.ShapeExpr([size]), 0, "global", "uint8"))
        for var, size in zip(storages, sizes, strict=True)
    ]
    block_of = dict(zip(lifetimes, blocks, strict=True))
    for binding in bindings:
        if binding.var in block_of:
            placed = _placed(storages[block_of[binding.var]], binding.value)
            rewritten.append(relax.VarBinding(binding.var, placed))
        else:
            rewritten.append(binding)
    body = relax.SeqExpr([relax.BindingBlock(rewritten)], function.body.body)
    return relax.Function(
        function.params, body, function.ret_ty, is_pure=bool(function.is_pure), attrs=function.attrs
    )


def _placed(block: Expr, allocation: Expr) -> Expr:
    shape, dtype, device = allocation.args[:3]
    return relax.op.memory.alloc_tensor(block, 0, shape, dtype.value, device)


def _lifetimes(bindings: Iterable[Expr], result: Expr) -> dict[Expr, Lifetime]:
    """Give the tensors that can be placed, by the variable that allocates them."""
    behind: dict[Expr, set[Expr]] = {}  # what a variable may be a view of
    lives: dict[Expr, Lifetime] = {}
    for step, binding in enumerate(bindings):
        var, value = binding.var, binding.value
        if operator(value) == "builtin.alloc_tensor":
            behind[var] = {var}
            lives[var] = Lifetime(_bytes(var), step, step)
            continue
        read = {root for operand in operands(value) for root in behind.get(operand, ())}
        behind[var] = read
        for root in read:
            lives[root] = Lifetime(lives[root].bytes, lives[root].first, step)
    returned = {root for operand in operands(result) for root in behind.get(operand, ())}
    return {root: life for root, life in lives.items() if root not in returned}


def _bytes(tensor: Expr) -> int:
    bits = int(tvm.DataType(str(tensor.ty.dtype)).bits)
    return prod(shape_of(tensor)) * -(-bits // 8)
