"""The recording as a sink of a chamber run: what cannot be kept is counted and said, and never ends the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.chamber import ChamberCell, ChamberFacts, FieldObjects, Revisited, Visit
from hspc_live.core.errors import RecordingError
from hspc_live.recording.chamber_writer import ChamberWriter

LEDGERS = ("frames", "views", "cells")


class ChamberRecorder:
    """A `FieldSink` that writes one recording. The first failure (a full disk) ends the recording, not the run."""

    def __init__(
        self,
        path: Path,
        *,
        run_id: str,
        settings_json: str,
        card_yaml: str,
        pipeline_id: str,
        versions: Mapping[str, str],
        crop_px: int,
        pictures: bool = True,
    ) -> None:
        """`pictures` False keeps what was found in the fields, but not the fields: it cannot be replayed then."""
        self.path = path
        self._create = partial(
            ChamberWriter.create,
            path,
            run_id=run_id,
            settings_json=settings_json,
            card_yaml=card_yaml,
            pipeline_id=pipeline_id,
            versions=versions,
            crop_px=crop_px,
            pictures=pictures,
        )
        self._writer: ChamberWriter | None = None
        self._visits = 0
        self._last_ns = 0
        self._unrecorded = 0
        self._failure: str | None = None
        self._kept: dict[str, Any] = {}

    def begin(self, facts: ChamberFacts, classes: tuple[str, ...]) -> None:
        """Make the file. Raises OutputError if it exists or cannot be written."""
        self._writer = self._create(facts=facts, classes=classes)

    def field(self, visit: Visit, objects: FieldObjects | None) -> None:
        """Keep one visit; it is safe when this returns."""
        self._last_ns = max([self._last_ns, *(picture.frame.captured_ns for picture in visit.pictures)])
        before = self._unrecorded
        self._try(lambda writer: writer.field(visit, objects))
        self._visits += self._unrecorded == before

    def scores(self, visit: int, views: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
        """Keep the scores of one visit."""
        self._try(lambda writer: writer.scores(visit, views, scores))

    def cells(self, cells: Sequence[ChamberCell]) -> None:
        """Keep the last word on every object."""
        self._try(lambda writer: writer.cells(cells))

    def revisited(self, cells: Sequence[Revisited]) -> None:
        """Keep what became of the listed cells."""
        self._try(lambda writer: writer.revisited(cells))

    def close(self, summary: Mapping[str, Any]) -> Mapping[str, Any]:
        """Complete the file; what was kept, and the reason why the rest was not (None: all was kept)."""
        writer, self._writer = self._writer, None
        if writer is None:
            return self._kept
        for kind in ("interrupted", "ended_by", "stopped", "failure"):
            if summary.get(kind):
                writer.note(kind, str(summary[kind]), self._last_ns)
        ledger = {name: summary[name] for name in LEDGERS if name in summary}
        whole = len(ledger) == len(LEDGERS) and self._failure is None
        try:
            writer.close(ledger if whole else None, summary if ledger else None, self._unrecorded)
        except RecordingError as error:
            self._failure = self._failure or str(error)
        self._kept = {
            "path": str(self.path),
            "visits": self._visits,
            "unrecorded": self._unrecorded,
            "failure": self._failure,
        }
        return self._kept

    def _try(self, write: Callable[[ChamberWriter], object]) -> None:
        """Write, unless writing has failed before: what lies behind a gap would be taken for what belongs there."""
        if self._writer is None or self._failure is not None:
            self._unrecorded += 1
            return
        try:
            write(self._writer)
        except RecordingError as error:
            self._failure = str(error)
            self._unrecorded += 1
