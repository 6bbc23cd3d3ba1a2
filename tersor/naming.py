"""Naming: names that nothing else has."""

from collections.abc import Container


def unused_name(name: str, taken: Container[str]) -> str:
    """Give the name if it is not taken, else the first free one of `name.1`, `name.2`, ..."""
    unique, n = name, 0
    while unique in taken:
        n += 1
        unique = f"{name}.{n}"
    return unique
