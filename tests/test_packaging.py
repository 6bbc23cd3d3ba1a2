"""What an installed tersor consists of."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("passes", "targets", "scheduler")
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def packages() -> dict[str, Path]:
    """Every package by its dotted name; links are left out, what they lead to is there once."""
    folders = {"tersor": ROOT / "tersor"} | {f"tersor.{name}": ROOT / name for name in FOLDERS}
    found: dict[str, Path] = {}
    for package, top in folders.items():
        for path in sorted(top.rglob("__init__.py")):
            inside = path.parent.relative_to(top).parts
            if not (package == "tersor" and inside[:1] in [(name,) for name in FOLDERS]):
                found[".".join([package, *inside])] = path.parent
    return found


def test_every_package_is_installed() -> None:
    assert sorted(SETUPTOOLS["packages"]) == sorted(packages())


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_at_the_top_is_found_by_its_link(name: str) -> None:
    link = ROOT / "tersor" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name
    assert SETUPTOOLS["package-dir"][f"tersor.{name}"] == name


def test_every_folder_with_python_in_it_is_a_package() -> None:
    for top in ("tersor", *FOLDERS):
        for path in (ROOT / top).rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), path.parent.relative_to(ROOT)


def test_no_package_gives_a_name_of_its_modules_to_something_else() -> None:
    """`from tersor.x.y import y` in the `__init__` of `tersor.x` would hide the module `tersor.x.y`."""
    for package, folder in packages().items():
        tree = ast.parse((folder / "__init__.py").read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                taken = {name.asname or name.name for name in node.names if node.module != package}
                hidden = taken & {path.stem for path in folder.glob("*.py")}
                assert not hidden, f"{package} hides its module {hidden}"


def test_machines_are_installed_with_the_package() -> None:
    patterns = SETUPTOOLS["package-data"]["tersor.targets.machines"]
    machines = ROOT / "targets" / "machines"
    unpacked = {path for pattern in patterns for path in machines.glob(pattern)}
    assert unpacked >= {path for path in machines.iterdir() if path.suffix not in ("", ".py")}
