from dataclasses import replace

import numpy as np
import pytest
import tvm
from tvm import relax

from tersor.arithmetic import quantize_state, recurrent_product
from tersor.ir.recurrent import Gru, Lstm, call_cell, read_cell

CELLS = [Lstm, Gru, lambda *fields, **options: Gru(*fields, reset_after=False, **options)]
STEPS, BATCH = 5, 2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def arguments(cell, seed=0, scale=1.0):
    """Draw what a cell reads, by name, in the order of its arguments."""
    random = np.random.default_rng(seed)
    hidden, size = cell.hidden, cell.hidden * cell.gates
    drawn = {"gates": random.normal(0, 1, (STEPS, BATCH, size)) * scale}
    if cell.weight == "int8":
        drawn["weight"] = random.integers(-127, 128, (hidden, size)).astype(np.int8)
        drawn["multiplier"] = random.uniform(0.5, 1.5, size) / (127 * 127 * np.sqrt(hidden / 3))
        if cell.state == "float32":
            drawn["multiplier"] *= 127
    else:
        drawn["weight"] = random.normal(0, 1 / np.sqrt(hidden), (hidden, size))
    if isinstance(cell, Gru) and cell.reset_after:
        drawn["bias"] = random.normal(0, 0.5, hidden)
    drawn["h"] = random.uniform(-0.9, 0.9, (BATCH, hidden))
    if isinstance(cell, Lstm):
        drawn["c"] = random.normal(0, 1, (BATCH, hidden))
    return {name: a if a.dtype == np.int8 else a.astype(np.float32) for name, a in drawn.items()}


def run(cell, given):
    """Compile a cell plainly and run it; give y, and the last c of an LSTM."""
    builder = relax.BlockBuilder()
    parameters = [relax.Var(n, relax.TensorType(a.shape, str(a.dtype))) for n, a in given.items()]
    with builder.function("main", parameters):
        with builder.dataflow():
            result = builder.emit_output(call_cell(builder, cell, parameters))
        builder.emit_func_output(result)
    executable = tvm.compile(builder.get(), tvm.target.Target({"kind": "llvm"}))
    result = relax.VirtualMachine(executable, tvm.cpu())["main"](*map(tvm.runtime.tensor, given.values()))
    return [result.numpy()] if isinstance(cell, Gru) else [each.numpy() for each in result]


def described(cell, given):
    """Compute a cell in numpy, with the integer arithmetic of its scheme."""
    weight = given["weight"]
    if cell.weight == "int8" and cell.state == "float32":
        weight = weight * given["multiplier"]

    def product(h, columns):
        if cell.state == "int8":
            return recurrent_product(quantize_state(h), weight[:, columns], given["multiplier"][columns])
        return h @ weight[:, columns]

    hidden, gates = cell.hidden, given["gates"]
    h, c = given["h"], given.get("c")
    y = np.zeros((STEPS, BATCH, hidden), np.float32)
    for t in reversed(range(STEPS)) if cell.reverse else range(STEPS):
        if isinstance(cell, Lstm):
            i, f, g, o = np.split(gates[t] + product(h, slice(None)), 4, axis=-1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        else:
            r, z, n = np.split(gates[t], 3, axis=-1)
            r = sigmoid(r + product(h, slice(0, hidden)))
            z = sigmoid(z + product(h, slice(hidden, 2 * hidden)))
            last = slice(2 * hidden, None)
            inner = r * (product(h, last) + given["bias"]) if cell.reset_after else product(r * h, last)
            h = (1 - z) * np.tanh(n + inner) + z * h
        y[t] = h
    return [y] if c is None else [y, c]


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("hidden", [5, 12, 64])
def test_a_cell_computes_its_equations(kind, hidden):
    cell = kind(hidden, reverse=hidden == 12)
    given = arguments(cell)
    for result, expected in zip(run(cell, given), described(cell, given), strict=True):
        np.testing.assert_allclose(result, expected, atol=2e-6)


@pytest.mark.parametrize("kind", CELLS)
def test_int8_weights_are_read_as_they_are_stored(kind):
    cell = kind(24, weight="int8")
    given = arguments(cell)
    for result, expected in zip(run(cell, given), described(cell, given), strict=True):
        np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("kind", CELLS)
def test_an_int8_state_is_rounded_where_it_meets_the_weight(kind):
    cell = kind(24, weight="int8", state="int8")
    given = arguments(cell)
    step = np.abs(127 * given["multiplier"]).max()  # a state may round the other way on a tie of the last bit
    for result, expected in zip(run(cell, given), described(cell, given), strict=True):
        np.testing.assert_allclose(result, expected, atol=2 * step)
    exact = described(replace(cell, state="float32"), given | {"multiplier": given["multiplier"] * 127})
    assert not np.allclose(run(cell, given)[0], exact[0], atol=1e-5)


@pytest.mark.parametrize("hidden", [7, 48])
def test_the_sums_of_an_int8_state_are_exact(hidden):
    """With its other gates open or shut, c of one step is tanh of the scaled sum: read the sum off it."""
    cell = Lstm(hidden, weight="int8", state="int8")
    given = arguments(cell)
    blocks = given["gates"].reshape(STEPS, BATCH, 4, hidden)
    blocks[:, :, 0] = 100.0  # input gate open
    blocks[:, :, 1] = -100.0  # forget gate shut
    blocks[:, :, 2] = 0.0
    codes = quantize_state(given["h"]).astype(np.int64)
    sums = codes @ given["weight"].astype(np.int64)[:, 2 * hidden : 3 * hidden]
    given["multiplier"][:] = 1.0
    given["multiplier"][2 * hidden : 3 * hidden] = np.float32(2.0 ** -np.ceil(np.log2(np.abs(sums).max())))
    given["multiplier"][: 2 * hidden] = given["multiplier"][3 * hidden :] = 0
    given["gates"] = given["gates"][:1]
    one = run(cell, given)[1]
    assert np.array_equal(np.rint(np.arctanh(one.astype(np.float64)) / given["multiplier"][2 * hidden]), sums)


def test_a_state_beyond_one_saturates():
    assert quantize_state(np.float32([-3, -1, -0.004, 0, 0.5 / 127, 1.5 / 127, 1, 2])).tolist() == [
        -127, -127, -1, 0, 0, 2, 127, 127,
    ]  # fmt: skip


def test_a_cell_is_read_back_from_its_call():
    cell = Gru(8, reverse=True, reset_after=False, weight="int8", state="int8")
    given = arguments(cell)
    builder = relax.BlockBuilder()
    parameters = [relax.Var(n, relax.TensorType(a.shape, str(a.dtype))) for n, a in given.items()]
    with builder.function("main", parameters):
        result = call_cell(builder, cell, parameters)
        builder.emit_func_output(result)
    mod = builder.get()
    (call,) = (b.value for b in mod["main"].body.blocks[0].bindings if isinstance(b.value, relax.Call))
    assert read_cell(mod, call) == cell


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hidden": 0}, "at least 1 unit"),
        ({"hidden": 4, "weight": "int4"}, "float32 or int8, got 'int4'"),
        ({"hidden": 4, "state": "int8"}, "int8 state needs an int8 weight"),
    ],
)
def test_a_cell_checks_itself(fields, words):
    for kind in (Lstm, Gru):
        with pytest.raises(ValueError, match=words):
            kind(**fields)
