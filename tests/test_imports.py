"""Who may import whom: nouns, ir, passes or targets, scheduler, verbs; no target a pass, no pass a target."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

NOUNS = {
    "arithmetic",
    "buckets",
    "config",
    "cost",
    "document",
    "error",
    "factor",
    "fallback",
    "formats",
    "gram",
    "hardware",
    "layer",
    "loop_tree",
    "mapping",
    "naming",
    "network",
    "plan",
    "preset",
    "rank_rule",
    "recipe",
    "rule",
    "saliency",
    "scheme",
    "silence",
    "sparsity",
    "statistics",
    "units",
    "weight_format",
}
FOLDERS = ("passes", "targets", "scheduler")
MAY_IMPORT = {
    "nouns": {"nouns"},
    "ir": {"nouns", "ir"},
    "passes": {"nouns", "ir", "passes"},
    "targets": {"nouns", "ir", "targets"},
    "scheduler": {"nouns", "passes", "targets", "scheduler"},
    "verbs": {"nouns", "ir", "passes", "targets", "scheduler", "verbs"},
}
WITHOUT_TVM = {"nouns", "scheduler"}
COMPILERS = {"tvm", "tvm_ffi", "onnx", "torch"}


def part_of(module: str) -> str:
    """The part of the house that a module of tersor stands in."""
    name = module.split(".")[1] if "." in module else ""
    if name in NOUNS:
        return "nouns"
    return name if name in ("ir", *FOLDERS) else "verbs"


def imports(source: str) -> Iterator[str]:
    """What a file imports, wherever in it, as dotted names; relative ones begin with a dot."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            yield from (f"{origin}.{name.name}" for name in node.names) if origin == "tersor" else (origin,)


def violations(module: str, source: str) -> list[str]:
    """The imports in `source`, the text of `module`, that break a rule."""
    part = part_of(module)
    found: list[str] = []
    for name in imports(source):
        package = name.split(".")[0]
        if name.startswith("."):
            found.append(f"{module} imports {name} relatively")
        elif package in FOLDERS:
            found.append(f"{module} imports {name}, which makes a second copy of tersor.{name}")
        elif package == "tersor" and part_of(name) not in MAY_IMPORT[part]:
            found.append(f"{module} ({part}) imports {name} ({part_of(name)})")
        elif package in COMPILERS and part in WITHOUT_TVM:
            found.append(f"{module} ({part}) imports {name}")
    return found


def modules() -> dict[str, Path]:
    """Every module of the project by its dotted name; links are left out, what they lead to is there once."""
    folders = {"tersor": ROOT / "tersor"} | {f"tersor.{name}": ROOT / name for name in FOLDERS}
    found: dict[str, Path] = {}
    for package, folder in folders.items():
        for path in sorted(folder.rglob("*.py")):
            inside = path.relative_to(folder)
            if package == "tersor" and inside.parts[0] in FOLDERS:
                continue
            found[".".join([package, *inside.with_suffix("").parts]).removesuffix(".__init__")] = path
    return found


def test_every_module_imports_only_what_it_may() -> None:
    assert [line for name, path in modules().items() for line in violations(name, path.read_text())] == []


def test_the_scheduler_uses_only_the_numpy_halves_of_passes_and_targets() -> None:
    known = modules()
    used = {
        name
        for module, path in known.items()
        if part_of(module) == "scheduler"
        for name in imports(path.read_text())
        if name.startswith(("tersor.passes.", "tersor.targets."))
    }
    assert used
    for name in sorted(used):
        assert not {other.split(".")[0] for other in imports(known[name].read_text())} & COMPILERS, name


ANALYTIC = ("bits", "counts", "density", "energy", "imbalance", "latency", "legality", "mapper", "model",
            "nest", "schedule", "stepping", "tiles", "traffic", "volumes", "windows")  # fmt: skip


def test_the_simulator_and_the_analytic_model_of_an_accelerator_share_nothing() -> None:
    """Their agreement is worth something only so."""
    home = "tersor.targets.accelerator"
    for module, path in modules().items():
        part = module.removeprefix(f"{home}.").split(".")[0] if module.startswith(f"{home}.") else ""
        others = ANALYTIC if part == "simulator" else ("simulator",) if part in ANALYTIC else ()
        for name in imports(path.read_text()):
            assert not name.startswith(tuple(f"{home}.{other}" for other in others)), f"{module}: {name}"


def test_every_noun_is_there() -> None:
    assert {f"tersor.{name}" for name in NOUNS} <= modules().keys()


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tersor.layer", "import tvm"),
        ("tersor.layer", "from tvm import relax"),
        ("tersor.plan", "from tersor.scheduler.search import choose"),
        ("tersor.plan", "from tersor import cli"),
        ("tersor.ir.graph", "from tersor.passes.extract import extract"),
        ("tersor.passes.prune", "from tersor.targets.cpu.host.isa import Isa"),
        ("tersor.targets.cpu.lower", "def late():\n    from tersor.passes.extract import extract"),
        ("tersor.targets.cpu.lower", "import tersor.passes.extract"),
        ("tersor.scheduler.search", "import tersor.compiler"),
        ("tersor.scheduler.search", "import tvm"),
        ("tersor.compiler", "import passes"),
        ("tersor.compiler", "from passes.extract import extract"),
        ("tersor.compiler", "from .layer import Layer"),
    ],
)
def test_the_rule_finds_what_breaks_it(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tersor.plan", "from tersor.scheme import Scheme\nimport numpy"),
        ("tersor.passes.prune", "import tvm\nfrom tersor.ir.graph import Graph"),
        ("tersor.scheduler.search", "from tersor.targets.accelerator.roofline import estimate"),
        ("tersor.compiler", "import tvm\nfrom tersor.passes.prune import Prune\nfrom tersor import layer"),
    ],
)
def test_the_rule_lets_through_what_keeps_it(module: str, source: str) -> None:
    assert violations(module, source) == []
