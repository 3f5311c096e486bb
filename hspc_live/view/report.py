"""The session report: the screen and the gallery as PNG, the figures as JSON, all of it in one HTML page."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from PySide6.QtGui import QPixmap

from hspc_live.core.errors import OutputError
from hspc_live.report.page import Panel, write_page
from hspc_live.view.about import ChamberAbout
from hspc_live.view.chamber_model import ChamberModel
from hspc_live.view.model import Model
from hspc_live.view.sums import percentile_ms


def figures(model: Model) -> dict[str, Any]:
    """The figures of the session, JSON-ready."""
    found: dict[str, Any] = {"made": datetime.now().isoformat(timespec="seconds"), "losses": model.losses.by_reason}
    if model.about is not None:
        found["run"] = model.about.run
    if model.shown is None:
        return found
    standing = model.shown.told.standing
    found |= model.ledger
    found["classes"] = standing.classes
    found["gates"] = {"revision": standing.gate_revision, "outlets": json.loads(standing.outlets)}
    found["armed"], found["alarms"] = standing.armed, standing.told_alarms
    found["sorted"] = {count.name: count.sorted for count in standing.sorted}
    found["in_time"], found["too_late"] = standing.met, standing.missed
    latencies = model.shown.latencies
    found["latency_ms"] = {"p50": percentile_ms(latencies, 50), "p99": percentile_ms(latencies, 99)}
    return found


def chamber_figures(model: ChamberModel) -> dict[str, Any]:
    """The figures of a chamber session, JSON-ready."""
    found: dict[str, Any] = {"made": datetime.now().isoformat(timespec="seconds")}
    if model.about is not None:
        found["run"] = model.about.run
    if model.shown is None:
        return found
    standing = model.shown.told.standing
    found |= model.books
    found["fields"] = {"planned": standing.planned, "visited": standing.visited}
    found["classes"], found["alarms"] = model.classes(), standing.alarms
    found["listed"] = len(model.shown.told.listed)
    return found


def save_session(folder: Path, model: Model | ChamberModel, pictures: dict[str, QPixmap]) -> Path:
    """Write `pictures` (name → what is seen), `metrics.json` and `report.html` into a new folder in `folder`.

    Returns the page. Raises OutputError where it cannot be written.
    """
    run = model.about.run if model.about is not None else "no-run"
    place = folder / f"session-{run}-{datetime.now():%H%M%S}"
    try:
        place.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"{place} cannot be made: {error.strerror}") from error
    panels = []
    for name, picture in pictures.items():
        path = place / f"{name}.png"
        if not picture.save(str(path), "PNG"):
            raise OutputError(f"{path} cannot be written")
        panels.append(Panel(name.replace("-", " ").capitalize(), figures=(path,)))
    found = chamber_figures(model) if isinstance(model, ChamberModel) else figures(model)
    panels.append(_counts(found))
    title = f"Session {run}"
    source = model.about.title if model.about is not None else "not attached to a run"
    simulated = model.about is not None and (
        model.about.head.simulated if isinstance(model.about, ChamberAbout) else model.about.simulated
    )
    if simulated:
        source += ": SIMULATION, no real cell was seen or sorted"
    return next(path for path in write_page(place, title, source, panels, found) if path.suffix == ".html")


def _counts(found: dict[str, Any]) -> Panel:
    rows = [
        (f"{book}: {name}", json.dumps(value) if isinstance(value, dict) else str(value))
        for book in ("fields", "frames", "views", "cells", "commands", "classes")
        for name, value in found.get(book, {}).items()
    ]
    rows += [(f"sorted into {name}", str(count)) for name, count in found.get("sorted", {}).items()]
    rows += [(f"latency {name}", f"{value} ms") for name, value in found.get("latency_ms", {}).items()]
    return Panel("Figures", head=("what", "how many"), rows=tuple(rows))
