"""control: arm, disarm, change the gates of, end or stop a run under way, from another terminal of the same machine."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import Struct

from hspc_live.cli.options import Json, address
from hspc_live.cli.output import emit, screen
from hspc_live.cli.tables import facts, ledgers, plain, yes_no
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
    str | None,
    typer.Option(
        "--at", metavar="ADDRESS", help="Which run, by the control address that it prints. Default: the only one."
    ),
]


@app.command()
def arm(at: At = None, as_json: Json = False) -> None:
    """Let the sorter deflect cells once the self-test passes; if it does not within 10 s, refused with every reason."""
    _tell(at, ArmNow(_me()), as_json)


@app.command()
def disarm(at: At = None, as_json: Json = False) -> None:
    """Deflect nothing any more: the sorter's queue is emptied; cells are still recognised and recorded."""
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
        why = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"{file}: cannot be read: {why}") from error
    outlets = load_outlets(text, str(file))
    wanted = json.dumps({"outlets": [outlet.model_dump(mode="json") for outlet in outlets]})
    _tell(at, SetGates(wanted, _me()), as_json)


@app.command()
def status(at: At = None, as_json: Json = False) -> None:
    """Say whether the run is armed, which alarms stand, which gates are in force, and the ledgers as they stand."""
    _tell(at, AskStatus(), as_json)


@app.command()
def end(at: At = None, as_json: Json = False) -> None:
    """End the run in good order: disarm, let what is under way finish, close the recording."""
    _tell(at, EndRun(_me()), as_json)


@app.command()
def stop(at: At = None, as_json: Json = False) -> None:
    """Stop in an emergency: the sort process is killed and deflects nothing more; what was under way is given up."""
    _tell(at, StopNow(_me()), as_json)


def _me() -> str:
    return f"{getpass.getuser()} (control)"


def _tell(at: str | None, wish: Struct, as_json: bool) -> None:
    """Ask, print the answer; a refusal ends with the error's exit code."""
    answer = ask(address(at, "--at") if at is not None else _the_run(), wish)
    if not answer.done:
        kind = getattr(errors, answer.error, HspcError)
        raise kind(answer.text)
    detail = json.loads(answer.detail)
    if as_json:
        emit({"answer": answer.text, **detail})
        return
    screen.print(answer.text, markup=False)
    if detail:
        screen.print(facts(_standing(detail)))
        screen.print(ledgers(detail, "Ledgers, as they stand"))


def _standing(detail: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What a run says of itself, in words."""
    if detail.get("mode") == "chamber":
        fields, ending = detail["fields"], detail["ending"]
        yield "chamber", detail["doing"] + (f"; ending, by {ending}" if ending else "")
        yield "fields", f"{fields['visited']} visited, {fields['planned']} planned for the scan"
        return
    waits = "; waits for the self-test to arm" if detail["waits_to_arm"] else ""
    yield "armed", yes_no(detail["armed"]) + waits
    yield "alarms", "; ".join(f"{plain(name)}: {why}" for name, why in detail["alarms"].items()) or "none"
    revision = detail["gate_revision"]
    yield "gates in force", f"revision {revision}, set during the run" if revision else "those of the settings"
    yield "cells by class", ", ".join(f"{name} {count}" for name, count in detail["classes"].items()) or "none yet"


def _the_run() -> str:
    """The control socket of the only run of this user."""
    found = running()
    if len(found) == 1:
        return found[0]
    if not found:
        raise WireError("no run is under way on this machine (or name its control socket with --at)")
    raise WireError("several runs are under way; name one with --at: " + ", ".join(found))
