"""control: arm, disarm, change the gates of, end or stop a run under way, from another terminal of the same machine."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from hspc_live.cli.options import Json
from hspc_live.cli.output import emit, progress
from hspc_live.core import errors
from hspc_live.core.errors import HspcError, SettingsError, WireError
from hspc_live.processes.ask import ask
from hspc_live.settings.load import load_outlets
from hspc_live.wire.address import running
from hspc_live.wire.messages import ArmNow, AskStatus, DisarmNow, EndRun, SetGates, StopNow

app = typer.Typer(
    help="Arm, disarm, change the gates of, end or stop a run under way on this machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
At = Annotated[
    str | None, typer.Option("--at", metavar="ADDRESS", help="Control socket, as the run prints it. Default: the one.")
]


@app.command()
def arm(at: At = None, as_json: Json = False) -> None:
    """Arm the sorter once the self-test passes; refused with every reason if it does not within 10 s."""
    _tell(at, ArmNow(_me()), as_json)


@app.command()
def disarm(at: At = None, as_json: Json = False) -> None:
    """Disarm: the sorter's queue is emptied, cells are still recognised and recorded."""
    _tell(at, DisarmNow(f"disarmed by {_me()}"), as_json)


@app.command()
def gates(
    file: Annotated[Path, typer.Argument(help="YAML with `outlets: [...]`, or a whole settings file.")],
    at: At = None,
    as_json: Json = False,
) -> None:
    """Put other gates in force from the next frame on, as a new numbered revision that the recording keeps."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: cannot be read: {error}") from error
    outlets = load_outlets(text, str(file))
    wanted = json.dumps({"outlets": [outlet.model_dump(mode="json") for outlet in outlets]})
    _tell(at, SetGates(wanted, _me()), as_json)


@app.command()
def status(at: At = None, as_json: Json = False) -> None:
    """Whether it is armed, which alarms stand, the gates' revision, and the ledgers as they are."""
    _tell(at, AskStatus(), as_json)


@app.command()
def end(at: At = None, as_json: Json = False) -> None:
    """End the run in good order: disarm, let what is under way come to its end, close the recording."""
    _tell(at, EndRun(_me()), as_json)


@app.command()
def stop(at: At = None, as_json: Json = False) -> None:
    """Emergency: nothing is deflected any more. The sort process is killed; what was under way is given up."""
    _tell(at, StopNow(_me()), as_json)


def _me() -> str:
    return f"{getpass.getuser()} (control)"


def _tell(at: str | None, wish: Struct, as_json: bool) -> None:
    """Ask, print the answer; a refusal ends with the error's exit code."""
    answer = ask(at if at is not None else _the_run(), wish)
    if not answer.done:
        kind = getattr(errors, answer.error, HspcError)
        raise kind(answer.text)
    detail = json.loads(answer.detail)
    if as_json:
        emit({"answer": answer.text, **detail})
    else:
        progress.print(answer.text, markup=False)
        for name, value in detail.items():
            progress.print(f"  {name}: {json.dumps(value)}", markup=False)


def _the_run() -> str:
    """The control socket of the only run of this user."""
    found = running()
    if len(found) == 1:
        return found[0]
    if not found:
        raise WireError("no run is under way on this machine (or name its control socket with --at)")
    raise WireError("several runs are under way; name one with --at: " + ", ".join(found))
