"""The commands together, and how a mistake ends: one sentence on stderr and exit code 2."""

import signal
import sys
from typing import Any

import typer

from tersor.cli import bench, compress, export, inspect, map, pack, presets, run, sensitivity, simulate, tune
from tersor.error import UserError

# The base of every error in how a command is called; typer keeps the class itself private.
UsageError: Any = typer.BadParameter.__mro__[1]

app = typer.Typer(
    help="Compress neural networks inside Apache TVM, and run them.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("compress")(compress.compress)
app.command("tune")(tune.tune)
app.command("export")(export.export)
app.command("run")(run.run)
app.command("bench")(bench.bench)
app.command("inspect")(inspect.inspect)
app.command("map")(map.map_model)
app.command("simulate")(simulate.simulate)
app.command("pack")(pack.pack)
app.command("unpack")(pack.unpack)
app.command("presets")(presets.presets)
app.command("sensitivity")(sensitivity.sensitivity)


def main() -> None:
    """Run the command line. A mistake of the user exits with 2, Ctrl-C with 130."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(_invoke(sys.argv[1:]))


def _invoke(arguments: list[str]) -> int:
    try:
        return app(arguments, prog_name="tersor", standalone_mode=False) or 0
    except UserError as error:
        return _fail(str(error))
    except UsageError as error:
        message = error.format_message()
        return _fail(message) if message else 2  # without a message the help was printed
    except MemoryError as error:
        return _fail(f"out of memory, give a smaller shape, batch or data: {error}")
    except (KeyboardInterrupt, typer.Abort):
        return 130


def _fail(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _terminate(number: int, _frame: object) -> None:
    # As an exception, so that what was half written is removed.
    raise SystemExit(128 + number)
