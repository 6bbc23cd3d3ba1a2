"""Random programs for `TOY`: any instructions, whether or not they make sense together."""

from hypothesis import strategies as st

from tersor.layer import DIMS, Layer
from tersor.scheme import Scheme
from tersor.targets.accelerator.isa.epilogue import Epilogue, Requantize, Rescale, Residual, Sums
from tersor.targets.accelerator.isa.instruction import (
    Apply,
    Compute,
    End,
    Instruction,
    Load,
    Loop,
    Spread,
    Store,
    Sync,
    Token,
)
from tersor.targets.accelerator.isa.program import AnyProgram, Home, Program, VectorProgram, digest_of
from tersor.targets.accelerator.isa.vector import Add, AveragePool, MaxPool, Recode, VectorOperator
from tests.targets.accelerator.isa.machines import TOY

_COUNT = st.one_of(st.integers(1, 9), st.integers(1, 2**32 - 1))
_ADDRESS = st.integers(0, 2**40)
_CODE = st.integers(0, 255)
_BOUNDS = st.tuples(_CODE, _CODE)
_MULTIPLIER = st.floats(allow_nan=False, allow_infinity=False)
_TOKENS = st.lists(
    st.builds(
        Token,
        st.sampled_from(("full", "free")),
        st.sampled_from(("weight", "input", "output")),
        st.integers(1, 2),
    ),
    max_size=8,
).map(tuple)
_EXTENTS = st.tuples(*[st.one_of(st.just(1), _COUNT)] * len(DIMS))
_PLACE = st.tuples(_EXTENTS, _ADDRESS, st.integers(1, 255), st.integers(1, 2**40))
_INWARDS = st.sampled_from(((0, 1), (0, 2), (1, 2)))


@st.composite
def _loads(draw: st.DrawFn) -> Load:
    operand = draw(st.sampled_from(("weight", "input", "output")))
    source, target = draw(_INWARDS)
    place = draw(_PLACE)
    slides = operand == "input" and draw(st.booleans())
    restores = operand == "output" and draw(st.booleans())
    return Load(operand, source, target, *place, slides, restores, draw(_TOKENS), draw(_TOKENS))


@st.composite
def _stores(draw: st.DrawFn) -> Store:
    target, source = draw(_INWARDS)
    return Store(source, target, *draw(_PLACE), draw(_TOKENS), draw(_TOKENS))


_DIM = st.sampled_from(DIMS)
_TRANSFERS = st.one_of(_loads(), _stores(), st.builds(Sync, _TOKENS))
_OF_THE_ARRAY = st.one_of(
    _TRANSFERS,
    st.builds(Compute, _TOKENS),
    st.builds(Spread, st.integers(0, 1), _DIM, _COUNT, _COUNT),
)
_OF_THE_VECTOR_UNIT = st.one_of(_TRANSFERS, st.builds(Apply, st.integers(1, 2), _EXTENTS, _TOKENS))


def _bodies(single: st.SearchStrategy[Instruction]) -> st.SearchStrategy[tuple[Instruction, ...]]:
    def looped(inside: st.SearchStrategy) -> st.SearchStrategy:
        loop = st.builds(Loop, _DIM, _COUNT, _COUNT)
        return st.tuples(inside, loop, inside).map(lambda each: (*each[0], each[1], *each[2], End()))

    return st.recursive(st.lists(single, max_size=3).map(tuple), looped, max_leaves=4)


LAYERS = st.builds(
    Layer,
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.just("conv2d"),
    K=_COUNT,
    P=_COUNT,
    R=_COUNT,
    stride=st.tuples(_COUNT, _COUNT),
    weight_bearing=st.booleans(),
)
SCHEMES = st.sampled_from(("int8", "fp32", "w4a8+2:4", "ternary-a8", "int8+sparse90+dynamic")).map(
    Scheme.parse
)
EPILOGUES: st.SearchStrategy[Epilogue] = st.one_of(
    st.just(Sums()),
    st.just(Rescale()),
    st.builds(
        Requantize,
        _CODE,
        _BOUNDS,
        st.none() | st.builds(Residual, _MULTIPLIER, _CODE),
        st.none() | st.just(8),
    ),
)
_WINDOW = st.tuples(_COUNT, _COUNT)
OPERATORS: st.SearchStrategy[VectorOperator] = st.one_of(
    st.builds(Add, _MULTIPLIER, _CODE, _MULTIPLIER, _CODE, _CODE, _BOUNDS),
    st.builds(MaxPool, _WINDOW, _WINDOW, st.tuples(*[st.integers(0, 3)] * 4)),
    st.builds(AveragePool, _MULTIPLIER, _CODE, _CODE, _WINDOW, _WINDOW),
    st.builds(Recode, _MULTIPLIER, _CODE, _CODE, _BOUNDS),
)
_DIGEST = st.just(digest_of(TOY))
HOMES = st.lists(
    st.builds(
        Home,
        st.sampled_from(("weight", "input", "output")),
        st.integers(1, 2),
        _ADDRESS,
        _COUNT,
        st.none() | _ADDRESS,
    ),
    max_size=3,
    unique_by=lambda home: home.operand,
).map(tuple)
PROGRAMS: st.SearchStrategy[AnyProgram] = st.one_of(
    st.builds(Program, st.just("toy"), _DIGEST, LAYERS, SCHEMES, _bodies(_OF_THE_ARRAY), EPILOGUES, HOMES),
    st.builds(VectorProgram, st.just("toy"), _DIGEST, LAYERS, OPERATORS, _bodies(_OF_THE_VECTOR_UNIT), HOMES),
)
