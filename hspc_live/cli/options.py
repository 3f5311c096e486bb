"""Options that several commands share."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import typer
import yaml

from hspc_live.core.errors import SettingsError
from hspc_live.settings.fault_checks import load_faults
from hspc_live.settings.faults import FaultPlan

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on stdout, instead of tables.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Another value for one setting, e.g. sort.close.views=2; may be given several times.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FOLDER",
        help="New or empty folder for the results: recording, JSON, pictures. Without it they are only printed.",
    ),
]
Faults = Annotated[
    Path | None,
    typer.Option(
        "--faults",
        metavar="FILE",
        help="Fault plan: what shall go wrong on purpose, and when. For trials, not for cells.",
    ),
]
UmPerPx = Annotated[
    float | None,
    typer.Option(min=1e-3, metavar="UM", help="µm per pixel, where the file does not say it or is wrong."),
]
Fps = Annotated[
    float | None,
    typer.Option(min=1e-3, metavar="RATE", help="Frames per second, where the file does not say it or is wrong."),
]

Affine = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Chamber: camera against stage, in the file that `calibrate-stage` wrote."),
]

Revisit = Annotated[bool, typer.Option("--revisit", help="Chamber: after the scan go back to every listed cell.")]
Stay = Annotated[
    bool,
    typer.Option("--stay", help="Chamber: keep the stage afterwards, to be driven from the screen, until Ctrl-C."),
]


def address(text: str, name: str) -> str:
    """A run's control address as typed for `name`. Raises SettingsError for what can be none."""
    if not text.startswith(("ipc:///", "tcp://127.")):
        raise SettingsError(
            f"{name} {text}: this is no control address; `run` and `demo` print theirs on stderr, e.g. "
            "ipc:///tmp/hspc-xyz/control.sock"
        )
    return text


def fault_plan(path: Path | None) -> FaultPlan | None:
    """The plan in a file, if one is given. Raises SettingsError."""
    return None if path is None else load_faults(path)


def calibrated(delay: Path | None) -> list[str]:
    """Overrides from a file that `calibrate-delay` wrote. Raises SettingsError if it is no such file."""
    if delay is None:
        return []
    try:
        timing = yaml.safe_load(delay.read_text(encoding="utf-8"))["sort"]["timing"]
        return [f"sort.timing.{key}={value}" for key, value in timing.items() if key.startswith("sort_delay")]
    except OSError as error:
        raise SettingsError(f"{delay}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"{delay}: not a sort delay; make one with `hspc-live calibrate-delay`") from error


def mounted(affine: Path | None) -> list[str]:
    """Overrides from a file that `calibrate-stage` wrote. Raises SettingsError if it is no such file."""
    if affine is None:
        return []
    try:
        given = yaml.safe_load(affine.read_text(encoding="utf-8"))["calibration"]
        if given["kind"] != "given":
            raise KeyError("given")
        return [f"calibration={json.dumps(given)}"]
    except OSError as error:
        raise SettingsError(f"{affine}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise SettingsError(
            f"{affine}: says nothing of camera against stage; make one with `hspc-live calibrate-stage`"
        ) from error


def numbers(text: str, names: str, option: str) -> tuple[float, ...]:
    """`10,-20` as numbers, as many as `names` has (`X,Y`). Raises SettingsError, with `option`, for anything else."""
    wanted = len(names.split(","))
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if len(found) != wanted or not all(map(math.isfinite, found)):
        raise SettingsError(f"{option} {text}: say {names} in µm, e.g. {option} {','.join(['100'] * wanted)}")
    return found


def seconds(text: str | None) -> float | None:
    """`30`, `30s`, `5min`, `1h` as seconds. Raises SettingsError."""
    if text is None:
        return None
    units = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text.strip()[len(number) :] or "s"
    try:
        value = float(number) * units[unit]
    except (ValueError, KeyError):
        raise SettingsError(f"--for: {text!r} is no duration; say 30s, 5min or 1h") from None
    if not value > 0:
        raise SettingsError(f"--for: {text!r} must be longer than nothing")
    return value


def speed(text: str) -> float | None:
    """`max` as None, otherwise a factor of the recorded speed. Raises SettingsError."""
    if text == "max":
        return None
    try:
        value = float(text)
    except ValueError:
        raise SettingsError(f"--speed: {text!r} is neither 'max' nor a number") from None
    if not 0 < value < float("inf"):
        raise SettingsError(f"--speed: {text} must be a positive number")
    return value
