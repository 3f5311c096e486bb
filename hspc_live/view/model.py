"""What the screen knows: the newest message, and what has gathered from those before. No Qt.

Counts that a person must be able to trust are kept here: losses add up over every run that was attached to, and only
a person sets them back, which is said beside them.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.clock import NS_PER_S
from hspc_live.core.values import CellRecord, Pixels
from hspc_live.stages.gate_tree import FEATURES, SCORE_PREFIX
from hspc_live.view.about import About
from hspc_live.view.drafts import Draft, outlets_from
from hspc_live.wire.telemetry import Shown

CELLS = 20_000
LOOKS = 4_000
GALLERY = 24
HISTORY_S = 600.0
SAMPLE_S = 0.5
STALE_S = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """How things stood at one moment; rates are over the time since the sample before."""

    at_s: float
    frames_per_s: float
    cells_per_s: float
    met: float
    fill: float
    losses: int


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One crop of a cell, and the cell it is of."""

    record: CellRecord
    frame: int
    view: int
    crop: Pixels


@dataclass(slots=True)
class Losses:
    """Frames that were dropped or lost, by reason: of the run attached to, carried over from those before, set back."""

    now: dict[str, int] = field(default_factory=dict)
    carried: dict[str, int] = field(default_factory=dict)
    since: str = ""

    @property
    def by_reason(self) -> dict[str, int]:
        """All that were lost since the counter was last set back."""
        reasons = sorted({*self.now, *self.carried})
        summed = {name: self.now.get(name, 0) + self.carried.get(name, 0) for name in reasons}
        return {name: count for name, count in summed.items() if count}

    @property
    def total(self) -> int:
        """Their number."""
        return sum(self.by_reason.values())


