"""The results of a chamber run that has ended, read from its recording, in the place of a connection. No Qt."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from hspc_live.core.chamber import Phase, Visit
from hspc_live.core.errors import RecordingError, SettingsError
from hspc_live.processes.chamber_marks import listed, of_cells, of_field, with_scores
from hspc_live.processes.chamber_showing import head
from hspc_live.recording.chamber_reader import open_chamber
from hspc_live.settings.chamber_run import ChamberRunSettings
from hspc_live.settings.load import load_run_text
from hspc_live.view.about import ChamberAbout
from hspc_live.view.connection import Bond
from hspc_live.wire.chamber_telemetry import ChamberHead, ChamberShown, ChamberStanding, ChamberTelemetry, Marks

BOOKS = ("frames", "views", "cells")


class FinishedChamber:
    """`path` is the recording of a chamber. What a `Connection` has, it has too; there is nobody to send wishes to.

    Raises RecordingError where it cannot be read, SettingsError where its settings cannot.
    """

    def __init__(self, path: Path) -> None:
        self._recording = open_chamber(path)
        recording = self._recording
        try:
            self.about = ChamberAbout(self._head(path))
            self._shown: ChamberShown | None = self._read()
        except (RecordingError, SettingsError):
            recording.close()
            raise
        self.attached = 1
        self.state = Bond.FINISHED
        self.words = f"{path.name}, as it was recorded" + (f"; {recording.loss}" if recording.loss else "")
        self.silent_s = 0.0

    def _head(self, path: Path) -> ChamberHead:
        recording = self._recording
        if recording.settings_json is None:
            raise RecordingError(f"the settings in {path} cannot be read: its map cannot be drawn")
        settings = load_run_text(recording.settings_json, f"the settings in {path}", ())
        if not isinstance(settings, ChamberRunSettings):
            raise RecordingError(f"{path} holds the settings of a flow")
        engine = str((recording.summary or {}).get("engine", "engine not known"))
        run = str(recording.attributes["run_id"])
        return head(recording.facts, settings, recording.classes, run=run, engine=engine, live=False, recording=path)

    def _read(self) -> ChamberShown:
        recording = self._recording
        places = recording.places(Phase.SCAN)
        visited = np.column_stack([places["x_um"], places["y_um"], places["pictures"] > 0]).astype(np.float64)
        planned = np.array([(target.x_um, target.y_um) for target in recording.facts.plan], np.float64)
        cells, again = recording.cells(), recording.revisited()
        summary = recording.summary or {}
        lines = recording.lines("ledger")
        books = {name: summary[name] for name in BOOKS if name in summary} or (lines[-1] if lines else {})
        last = next((visit for number in reversed(recording.numbers()) if (visit := self.visit(number)).pictures), None)
        standing = ChamberStanding(
            doing="finished",
            ending=str(summary.get("ended_by") or ""),
            planned=len(planned),
            visited=recording.n_visits,
            no_driving="",
            driven="",
            here_um=None if last is None else (last.x_um, last.y_um),
            books=json.dumps(books),
            alarms=dict(summary.get("alarms", {})),
        )
        told = ChamberTelemetry(0, 0, -1 if last is None else last.number, listed(cells, again), standing)
        pixels = np.empty((0, 0), np.uint8) if last is None else last.pictures[0].frame.pixels
        marks = of_cells(cells, recording.classes) if cells else self._field_by_field()
        return ChamberShown(self.about.run, told, pixels, planned.reshape(-1, 2), visited, marks)

    def _field_by_field(self) -> Marks:
        """What the fields show, of a run that was broken off before its list."""
        recording = self._recording
        facts, rows = recording.facts, recording.scores()
        um_per_px = float(abs(np.linalg.det(facts.affine[:, :2])) ** 0.5)
        parts = []
        for number in recording.numbers(Phase.SCAN):
            objects = recording.objects(number)
            if objects is not None:
                mine = rows[rows["visit"] == number]
                marks = of_field(recording.visit(number), objects, facts.affine, um_per_px)
                parts.append(with_scores(marks, mine["view"].astype(np.int64), mine["scores"]))
        return Marks.joined(parts)

    def poll(self) -> ChamberShown | None:
        """What there is to see, once."""
        shown, self._shown = self._shown, None
        return shown

    def visit(self, number: int) -> Visit:
        """A visit with its pictures, as far as they can be read. Raises KeyError for a number that is not there."""
        return self._recording.visit(number)

    def close(self) -> None:
        """Let go of the file."""
        self._recording.close()
