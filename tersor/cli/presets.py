"""tersor presets: the names that `tersor compress --preset` knows, and what they stand for."""

from rich.console import Console
from rich.table import Table

from tersor.config import Config
from tersor.preset import presets as read_presets
from tersor.recipe import Recipe


def presets() -> None:
    """List the presets: schemes and algorithms by name, for `tersor compress --preset NAME`."""
    table = Table("preset", "for")
    for name in ("schemes", "recipe"):
        table.add_column(name, overflow="fold")
    for name, preset in read_presets().items():
        table.add_row(name, preset.about, _schemes(preset.config), _recipe(preset.config.recipe))
    Console(width=None if Console().is_terminal else 120).print(table)


def _schemes(config: Config) -> str:
    return "\n".join([*(f"{rule}: {rule.scheme}" for rule in config.rules), config.scheme])


def _recipe(recipe: Recipe) -> str:
    """Say what differs from the usual recipe."""
    usual = vars(Recipe())
    return ", ".join(f"{name} {value}" for name, value in vars(recipe).items() if value != usual[name])