class Model:
    """Fed with what comes (`attach`, `take`), asked by the panels."""

    def __init__(self) -> None:
        self.about: About | None = None
        self.shown: Shown | None = None
        self.ledger: dict[str, Any] = {}
        self.draft = Draft((), 0)
        self.losses = Losses(since=_now_words())
        self.received = 0
        self.missed = 0
        self.held = False  # a replay that a person holds still: its picture is old on purpose
        self.cells: OrderedDict[int, CellRecord] = OrderedDict()
        self.looks: OrderedDict[tuple[int, int, int], Look] = OrderedDict()
        self.gallery: dict[str, deque[Look]] = {}
        self.history: deque[Sample] = deque(maxlen=round(HISTORY_S / SAMPLE_S))
        self.cells_version = 0
        self._last: tuple[float, dict[str, Any]] | None = None
        self._columns: dict[str, tuple[int, NDArray[np.float64]]] = {}

    # ---- in ----------------------------------------------------------------------------------------------------------

    def attach(self, about: About) -> None:
        """Another run, or the same one anew: what is of one run is forgotten, what was lost is not."""
        if self.about is not None and about.run != self.about.run:
            losses = self.losses
            losses.carried = losses.by_reason
            losses.now = {}
            self.cells.clear()
            self.looks.clear()
            self.gallery.clear()
            self.cells_version += 1
            self.shown, self.ledger = None, {}
            self._last = None
            self.draft = Draft((), 0)
        if self.about is None or about.run != self.about.run:
            self.draft = Draft(about.settings.sort.outlets, 0)
        self.about = about

    def take(self, shown: Shown) -> None:
        """The newest message."""
        told = shown.told
        if self.shown is not None and self.shown.run == shown.run:
            self.missed += max(0, told.number - self.shown.told.number - 1)
        self.received += 1
        self.shown = shown
        standing = told.standing
        self.ledger = json.loads(standing.ledger)
        frames = self.ledger["frames"]
        self.losses.now = {**{f"lost: {k}": n for k, n in frames["lost"].items()}, **frames["dropped"]}
        if standing.unrecorded:
            self.losses.now["not recorded"] = standing.unrecorded
        if standing.gate_revision != self.draft.revision or self.draft.overtaken:
            self.draft.follow(standing.outlets, standing.gate_revision)
        self._gather(shown)
        self._sample(shown)

    def gates_set(self) -> None:
        """What was drafted has been put in force: from now on follow the run's gates again."""
        self.draft.in_force = self.draft.outlets

    def start_draft_again(self) -> None:
        """Drop what was moved; begin with the gates that the run has now."""
        if self.shown is not None:
            standing = self.shown.told.standing
            self.draft = Draft(outlets_from(standing.outlets), standing.gate_revision)

    def set_losses_back(self) -> None:
        """A person wants to count from now on: what has been lost until now is taken off, and when is said."""
        off = self.losses.by_reason
        now = self.losses.now
        self.losses.carried = {name: self.losses.carried.get(name, 0) - count for name, count in off.items()}
        self.losses.now = now
        self.losses.since = _now_words()

    def _gather(self, shown: Shown) -> None:
        new = [record for record in shown.told.cells if record.cell not in self.cells]
        for record in new:
            self.cells[record.cell] = record
        while len(self.cells) > CELLS:
            self.cells.popitem(last=False)
        if new:
            self.cells_version += 1
        for key, crop in zip(shown.told.crops, shown.crops, strict=True):
            record_of = self.cells.get(key[0])
            if key in self.looks or record_of is None:
                continue
            look = Look(record_of, key[1], key[2], crop.copy())
            self.looks[key] = look
            named = record_of.classification.predicted if record_of.classification is not None else "no verdict"
            gallery = self.gallery.setdefault(named, deque(maxlen=GALLERY))
            if not gallery or gallery[-1].record.cell != key[0]:
                gallery.append(look)
        while len(self.looks) > LOOKS:
            self.looks.popitem(last=False)

    def _sample(self, shown: Shown) -> None:
        at_s = shown.told.sent_ns / NS_PER_S
        if self._last is None:
            self._last = (at_s, self.ledger)
            return
        before_s, before = self._last
        passed = at_s - before_s
        if passed < SAMPLE_S:
            return
        standing = shown.told.standing
        judged = standing.met + standing.missed
        self.history.append(
            Sample(
                at_s=at_s,
                frames_per_s=(self.ledger["frames"]["captured"] - before["frames"]["captured"]) / passed,
                cells_per_s=(self.ledger["cells"]["tracked"] - before["cells"]["tracked"]) / passed,
                met=standing.met / judged if judged else 1.0,
                fill=standing.held / max(1, standing.slots),
                losses=self.losses.total,
            )
        )
        self._last = (at_s, self.ledger)

    # ---- asked -------------------------------------------------------------------------------------------------------

    @property
    def age_s(self) -> float | None:
        """How old the newest frame is: live since its exposure, in replay since it was shown. None before any."""
        if self.shown is None or self.shown.told.frame < 0:
            return None
        told = self.shown.told
        live = self.about is not None and self.about.live
        return (time.perf_counter_ns() - (told.captured_ns if live else told.received_ns)) / NS_PER_S

    @property
    def stale(self) -> bool:
        """Whether the picture is too old to act upon."""
        age = self.age_s
        period = 1.0 / self.about.camera.frames_per_s if self.about and self.about.camera.frames_per_s > 0 else 0.0
        return not self.held and age is not None and age > max(STALE_S, 5.0 * period)

    def names(self) -> list[str]:
        """What can be plotted: scores by class, then features."""
        classes = self.about.classes if self.about is not None else ()
        return [*(SCORE_PREFIX + name for name in classes), *FEATURES]

    def column(self, name: str) -> NDArray[np.float64]:
        """The values of one score or feature over the cells known, in their order; NaN where it is not known."""
        held = self._columns.get(name)
        if held is not None and held[0] == self.cells_version:
            return held[1]
        values = np.fromiter(self._values(name), np.float64, len(self.cells))
        self._columns[name] = (self.cells_version, values)
        return values

    def _values(self, name: str) -> Iterable[float]:
        if name.startswith(SCORE_PREFIX):
            classes = self.about.classes if self.about is not None else ()
            place = classes.index(name.removeprefix(SCORE_PREFIX))
            for record in self.cells.values():
                yield record.classification.scores[place] if record.classification is not None else np.nan
        else:
            for record in self.cells.values():
                yield record.features.get(name, np.nan)

    def looks_of(self, cell: int) -> list[Look]:
        """The crops of a cell that are still held."""
        return [look for look in self.looks.values() if look.record.cell == cell]


def _now_words() -> str:
    return datetime.now().strftime("%H:%M:%S")
