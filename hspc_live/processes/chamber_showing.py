"""A chamber run's window to the outside: the map as it grows, the newest picture, the list, and how the run stands.

A sink like the recording: what it is told it keeps by reference. A message is made only while somebody looks, by the
run's own loop, and handed to a link that never waits; the stage, not the computer, sets the pace of a chamber.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.chamber import ChamberCell, ChamberFacts, FieldObjects, Phase, Revisited, Visit
from hspc_live.core.values import Pixels
from hspc_live.processes.chamber_marks import listed, of_cells, of_field, with_scores
from hspc_live.settings.chamber_run import ChamberRunSettings, SimulatedRig, TwinMicroManager
from hspc_live.wire.chamber_telemetry import (
    ChamberHead,
    ChamberStanding,
    ChamberTelemetry,
    Listed,
    Marks,
    pack_chamber,
)
from hspc_live.wire.links import Publisher

PERIOD_S = 0.2
STILL_S = 1.0  # without anything new the standing is shown as often as that

_NO_PIXELS = np.empty((0, 0), np.uint8)


def head(
    facts: ChamberFacts, settings: ChamberRunSettings, classes: tuple[str, ...], *, run: str, engine: str, live: bool,
    show: str = "", recording: Path | None = None,
) -> ChamberHead:  # fmt: skip
    """What those who look on must know of a run before anything else."""
    rows = [(float(a), float(b), float(c)) for a, b, c in facts.affine.tolist()]
    return ChamberHead(
        run=run,
        name=settings.name,
        show=show,
        live=live,
        classes=classes,
        engine=engine,
        simulated=isinstance(settings.camera, SimulatedRig | TwinMicroManager),
        affine=(rows[0], rows[1]),
        width_px=facts.camera.width_px,
        height_px=facts.camera.height_px,
        um_per_px=facts.camera.um_per_px,
        recording=None if recording is None else str(recording),
    )


class ChamberShowing:
    """A `FieldSink` that publishes on `link`. The run tells it `facts` and the rest; `publish` belongs to its loop."""

    def __init__(
        self, link: Publisher, settings: ChamberRunSettings, *, run: str, engine: str, live: bool,
        recording: Path | None = None,
    ) -> None:  # fmt: skip
        self._link, self._settings = link, settings
        self._run, self._engine, self._live, self._recording = run, engine, live, recording
        self._lock = threading.Lock()  # told from the threads of devices and pictures, read by the loop
        self._facts: ChamberFacts | None = None
        self._head: ChamberHead | None = None
        self._planned = np.empty((0, 2))
        self._visited: list[tuple[float, float, float]] = []
        self._fields: dict[int, Marks] = {}
        self._cells: Sequence[ChamberCell] = ()
        self._marks: Marks | None = None  # of the list, once it is made
        self._listed: list[Listed] = []
        self._pixels: Pixels = _NO_PIXELS
        self._field = -1
        self._here: tuple[float, float] | None = None
        self._version = 0
        self._sent: tuple[int, ChamberStanding] | None = None
        self._sent_at = 0.0
        self.made = 0

    @property
    def head(self) -> str | None:
        """The `ChamberHead` as JSON text; None before the run has begun."""
        return None if self._head is None else msgspec.json.encode(self._head).decode()

    # ---- what the run tells (`FieldSink`) ----------------------------------------------------------------------------

    def begin(self, facts: ChamberFacts, classes: tuple[str, ...]) -> None:
        """What is known before the first field."""
        self._facts = facts
        self._planned = np.array([(target.x_um, target.y_um) for target in facts.plan], np.float64).reshape(-1, 2)
        self._head = head(
            facts, self._settings, classes, run=self._run, engine=self._engine, live=self._live,
            show=self._link.address, recording=self._recording,
        )  # fmt: skip

    def field(self, visit: Visit, objects: FieldObjects | None) -> None:
        """One visit: its picture and, in the scan, what was found there."""
        self.picture(visit)
        with self._lock:
            if visit.phase is Phase.SCAN:
                self._visited.append((visit.x_um, visit.y_um, float(bool(visit.pictures))))
                if objects is not None and self._facts is not None:
                    um_per_px = float(abs(np.linalg.det(self._facts.affine[:, :2])) ** 0.5)
                    self._fields[visit.number] = of_field(visit, objects, self._facts.affine, um_per_px)

    def picture(self, visit: Visit) -> None:
        """The newest picture, also one for which a person drove the stage somewhere."""
        with self._lock:
            self._here = (visit.x_um, visit.y_um)
            self._field = visit.number
            self._pixels = visit.pictures[0].frame.pixels if visit.pictures else _NO_PIXELS
            self._version += 1

    def scores(self, visit: int, views: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
        """What the classifier says of one field's views."""
        with self._lock:
            self._fields[visit] = with_scores(self._fields[visit], views, scores)
            self._version += 1

    def cells(self, cells: Sequence[ChamberCell]) -> None:
        """The list is made: from now on the map shows every object once."""
        classes = self._head.classes if self._head is not None else ()
        with self._lock:
            self._cells, self._marks, self._listed = cells, of_cells(cells, classes), listed(cells)
            self._version += 1

    def revisited(self, cells: Sequence[Revisited]) -> None:
        """What became of the listed cells."""
        with self._lock:
            self._listed = listed(self._cells, cells)
            self._version += 1

    def close(self, summary: Mapping[str, Any]) -> Mapping[str, Any]:
        """Nothing is kept here."""
        return {}

    # ---- out ---------------------------------------------------------------------------------------------------------

    def listened(self) -> bool:
        """Whether anybody looks, and there is something to see."""
        return self._link.listened() and self._head is not None

    def publish(self, standing: ChamberStanding) -> None:
        """Hand over a message if there is something new, or now and then. `standing` comes without `here_um`."""
        now = time.monotonic()
        with self._lock:
            if self._sent == (self._version, standing) and now - self._sent_at < STILL_S:
                return
            self._sent, self._sent_at = (self._version, standing), now
            marks = self._marks if self._marks is not None else Marks.joined(list(self._fields.values()))
            visited = np.array(self._visited, np.float64).reshape(-1, 3)
            pixels, field, lines, here = self._pixels, self._field, self._listed, self._here
        told = ChamberTelemetry(
            number=self.made,
            sent_ns=time.perf_counter_ns(),
            field=field,
            listed=lines,
            standing=msgspec.structs.replace(standing, here_um=here),
        )
        self._link.try_send(pack_chamber(told, [pixels, self._planned, visited], marks, self._run))
        self.made += 1
