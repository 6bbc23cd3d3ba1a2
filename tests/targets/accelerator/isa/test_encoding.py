"""A program's bytes say everything, and whatever is not whole is refused in one sentence."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tersor.error import UserError
from tersor.layer import Layer
from tersor.scheme import Scheme
from tersor.targets.accelerator.isa.encoding import decode, encode
from tersor.targets.accelerator.isa.instruction import Compute, End, Loop
from tersor.targets.accelerator.isa.program import AnyProgram, Program, digest_of
from tests.targets.accelerator.isa.machines import TOY
from tests.targets.accelerator.isa.programs import PROGRAMS
from tests.targets.accelerator.lowering.cases import lowered_case

LAYER = Layer("fc", "matmul", K=4)
SMALL = Program("toy", digest_of(TOY), LAYER, Scheme.parse("int8"), (Loop("K", 4, 1), Compute(), End()))
SETTINGS = settings(suppress_health_check=[HealthCheck.too_slow])


@given(PROGRAMS)
@SETTINGS
def test_bytes_read_back(program: AnyProgram) -> None:
    assert decode(encode(program), TOY) == program


def test_equal_programs_have_equal_bytes() -> None:
    for seed in range(20):
        case, program = lowered_case(seed)
        data = encode(program)
        assert data == encode(decode(data, case.hardware))


@given(PROGRAMS, st.data())
@SETTINGS
def test_every_flipped_bit_is_found(program: AnyProgram, data: st.DataObject) -> None:
    whole = encode(program)
    place = data.draw(st.integers(0, 8 * len(whole) - 1))
    broken = bytearray(whole)
    broken[place // 8] ^= 1 << place % 8
    with pytest.raises(UserError):
        decode(bytes(broken), TOY)


def test_every_other_byte_anywhere_in_a_small_program_is_found() -> None:
    whole = encode(SMALL)
    for place in range(len(whole)):
        for other in {0, 1, 255, whole[place] ^ 128} - {whole[place]}:
            with pytest.raises(UserError):
                decode(whole[:place] + bytes([other]) + whole[place + 1 :], TOY)


def test_every_shorter_or_longer_program_is_refused() -> None:
    whole = encode(SMALL)
    for length in range(len(whole)):
        with pytest.raises(UserError):
            decode(whole[:length], TOY)
    with pytest.raises(UserError, match="damaged, its checksum is wrong"):
        decode(whole + b"\0", TOY)


@given(st.binary(max_size=200))
def test_no_other_bytes_are_a_program(data: bytes) -> None:
    with pytest.raises(UserError, match=r"it is (no accelerator's program: give|truncated: copy)"):
        decode(data, TOY, "it")


def test_a_newer_version_is_refused_whatever_follows() -> None:
    newer = bytearray(encode(SMALL))
    newer[8] += 1
    with pytest.raises(UserError, match=r"it is of version 3, this tersor runs 2: compile .* newer tersor$"):
        decode(bytes(newer), TOY, "it")


def test_a_truncated_program_says_how_much_is_missing() -> None:
    with pytest.raises(UserError, match="it is truncated, 5 bytes are missing: copy it again"):
        decode(encode(SMALL)[:-5], TOY, "it")


def test_the_program_of_another_machine_is_refused() -> None:
    with pytest.raises(UserError, match="it was made for the machine toy, this is big: compile the model"):
        decode(encode(SMALL), replace(TOY, name="big"), "it")


def test_numbers_that_no_record_holds_are_refused() -> None:
    large = replace(SMALL, instructions=(Loop("K", 1 << 32, 1), End()))
    with pytest.raises(ValueError, match=r"the numbers of Loop\(.*\) are too large for a record"):
        encode(large)


def test_an_instruction_takes_72_bytes() -> None:
    more = replace(SMALL, instructions=(*SMALL.instructions, Compute()))
    assert len(encode(more)) - len(encode(SMALL)) == 72
