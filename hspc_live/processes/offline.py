"""The whole path in one process and in virtual time: film, segment, classify, decide, sort.

Used where the answer must depend on the input alone: seeds in virtual time, calibration of the sort delay, the card's
confusion table. The sort core, the engine's batches (the views of N frames, as in replay) and the sorter's firmware are
those of a live run; only the clock is not. It moves from one thing that is due to the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from hspc_live.core.clock import NS_PER_MS, VirtualClock
from hspc_live.core.crop import CropGeometry
from hspc_live.core.events import (
    Action,
    Arm,
    Classify,
    Closed,
    Command,
    Disarmed,
    Ended,
    Event,
    Finished,
    FrameMissing,
    FrameSeen,
    Received,
    Scored,
    Tick,
)
from hspc_live.core.protocols import Engine, Sorter
from hspc_live.core.values import CameraInfo, CellRecord, Frame, FrameResult, Pixels, Receipt, SortCommand
from hspc_live.processes.plan import RECEIPT_GRACE_NS
from hspc_live.settings.schema import RunSettings
from hspc_live.stages.background import Background, Snapshot
from hspc_live.stages.segment import Segmenter
from hspc_live.stages.sort_core import SortCore
from hspc_live.stages.verdicts import VerdictHash

BEAT_NS = 50 * NS_PER_MS

Key = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Delays:
    """The virtual delays of a run: from mid-exposure to detections, and from a full batch to its scores."""

    segment_ms: float = 5.0
    engine_ms: float = 60.0


@dataclass(slots=True)
class OfflineResult:
    """What came of a run. `actions` are all the core's, in order; `ledgers` as `Ledger.to_json`, `violations` empty if
    they balance; the two digests are those of `stages.verdicts`.
    """

    records: list[CellRecord] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    commands: list[SortCommand] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    disarmed: list[str] = field(default_factory=list)
    ledgers: dict[str, Any] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    decisions_sha256: str = ""
    outcomes_sha256: str = ""
    first_ns: int | None = None
    last_ns: int | None = None


def segment_frames(
    frames: Iterable[Frame], info: CameraInfo, settings: RunSettings, geometry: CropGeometry
) -> Iterator[FrameResult]:
    """Background and segmentation, frame by frame, as *acquire* and *segment* do it live."""
    background = Background(settings.background, (info.height_px, info.width_px), np.dtype(info.dtype))
    segmenter = Segmenter(settings.segment, info.um_per_px, info.modality, geometry)
    current: Snapshot | None = None
    for frame in frames:
        current = background.update(frame.pixels, frame.captured_ns, frame.background) or current
        assert current is not None, "the first frame always makes a snapshot"
        yield segmenter(frame.index, frame.captured_ns, frame.pixels, current.pixels, current.number, current.noise_sd)


def run_offline(
    results: Iterable[FrameResult],
    engine: Engine,
    core: SortCore,
    clock: VirtualClock,
    sorter: Sorter | None = None,
    *,
    batch_frames: int = 8,
    delays: Delays | None = None,
    counts_gaps: bool = True,
) -> OfflineResult:
    """Drive a fresh `core` with `results` (in capture order); a `sorter` (open, on `clock`) is armed at the start.

    `counts_gaps`: whether a gap in the indices is a dropped frame. The sorter is disarmed at the end, not closed.
    """
    run = _Run(engine, core, clock, sorter, delays or Delays())
    expected = 0
    for fed, result in enumerate(results):
        run.until(result.captured_ns + run.segment_ns)
        if fed == 0:
            run.begin(result.captured_ns)
        if counts_gaps:
            for index in range(expected, result.index):
                run.feed(FrameMissing(index, None, "gap", dropped=True))
            expected = result.index + 1
        run.frame(result)
        if (fed + 1) % batch_frames == 0:
            run.score()
    run.end()
    return run.result


class _Run:
    """The state of one run: what waits for the engine, what the engine will say when, what came of it."""

    def __init__(
        self, engine: Engine, core: SortCore, clock: VirtualClock, sorter: Sorter | None, delays: Delays
    ) -> None:
        self.result = OfflineResult()
        self.segment_ns = round(delays.segment_ms * NS_PER_MS)
        self._engine_ns = round(delays.engine_ms * NS_PER_MS)
        self._engine = engine
        self._core = core
        self._clock = clock
        self._sorter = sorter
        self._verdicts = VerdictHash()
        self._crops: dict[Key, Pixels] = {}
        self._scores: list[tuple[int, Scored]] = []  # (ready at, scores), in order
        self._beat_ns: int | None = None  # the next heartbeat is due
        self._last_fire_ns = 0

    def begin(self, captured_ns: int) -> None:
        """The first frame has come: arm."""
        self.result.first_ns = captured_ns
        if self._sorter is not None:
            self._sorter.arm()
            self._beat_ns = self._clock.now_ns() + BEAT_NS
            self.feed(Arm("offline"))

    def frame(self, result: FrameResult) -> None:
        """Feed one frame and keep the crops that the core asks to have classified."""
        self.result.last_ns = result.captured_ns
        accepted = np.cumsum(result.objects["reject"] == 0)
        seen = FrameSeen(result.index, result.captured_ns, result.detections(), result.over_cap, result.alarms)
        for action in self.feed(seen):
            if isinstance(action, Classify):
                self._crops[(action.frame, action.view)] = result.crops[int(accepted[action.view]) - 1]

    def score(self) -> None:
        """Give the waiting crops to the engine; its answer will be there after its delay."""
        if self._crops:
            keys = tuple(sorted(self._crops))
            scores = self._engine.infer(cast("Pixels", np.stack([self._crops[key] for key in keys])))
            self._scores.append((self._clock.now_ns() + self._engine_ns, Scored(keys, scores)))
            self._crops.clear()

    def until(self, until_ns: int) -> None:
        """Do everything that is due before `until_ns`, each at its time, then move the clock there."""
        while (due_ns := self._next_due_ns()) is not None and due_ns < until_ns:
            self._clock.advance_to(due_ns)
            if self._scores and self._scores[0][0] <= self._clock.now_ns():
                self.feed(self._scores.pop(0)[1])
            else:
                self.feed(Tick())
            self._serve_sorter()
        self._clock.advance_to(until_ns)
        self._serve_sorter()

    def end(self) -> None:
        """No frame will come: let everything under way happen, then close the books."""
        self.score()
        self.feed(Ended())
        while self._scores or self._core.next_wake_ns() is not None:
            due_ns = self._next_due_ns()
            assert due_ns is not None
            self.until(due_ns + 1)
        if self._sorter is not None:
            self.until(max(self._last_fire_ns + RECEIPT_GRACE_NS, self._clock.now_ns()))
            self._beat_ns = None
        self.feed(Finished())
        if self._sorter is not None:
            self._sorter.disarm()
        self.result.ledgers = self._core.ledger.to_json()
        self.result.violations = self._core.ledger.balanced()
        self.result.decisions_sha256 = self._verdicts.decisions_sha256
        self.result.outcomes_sha256 = self._verdicts.outcomes_sha256

    def feed(self, event: Event) -> list[Action]:
        """One event into the core; its actions are carried out, kept and returned."""
        actions = self._core.feed(event, self._clock.now_ns())
        for action in actions:
            self._note(action)
        return actions

    def _note(self, action: Action) -> None:
        self.result.actions.append(action)
        match action:
            case Command(command):
                self.result.commands.append(command)
                if self._sorter is not None:
                    self._sorter.send(command)
                    self._last_fire_ns = max(self._last_fire_ns, command.fire_at_ns)
            case Closed(record):
                self.result.records.append(record)
                self._verdicts.add(record)
            case Disarmed(reason):
                self.result.disarmed.append(reason)
                if self._sorter is not None:
                    self._sorter.disarm()

    def _next_due_ns(self) -> int | None:
        wake_ns = self._core.next_wake_ns()
        due = [at for at in (wake_ns, self._beat_ns) if at is not None]
        if self._scores:
            due.append(self._scores[0][0])
        return min(due, default=None)

    def _serve_sorter(self) -> None:
        if self._sorter is None or self._beat_ns is None:
            return
        if self._clock.now_ns() >= self._beat_ns:
            self._beat_ns = self._clock.now_ns() + BEAT_NS
            self._sorter.heartbeat()
        receipts = tuple(self._sorter.poll())
        if receipts:
            self.result.receipts.extend(receipts)
            self.feed(Received(receipts))
