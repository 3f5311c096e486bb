"""What a recording holds, in plain data: the answer of `hspc-live inspect`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from hspc_live.core.chamber import ChamberOutcome, Phase
from hspc_live.core.errors import RecordingError
from hspc_live.recording.chamber_reader import ChamberRecording, open_chamber
from hspc_live.recording.own_file import is_chamber
from hspc_live.recording.reader import Recording, open_recording


def summarise(
    path: str | Path, *, um_per_px: float | None = None, frames_per_s: float | None = None, check: bool = True
) -> dict[str, Any]:
    """Kind, sizes, times, classes, hashes, warnings and loss of a recording, ready for JSON.

    `check` reads every picture once, so that `loss` is complete; else only what the file's structure shows is said.
    Raises RecordingError as `open_recording` does, and for a scale or rate given for a chamber recording.
    """
    if is_chamber(path):
        if um_per_px is not None or frames_per_s is not None:
            raise RecordingError(
                f"{path} is the recording of a chamber: its scale is that of its affine, and it has no frame rate; "
                "leave out --um-per-px and --fps"
            )
        with open_chamber(path) as chamber:
            return _chamber(path, chamber, check)
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
        if recording.closed and recording.loss is None
        else crashed_books(ledger[-1] if ledger else None, recording.n_frames),
        "summary": recording.summary,
    }


def _chamber(path: str | Path, recording: ChamberRecording, check: bool) -> dict[str, Any]:
    facts, attributes = recording.facts, recording.attributes
    readable = recording.n_pictures
    first_ns = last_ns = None
    if check:
        readable = 0
        for visit in recording.visits():
            readable += len(visit.pictures)
            times = [picture.frame.captured_ns for picture in visit.pictures]
            first_ns = min([*times, *([] if first_ns is None else [first_ns])], default=None)
            last_ns = max([*times, *([] if last_ns is None else [last_ns])], default=None)
            recording.objects(visit.number)
    ledger = recording.lines("ledger")
    cells = recording.cells()
    revisited = recording.revisited()
    camera = facts.camera
    return {
        "path": str(path),
        "kind": "chamber",
        "fields": {phase.value: len(recording.numbers(phase)) for phase in Phase},
        "planned": len(facts.plan),
        "pictures": recording.n_pictures,
        "readable_pictures": readable,
        "channels": list(facts.channels),
        "duration_s": None if first_ns is None or last_ns is None else (last_ns - first_ns) / 1e9,
        "height_px": camera.height_px,
        "width_px": camera.width_px,
        "dtype": camera.dtype,
        "um_per_px": camera.um_per_px,
        "affine": facts.affine.tolist(),
        "modality": camera.modality.value,
        "stage": facts.stage.model,
        "exact": recording.exact,
        "closed": recording.closed,
        "run_id": attributes["run_id"],
        "started": attributes["started"],
        "classes": list(recording.classes),
        "pipeline_id": attributes["pipeline_id"],
        "versions": json.loads(attributes["versions"]),
        "cells": dict(Counter(cell.outcome.value for cell in cells)),
        "left_out": dict(Counter(cell.reason for cell in cells if cell.outcome is ChamberOutcome.LEFT_OUT)),
        "revisited": {"found": sum(not cell.lost for cell in revisited)}
        | {"lost": dict(Counter(cell.lost for cell in revisited if cell.lost))},
        "notes": recording.lines("notes"),
        "ledger": ledger[-1] if ledger else crashed_chamber_books(recording),
        "summary": recording.summary,
        "loss": recording.loss,
        "warnings": recording.warnings,
    }


def crashed_chamber_books(recording: ChamberRecording) -> dict[str, Any]:
    """The ledgers of a chamber run that did not close its own, from its rows.

    What was under way is lost{crash} or skipped{crash}; which cells there are is known at the end of a scan only.
    """
    visits, results, objects = (recording.table(name) for name in ("visits", "results/rows", "objects"))
    done = np.isin(visits["visit"], results["visit"])
    blind = visits["pictures"] == 0
    scanned = np.isin(objects["visit"], visits["visit"][visits["phase"] == Phase.SCAN.value.encode()])
    rejected = Counter(reason.decode() for reason in objects["reason"][scanned].tolist() if reason)
    accepted = int(scanned.sum()) - rejected.total()
    over_cap = int(results["over_cap"][np.isin(results["visit"], objects["visit"][scanned])].sum())
    classified = min(len(recording.scores()), accepted)
    captured = int(visits["pictures"].sum()) + int(blind.sum())
    processed = int(visits["pictures"][done].sum())
    skipped = {"crash": accepted - classified, "over_cap": over_cap}
    return {
        "frames": {
            "captured": captured,
            "processed": processed,
            "dropped": dict(Counter(reason.decode() for reason in visits["unsettled"][blind].tolist())),
            "lost": _with_crash({}, captured - processed - int(blind.sum())),
        },
        "views": {
            "detected": int(scanned.sum()) + over_cap,
            "classified": classified,
            "rejected": dict(sorted(rejected.items())),
            "skipped": {reason: count for reason, count in skipped.items() if count},
        },
        "cells": None,
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
