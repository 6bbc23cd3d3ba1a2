"""JSON and TOML documents of the nouns: errors are in the user's terms, equal values give equal bytes."""

import contextlib
import json
import os
import tempfile
import tomllib
from functools import cache
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from tersor.error import UserError

Noun = TypeVar("Noun")


def read_json(path: str | Path, noun: type[Noun]) -> Noun:
    """Read `path` as a `noun`. Raises UserError naming the file, the key and what to change."""
    return parse_json(_read_text(path), noun, str(path))


def read_toml(path: str | Path, noun: type[Noun]) -> Noun:
    """Read `path` as a `noun`. Raises UserError naming the file, the key and what to change."""
    try:
        document = tomllib.loads(_read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    # By way of JSON, which has what the nouns have (a TOML date becomes a string and is refused as one).
    return _validate(json.dumps(document, default=str), noun, str(path))


def parse_json(text: str, noun: type[Noun], origin: str) -> Noun:
    """Read `text` as a `noun`; `origin` names it in errors. Raises UserError."""
    try:
        json.loads(text, object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{origin} is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{origin}: {error}") from None
    return _validate(text, noun, origin)


def to_json(value: object, noun: type) -> str:
    """`value` as JSON text: sorted keys, two spaces, a newline at the end."""
    plain = _adapter(noun).dump_python(value, mode="json")
    return json.dumps(plain, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: str | Path, value: object, noun: type) -> None:
    """Write `value` to `path`, or leave what is there as it was. Raises UserError if it cannot be written."""
    target = Path(path)
    data = to_json(value, noun).encode()
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o644)
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None


@cache
def _adapter(noun: type[Noun]) -> TypeAdapter[Noun]:
    """Pydantic's reader and writer of a noun, which takes milliseconds to make."""
    return TypeAdapter(noun)


def _read_text(path: str | Path) -> str:
    try:
        return Path(path).read_bytes().decode()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file; give one in UTF-8") from None


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document: dict[str, object] = {}
    for key, value in pairs:
        if key in document:
            raise ValueError(f"the key {key!r} is written twice in one object; remove one")
        document[key] = value
    return document


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number; write a finite one")


def _validate(text: str, noun: type[Noun], origin: str) -> Noun:
    try:
        return _adapter(noun).validate_json(text, strict=True)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
        more = f" (and {len(others)} more)" if others else ""
        raise UserError(f"{origin}: {_sentence(first)}{more}") from None


def _sentence(error: ErrorDetails) -> str:
    """One error of pydantic in words: the key's path, what is wrong, what was found."""
    key = ".".join(str(part) for part in error["loc"]) or "the document"
    match error["type"]:
        case "unexpected_keyword_argument" | "extra_forbidden":
            return f"{key} is an unknown key; remove it or correct its name"
        case "missing":
            return f"{key} is missing; add it"
        case "value_error" | "assertion_error":
            return f"{key}: {error['msg'].partition(', ')[2]}"
        case _:
            wanted = error["msg"].removeprefix("Input should be ")
            return f"{key} must be {wanted}, got {error['input']!r}"
