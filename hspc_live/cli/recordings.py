"""inspect: what a recording holds; recover: a whole file out of what a crash left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hspc_live.cli.options import Fps, Json, UmPerPx
from hspc_live.cli.output import emit, latency_rows, screen
from hspc_live.cli.tables import counted, facts, ledgers, plain, yes_no
from hspc_live.core.errors import DataLoss
from hspc_live.recording.inspect import summarise
from hspc_live.recording.rescue import rescue

KINDS = {
    "hspc": "HSPC Live, a flow",
    "chamber": "HSPC Live, a chamber",
    "rtdc": "RT-DC, not recorded by HSPC Live",
}


def inspect(
    recording: Annotated[Path, typer.Argument(help="A recording of HSPC Live, flow or chamber, or any RT-DC file.")],
    um_per_px: UmPerPx = None,
    fps: Fps = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Trust the file's structure instead of reading every picture once.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what a recording holds: pictures, cells, ledgers, versions, and what of it cannot be read."""
    summary = summarise(recording, um_per_px=um_per_px, frames_per_s=fps, check=not quick)
    if as_json:
        emit(summary)
    else:
        screen.print(facts(_rows(summary, quick)))
        if summary.get("ledger"):
            screen.print(ledgers(summary["ledger"], "Ledgers"))
    if summary["loss"]:
        raise DataLoss(f"{recording}: {summary['loss']}")


def recover(
    recording: Annotated[Path, typer.Argument(help="A recording of a flow that a crash or a full disk has left.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="New file. Default: beside the recording, NAME_recovered."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Save every acknowledged row of a recording that was not closed into a new file that other programs open, too."""
    target = out if out is not None else recording.with_name(f"{recording.stem}_recovered{recording.suffix}")
    saved = rescue(recording, target)
    result = {"recording": str(recording), "recovered": str(saved.path)}
    if as_json:
        emit({**result, "rows": saved.rows, "unreadable": saved.unreadable})
    else:
        rows = [("frames", saved.rows.get("frames", 0)), ("objects seen in them", saved.rows.get("views", 0))]
        rows += [(f"cannot be read: {plain(name)}", count) for name, count in saved.unreadable.items()]
        screen.print(facts([("file", str(saved.path)), *((name, str(count)) for name, count in rows)]))
    if saved.unreadable:
        lost = counted({plain(name): count for name, count in saved.unreadable.items()})
        raise DataLoss(f"{recording}: rows that cannot be read: {lost}; the rest is in {saved.path}")


def _rows(found: Mapping[str, Any], quick: bool) -> Iterator[tuple[str, str]]:
    """What is found, in words."""
    chamber = found["kind"] == "chamber"
    yield "file", found["path"]
    yield "made by", KINDS[found["kind"]]
    if chamber:
        visits = ", ".join(f"{count} for {plain(phase)}" for phase, count in found["fields"].items() if count)
        yield "fields", f"{visits or 'none'}; {found['planned']} were planned"
        yield "pictures", _readable(found["pictures"], found["readable_pictures"])
    else:
        yield "frames", _readable(found["frames"], found["readable_frames"])
        yield "objects seen in them", str(found["events"])
    if found["duration_s"] is not None:
        yield "time", f"{found['duration_s']:.4g} s"
    rate = "" if chamber else f", {found['frames_per_s']:.4g} frames a second"
    yield (
        "each picture",
        f"{found['width_px']} × {found['height_px']} pixels of {found['um_per_px']:.4g} µm, "
        f"{found['dtype']}, {found['modality']}{rate}",
    )
    if found["kind"] != "rtdc":
        yield "closed", yes_no(found["closed"]) + ("" if found["closed"] else ": its run crashed, or is still going on")
        yield "replays exactly", yes_no(found["exact"])
        yield "run", f"{found['run_id']}, begun {found['started']}"
        yield "classes", ", ".join(found["classes"])
        yield from _outcome(found)
        yield "pipeline", f"{found['pipeline_id'][:16]}…"
        yield "versions", ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    yield from found.get("attributes", {}).items()
    yield from (("note", warning) for warning in found["warnings"])
    yield "cannot be read", found["loss"] or ("nothing, as the file's structure shows" if quick else "nothing: all can")


def _readable(held: int, readable: int) -> str:
    return str(held) if held == readable else f"{held}, of which {readable} can be read"


def _outcome(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """How the run ended, as far as it came to that."""
    yield "cells", counted(found["cells"]) or "none"
    if "revisited" in found:
        again = found["revisited"]
        if again["found"] or again["lost"]:
            lost = counted(again["lost"])
            yield "second visit", f"{again['found']} cells found again; lost: {lost or 'none'}"
    else:
        answered = f"{found['commands']}, {found['receipts']} of them answered by the sorter"
        yield "commands", answered if found["commands"] else "none"
    for note in found["notes"]:
        yield "said during the run", f"{plain(note['kind'])}: {note['detail']}"
    summary = found["summary"] or {}
    if "latency_ms" in summary:
        yield from latency_rows({"from": summary["latency_from"], **summary["latency_ms"]})
    if "decisions_sha256" in summary:
        yield "decisions", f"{summary['decisions_sha256'][:16]}…"
