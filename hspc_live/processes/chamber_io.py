"""Where the fields of a chamber run come from, and where what was found in them goes.

Live, a `FieldSource` is stage and camera; in replay it is a recording. From the visit onwards both run the same code
(`chamber`). All methods block; the run calls those of a source from one thread, those of a sink from another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.chamber import ChamberCell, ChamberFacts, FieldObjects, Revisited, Visit
from hspc_live.core.values import StageTarget


class FieldSource(Protocol):
    """Gives the visited fields one after the other."""

    def open(self) -> ChamberFacts:
        """Connect, know camera against stage, plan the scan. Nothing moves if any target of the plan is refused.

        Raises SettingsError for such a target, DeviceError or RecordingError.
        """
        ...

    def scan(self) -> Iterator[Visit]:
        """The planned fields in their order. The next one is begun only when it is asked for.

        Raises DeviceError, RecordingError or DataLoss; the visits given until then hold.
        """
        ...

    def revisit(self, targets: Sequence[StageTarget]) -> Iterator[Visit]:
        """The fields at `targets`, in that order; a recording gives those that were visited again. Raises as `scan`.

        Raises SettingsError before anything moves if a target is refused.
        """
        ...

    def look_at(self, x_um: float, y_um: float) -> Visit:
        """Bring a place to the middle of the frame, for a person, and take its pictures; after all other visits.

        Raises SettingsError before anything moves if the place is refused or there is no stage, DeviceError.
        """
        ...

    def halt(self) -> None:
        """Stop the stage at once; from any thread, harmless when nothing moves."""
        ...

    def close(self) -> None:
        """Let go of the devices or the file; harmless when called twice."""
        ...


class FieldSink(Protocol):
    """Takes in what a run sees and decides, in order. It counts what it cannot keep and raises nothing for it."""

    def begin(self, facts: ChamberFacts, classes: tuple[str, ...]) -> None:
        """Once, before the first visit. Raises OutputError or RecordingError: the run does not start then."""
        ...

    def field(self, visit: Visit, objects: FieldObjects | None) -> None:
        """One visit, by number; `objects` is None where it has no picture."""
        ...

    def scores(self, visit: int, views: NDArray[np.int64], scores: NDArray[np.float32]) -> None:
        """Scores (m, classes) of the views (m,) of one visit, after its `field`; not called where there is no view."""
        ...

    def cells(self, cells: Sequence[ChamberCell]) -> None:
        """Every object of the chamber, once, after the scan; also after one that ended early."""
        ...

    def revisited(self, cells: Sequence[Revisited]) -> None:
        """Every listed cell, once, after the second visits; not called where there were none."""
        ...

    def close(self, summary: Mapping[str, Any]) -> Mapping[str, Any]:
        """The run's summary with its ledgers, JSON-ready; last. Returns what was kept and what was not, for it.

        Called without `begin` having been called if the run never started. Harmless when called twice.
        """
        ...
