"""What goes into the pure sort core and what comes out of it.

The core (`stages.sort_core`) is driven as `core.feed(event, now_ns) -> list[Action]`. It does no I/O, reads no clock
and starts no thread: whatever it should know is an event, whatever it wants done is an action. Live asyncio, replay and
virtual-time tests drive the same core with the same events.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.values import CellRecord, Detection, GateDecision, Receipt, SortCommand

# ---- events --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FrameSeen:
    """One frame's detections, in capture order (the caller restores the order). `over_cap`: objects not measured."""

    index: int
    captured_ns: int
    detections: tuple[Detection, ...]
    over_cap: int = 0
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FrameMissing:
    """A captured frame that yields no result. `dropped`: never entered the pipeline; else lost inside it."""

    index: int
    captured_ns: int | None
    reason: str
    dropped: bool


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Engine output for `keys` = ((frame, view), …): scores (n, classes) float32; a row with NaN is unusable."""

    keys: tuple[tuple[int, int], ...]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Skipped:
    """Views that were not inferred because their cell could not make its deadline any more."""

    keys: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """Nothing new but the time.

    `captured_ns`, if given: capture has got so far, and no frame up to then is still to come. A recording that left out
    its empty frames says so in its gaps, where otherwise no cell could be committed. `frame`, if given: no frame up to
    this index is still to come, so what has been unseen for too long has left.
    """

    captured_ns: int | None = None
    frame: int | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """Receipts from the sorter."""

    receipts: tuple[Receipt, ...]


@dataclass(frozen=True, slots=True)
class Arm:
    """A person arms; the caller has seen the self-test pass. Refused while an alarm stands."""

    by: str


@dataclass(frozen=True, slots=True)
class Disarm:
    """Disarm, by a person or by an alarm; `reason` is recorded."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """No more frames will come: close every track; what can still be decided in time is decided.

    Scores and receipts may follow; when the last of them is in, or waited for long enough, the caller feeds `Finished`.
    """


@dataclass(frozen=True, slots=True)
class Finished:
    """No more events will come: whatever is still open is booked as such, and the books are final."""


Event = FrameSeen | FrameMissing | Scored | Skipped | Tick | Received | Arm | Disarm | Ended | Finished

# ---- actions -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Classify:
    """Please score this view of `cell`; of no use after `deadline_ns`."""

    frame: int
    view: int
    cell: int
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class Gated:
    """A cell's gates have been judged (before timing)."""

    decision: GateDecision


@dataclass(frozen=True, slots=True)
class Command:
    """Send this to the sorter now."""

    command: SortCommand


@dataclass(frozen=True, slots=True)
class Closed:
    """A cell has come to its end."""

    record: CellRecord


@dataclass(frozen=True, slots=True)
class Disarmed:
    """The core has disarmed itself: make the sorter safe, and say why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something a person must know; it did not disarm by itself."""

    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class ArmingRefused:
    """The core stays disarmed: `reason` says which alarm still stands."""

    reason: str


@dataclass(frozen=True, slots=True)
class GatesSet:
    """Another set of gates is in force: for every cell that closes in frame `first_frame` or later."""

    revision: int
    first_frame: int
    by: str


Action = Classify | Gated | Command | Closed | Disarmed | Alarm | ArmingRefused | GatesSet
