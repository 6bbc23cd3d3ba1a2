"""Every decoding step's PrimFunc, compiled on plain llvm, gives the bits of its numpy function."""

import numpy as np
import pytest
import tvm
from tvm import relax

from tersor.formats.decoding import (
    Arrange,
    Decode,
    Exponents,
    LookUp,
    Minifloat,
    Powers,
    ScaleGroups,
    Signs,
    Step,
    Unpack,
)
from tersor.formats.placement import place
from tersor.ir.decoders import decoder, read_decoder
from tersor.sparsity import NM, Block, Sparsity, Unstructured

RNG = np.random.default_rng(0)


def patterns(*shape: int, dtype: type = np.uint8, high: int = 256) -> np.ndarray:
    return RNG.integers(0, high, shape).astype(dtype)


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(0, 1, shape).astype(np.float32)


CASES = {
    **{
        f"unpack {bits} bits{' signed' * signed} {rows}x{count}": (
            Unpack(bits, count, signed),
            (patterns(rows, -(-count * bits // 8)),),
        )
        for bits in range(1, 8)
        for signed, rows, count in ((False, 3, 41), (True, 1, 5), (True, 1, 40_003), (False, 70, 256))
    },
    "signs": (Signs(), (patterns(5, 9, high=2),)),
    "powers": (Powers(), (RNG.integers(-7, 8, (5, 19)).astype(np.int8),)),
    "look up": (LookUp(), (patterns(6, 11, high=16), floats(16))),
    "look up codes": (LookUp(), (patterns(1, 9001, high=16), patterns(16).view(np.int8))),
    "fp16": (Minifloat(5, 10), (np.arange(0x7C00, dtype=np.uint16).reshape(31, -1),)),
    "negative fp16": (Minifloat(5, 10), (np.arange(0x8000, 0xFC00, dtype=np.uint16).reshape(31, -1),)),
    "bf16": (Minifloat(8, 7), (np.arange(0x7F80, dtype=np.uint16).reshape(5, -1),)),
    "e4m3": (Minifloat(4, 3), (np.delete(np.arange(256), [127, 255]).astype(np.uint8).reshape(2, -1),)),
    "e5m2": (Minifloat(5, 2), (np.arange(124, dtype=np.uint8).reshape(2, -1),)),
    "e2m1": (Minifloat(2, 1), (np.arange(16, dtype=np.uint8).reshape(2, -1),)),
    "exponents": (Exponents(127), (np.arange(8, 254, dtype=np.uint8).reshape(2, -1),)),
    "small exponents": (Exponents(133), (np.arange(8, 254, dtype=np.uint8).reshape(2, -1),)),
    "scale codes": (
        ScaleGroups(8),
        (patterns(4, 21, high=8).view(np.int8), patterns(4, 3, high=18).view(np.int8)),
    ),
    "scale floats": (ScaleGroups(8), (floats(4, 24), floats(4, 3))),
    "scale rows of codes": (ScaleGroups(300), (patterns(90, 300).view(np.int8), floats(90, 1))),
    "arrange a convolution": (Arrange((8, 5, 3, 2), 0), (floats(8, 30),)),
    "arrange a dense layer": (Arrange((30, 8), 1), (patterns(8, 30).view(np.int8),)),
}


def run(step: Step, arguments: tuple[np.ndarray, ...]) -> tuple[np.ndarray, Step | None]:
    """Run a step on plain llvm; give the result and the step that its marker says."""
    expected = step.run(*arguments)  # pyright: ignore[reportCallIssue]
    types = [(each.shape, str(each.dtype)) for each in arguments]
    given = [relax.Var(f"x{i}", relax.TensorType(*each)) for i, each in enumerate(types)]
    builder = relax.BlockBuilder()
    with builder.function("main", given):
        target = builder.add_func(decoder(step, types, (expected.shape, str(expected.dtype))), step.name)
        kind = relax.TensorType(expected.shape, str(expected.dtype))
        call = relax.call_tir(target, given, kind)
        builder.emit_func_output(builder.emit(call))
    mod = builder.finalize()
    machine = relax.VirtualMachine(tvm.compile(mod, tvm.target.Target({"kind": "llvm"})), tvm.cpu())
    result = machine["main"](*(tvm.runtime.tensor(each) for each in arguments))
    return result.numpy(), read_decoder(mod, call)


@pytest.mark.parametrize("name", CASES)
def test_the_compiled_step_gives_the_bits_of_numpy(name: str) -> None:
    step, arguments = CASES[name]
    result, read = run(step, arguments)
    expected = step.run(*arguments)
    assert result.dtype == expected.dtype
    assert result.tobytes() == np.ascontiguousarray(expected).tobytes()
    assert read == step


def last_step(codes: np.ndarray, sparsity: Sparsity) -> tuple[Decode, dict[str, np.ndarray]]:
    """The step that places the entries, with what it reads."""
    placed = place(codes, codes == 0, sparsity, 8 * codes.itemsize)
    known = {"entries": placed.entries, **placed.arrays}
    *before, last = placed.steps
    for each in before:
        known[each.result] = each.step.run(*(known[name] for name in each.reads))
    return last, known


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
@pytest.mark.parametrize(
    ("shape", "sparsity"),
    [
        ((5, 32), NM(2, 4)),
        ((80, 256), NM(1, 4)),
        ((6, 48), NM(3, 16)),
        ((8, 64), Block(4, 8, 50)),
        ((128, 256), Block(16, 1, 50)),
        ((5, 33), Unstructured(50)),
        ((70, 300), Unstructured(50)),
        ((5, 330), Unstructured(98)),
        ((70, 3000), Unstructured(98)),
    ],
)
def test_places_are_those_of_numpy(shape: tuple[int, int], sparsity: Sparsity, dtype: type) -> None:
    codes = RNG.integers(1, 100, shape).astype(dtype)
    match sparsity:
        case NM(n, m):
            codes *= (RNG.random((shape[0], shape[1] // m, m)).argsort(axis=2) < n).reshape(shape)
        case Block(outputs, inputs):
            kept = RNG.random((shape[0] // outputs, shape[1] // inputs)) < 0.5
            codes *= kept.repeat(outputs, axis=0).repeat(inputs, axis=1)
        case _:
            codes *= RNG.random(shape) < sparsity.density
    last, known = last_step(codes, sparsity)
    result, read = run(last.step, tuple(known[name] for name in last.reads))
    assert np.array_equal(result, codes)
    assert read == last.step
