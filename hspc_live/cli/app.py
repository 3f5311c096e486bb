"""The command tree and what happens to errors: a clear line on stderr, the error's exit code, never a traceback.

Exit codes: 0 done; 1 unexpected; 2 settings or usage; 3 recording; 4 output; 5 model; 6 device; 7 wire; 8 arming; 9 a
ledger out of balance; 10 part of the input was unreadable (the rest was done); 130 interrupted or stopped; 141 whoever
read stdout went away.
"""

from __future__ import annotations

import importlib
import sys

import typer

from hspc_live.cli import output
from hspc_live.cli.output import progress
from hspc_live.core.errors import HspcError, SettingsError

UsageError: type[typer.BadParameter] = typer.BadParameter.__base__  # type: ignore[assignment]  # typer names no other

COMMANDS = {
    "demo": "runs",
    "run": "runs",
    "focus": "focus",
    "scan": "scan",
    "replay": "runs",
    "view": "view",
    "inspect": "recordings",
    "recover": "recordings",
    "segment": "stills",
    "sizes": "sizes",
    "train": "train",
    "learning-curve": "learning_curve",
    "predict": "predict",
    "explain": "explain",
    "evaluate": "evaluate",
    "check": "machine",
    "schema": "machine",
    "doctor": "machine",
    "worker": "machine",
    "keygen": "keygen",
    "calibrate-delay": "calibrate",
    "calibrate-stage": "calibrate_stage",
}
"""Command → its module in `hspc_live.cli`, which has a function of that name."""

GROUPS = ("bench", "engine", "dataset", "control")
"""Commands that have commands of their own, each with a module that has them as `app`."""


def tree(typed: str | None = None) -> typer.Typer:
    """All commands; or only `typed`, if there is such a one: what the others are made of takes seconds to import."""
    app = typer.Typer(
        name="hspc-live",
        help="Recognise living blood stem cells by how they look, and sort them while they flow past.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_group)  # without it typer would take a single command for the whole program
    known = typed in COMMANDS or typed in GROUPS
    for name, module in COMMANDS.items():
        if name == typed or not known:
            app.command(name)(getattr(importlib.import_module(f"hspc_live.cli.{module}"), name.replace("-", "_")))
    for name in GROUPS:
        if name == typed or not known:
            app.add_typer(importlib.import_module(f"hspc_live.cli.{name}").app, name=name)
    return app


def _group() -> None:
    """Recognise living blood stem cells by how they look, and sort them while they flow past."""


def main() -> None:
    """Run the command that was typed, and end with its exit code."""
    output.emitted = False
    try:
        if "" in sys.argv[1:]:  # taken for a path, it would be the present folder
            raise SettingsError("an argument is empty: a variable of the shell that is not set?")
        tree(next(iter(sys.argv[1:]), None))()
    except HspcError as error:
        progress.print(f"error: {error}", style="bold red", markup=False)
        if "--json" in sys.argv and not output.emitted:  # whoever reads stdout gets an object, come what may
            output.emit(output.error_json(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        progress.print("interrupted", style="bold red")
        sys.exit(130)
    except SystemExit as ended:
        cause = ended.__context__  # typer makes a quiet exit code 1 of every broken pipe, those inside a run, too
        if isinstance(cause, UsageError) and "--json" in sys.argv and not output.emitted:
            output.emit(output.error_json(SettingsError(cause.format_message())))
        if not isinstance(cause, BrokenPipeError) or ended.code == output.UNREAD:
            raise
        if not output.reader_gone():
            raise cause from None
        output.unread()
