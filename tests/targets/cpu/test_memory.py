from itertools import combinations, product
from typing import Any

import numpy as np
import tvm
from hypothesis import given
from hypothesis import strategies as st
from tvm import relax

from tersor.lowering import build
from tersor.targets.cpu.host.detect import detect
from tersor.targets.cpu.lowering import lower
from tersor.targets.cpu.memory import Lifetime, block_sizes, share
from tests.relax_modules import Net, attention_net, compiled, residual_net, samples, token_samples

op: Any = relax.op
HOST = detect(cores=2)
DEVICE: Any = tvm.cpu()
lives = st.builds(
    lambda size, first, length: Lifetime(size, first, first + length),
    st.integers(1, 100),
    st.integers(0, 12),
    st.integers(0, 5),
)


def least(lifetimes: list[Lifetime]) -> int:
    """Give the bytes that live at the busiest step."""
    steps = range(max((life.last for life in lifetimes), default=0) + 1)
    return max(sum(life.bytes for life in lifetimes if life.first <= step <= life.last) for step in steps)


@given(st.lists(lives, max_size=20))
def test_tensors_of_a_block_live_one_after_the_other(lifetimes: list[Lifetime]) -> None:
    blocks = share(lifetimes)
    for (i, mine), (j, other) in combinations(enumerate(lifetimes), 2):
        assert blocks[i] != blocks[j] or not mine.meets(other)
    total = sum(block_sizes(lifetimes, blocks))
    assert least(lifetimes) <= total <= sum(life.bytes for life in lifetimes)


def test_few_tensors_take_hardly_more_than_the_best_of_all_choices() -> None:
    rng = np.random.default_rng(0)
    totals, bests = 0, 0
    for _ in range(40):
        sizes, starts, lengths = rng.integers(1, 100, 5), rng.integers(0, 6, 5), rng.integers(0, 4, 5)
        found = zip(sizes, starts, lengths, strict=True)
        lifetimes = [Lifetime(int(size), int(first), int(first + length)) for size, first, length in found]
        totals += sum(block_sizes(lifetimes, share(lifetimes)))
        bests += best_of_all(lifetimes)
    assert totals <= 1.05 * bests


def best_of_all(lifetimes: list[Lifetime]) -> int:
    def is_legal(blocks: tuple[int, ...]) -> bool:
        pairs = combinations(range(len(lifetimes)), 2)
        return not any(blocks[i] == blocks[j] and lifetimes[i].meets(lifetimes[j]) for i, j in pairs)

    choices = filter(is_legal, product(range(len(lifetimes)), repeat=len(lifetimes)))
    return min(sum(block_sizes(lifetimes, blocks)) for blocks in choices)


def test_a_chain_takes_two_blocks() -> None:
    chain = [Lifetime(64, step, step + 1) for step in range(10)]
    assert block_sizes(chain, share(chain)) == [64, 64]


def test_networks_compute_the_same_run_after_run_and_outputs_stay() -> None:
    for mod, inputs in ((residual_net(), samples(1, 8, 10, 10)), (attention_net(), token_samples())):
        machine = relax.VirtualMachine(build(lower(mod, HOST.isa, 2), HOST), DEVICE)
        held = [machine["main"](tvm.runtime.tensor(x)) for x in inputs]
        plain = compiled(mod, 0)
        for x, result in zip(inputs, held, strict=True):
            np.testing.assert_allclose(result.numpy(), plain(x)[0], rtol=1e-3, atol=1e-4)


def test_views_of_inputs_and_of_returned_tensors_are_kept() -> None:
    """What is returned is a view of a tensor that other operators read, too, and a view of an input."""
    net = Net((4, 6))
    (x,) = net.inputs
    y = net.emit(op.permute_dims(x, [1, 0]))
    z = net.emit(op.permute_dims(net.emit(op.reshape(y, (2, 12))), [1, 0]))
    mod = net.finish(net.emit(op.reshape(y, (24,))), z, net.emit(op.reshape(x, (3, 8))))
    machine = relax.VirtualMachine(build(lower(mod, HOST.isa, 2), HOST), DEVICE)
    a, b = (np.arange(24, dtype=np.float32).reshape(4, 6) + start for start in (0, 100))
    first = machine["main"](tvm.runtime.tensor(a))
    second = machine["main"](tvm.runtime.tensor(b))
    for array, results in ((a, first), (b, second)):
        expected = (array.T.ravel(), array.T.reshape(2, 12).T, array.reshape(3, 8))
        for result, wanted in zip(results, expected, strict=True):
            np.testing.assert_array_equal(result.numpy(), wanted)
