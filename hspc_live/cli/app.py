"""The command tree and what happens to errors: a clear line on stderr, the error's exit code, never a traceback.

Exit codes: 0 done; 1 unexpected; 2 settings or usage; 3 recording; 4 output; 5 model; 6 device; 7 wire; 8 arming; 9 a
ledger out of balance; 10 part of the input was unreadable (the rest was done); 130 interrupted or stopped; 141 whoever
read stdout went away.
"""

from __future__ import annotations

import sys

import typer

from hspc_live.cli import (
    bench,
    calibrate,
    calibrate_stage,
    control,
    dataset,
    engine,
    evaluate,
    explain,
    focus,
    keygen,
    learning_curve,
    machine,
    output,
    predict,
    recordings,
    runs,
    scan,
    sizes,
    stills,
    train,
    view,
)
from hspc_live.cli.output import progress
from hspc_live.core.errors import HspcError, SettingsError

UsageError: type[typer.BadParameter] = typer.BadParameter.__base__  # type: ignore[assignment]  # typer names no other

app = typer.Typer(
    name="hspc-live",
    help="Recognise living blood stem cells by how they look, and sort them while they flow past.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(runs.demo)
app.command()(runs.run)
app.command()(focus.focus)
app.command()(scan.scan)
app.command()(runs.replay)
app.command()(view.view)
app.command()(recordings.inspect)
app.command()(recordings.recover)
app.command()(stills.segment)
app.command()(sizes.sizes)
app.command()(train.train)
app.command("learning-curve")(learning_curve.learning_curve)
app.command()(predict.predict)
app.command()(explain.explain)
app.command()(evaluate.evaluate)
app.command()(machine.check)
app.command()(machine.schema)
app.command()(machine.doctor)
app.command()(machine.worker)
app.command()(keygen.keygen)
app.command("calibrate-delay")(calibrate.calibrate_delay)
app.command("calibrate-stage")(calibrate_stage.calibrate_stage)
app.add_typer(bench.app, name="bench")
app.add_typer(engine.app, name="engine")
app.add_typer(dataset.app, name="dataset")
app.add_typer(control.app, name="control")


def main() -> None:
    """Run the command that was typed, and end with its exit code."""
    output.emitted = False
    try:
        if "" in sys.argv[1:]:  # taken for a path, it would be the present folder
            raise SettingsError("an argument is empty: a variable of the shell that is not set?")
        app()
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
