from hypothesis import given
from hypothesis import strategies as st

from tersor.naming import unused_name

NAMES = st.sampled_from(["w", "w.1", "w.2", "w.1.1", "b"])


def test_the_first_free_number_is_appended() -> None:
    assert unused_name("w", {"b"}) == "w"
    assert unused_name("w", {"w", "w.1", "w.3"}) == "w.2"


@given(NAMES, st.sets(NAMES))
def test_a_name_is_never_one_that_is_taken(name: str, taken: set[str]) -> None:
    assert unused_name(name, taken) not in taken
    assert unused_name(name, taken).startswith(name)
