"""What a recording holds, in plain data: the answer of `hspc-live inspect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from hspc_live.recording.reader import Recording, open_recording


def summarise(
    path: str | Path, *, um_per_px: float | None = None, frames_per_s: float | None = None, check: bool = True
) -> dict[str, Any]:
    """Kind, sizes, times, classes, hashes, warnings and loss of a recording, ready for JSON.

    `check` reads every picture once, so that `loss` is complete; else only what the file's structure shows is said.
    Raises RecordingError as `open_recording` does.
    """
    with open_recording(path, um_per_px=um_per_px, frames_per_s=frames_per_s) as recording:
        last_ns = 0
        readable = recording.n_frames
        if check and recording.has_frames:
            readable = 0
            for frame in recording.frames():
                readable, last_ns = readable + 1, max(last_ns, frame.captured_ns)
        else:
            last_ns = recording.span_ns
        info = recording.info
        result: dict[str, Any] = {
            "path": str(path),
            "kind": recording.kind,
            "frames": recording.n_frames,
            "readable_frames": readable,
            "events": recording.n_events,
            "duration_s": last_ns / 1e9,
            "height_px": info.height_px,
            "width_px": info.width_px,
            "dtype": info.dtype,
            "um_per_px": info.um_per_px,
            "frames_per_s": info.frames_per_s,
            "modality": info.modality.value,
            "exact": recording.exact,
            "closed": recording.closed,
            "loss": recording.loss,
            "warnings": recording.warnings,
        }
        return result | (_ours(recording) if recording.kind == "hspc" else _rtdc(recording))


def _ours(recording: Recording) -> dict[str, Any]:
    attributes = recording.attributes
    ledger = recording.lines("ledger")
    cells = recording.table("cells")
    outcomes: dict[str, int] = {}
    if cells is not None:
        names, counts = np.unique(cells["outcome"], return_counts=True)
        outcomes = {name.decode(): int(count) for name, count in zip(names, counts, strict=True)}
    return {
        "run_id": attributes["run_id"],
        "started": attributes["started"],
        "classes": list(recording.classes),
        "scores": recording.score_features,
        "pipeline_id": attributes["pipeline_id"],
        "versions": json.loads(attributes["versions"]),
        "cells": outcomes,
        "commands": _length(recording, "commands"),
        "receipts": _length(recording, "receipts"),
        "notes": recording.lines("notes"),
        "ledger": (ledger[-1] if ledger else None)
        if recording.closed
        else crashed_books(ledger[-1] if ledger else None, recording.n_frames),
        "summary": recording.summary,
    }


def crashed_books(last: dict[str, Any] | None, frames_recorded: int) -> dict[str, Any]:
    """The ledgers of a run that did not close its own: what was under way is lost{crash} or unresolved{crash}.

    `last` are the running ledgers of the last flush; frames recorded since then were captured and never decided on.
    """
    books: dict[str, Any] = {
        "frames": {"captured": 0, "processed": 0, "dropped": {}, "lost": {}},
        "cells": {"tracked": 0, "sorted": 0, "passed": 0, "abstained": 0, "aborted": {}, "unresolved": {}},
        **(last or {}),
    }
    frames, cells = dict(books["frames"]), dict(books["cells"])
    frames["captured"] = max(frames["captured"], frames_recorded)
    booked = frames["processed"] + sum(frames["dropped"].values()) + sum(frames["lost"].values())
    ended = cells["sorted"] + cells["passed"] + cells["abstained"] + sum(cells["aborted"].values())
    ended += sum(cells["unresolved"].values())
    frames["lost"] = _with_crash(frames["lost"], frames["captured"] - booked)
    cells["unresolved"] = _with_crash(cells["unresolved"], cells["tracked"] - ended)
    return {**books, "frames": frames, "cells": cells}


def _with_crash(reasons: dict[str, int], count: int) -> dict[str, int]:
    return {**reasons, "crash": count} if count > 0 else reasons


def _rtdc(recording: Recording) -> dict[str, Any]:
    wanted = ("experiment:date", "experiment:time", "experiment:sample", "setup:software version")
    attributes = recording.attributes
    return {"classes": [], "attributes": {name: str(attributes[name]) for name in wanted if name in attributes}}


def _length(recording: Recording, name: str) -> int:
    table = recording.table(name)
    return 0 if table is None else len(table)
