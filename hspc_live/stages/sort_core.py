"""The sort core: (state, events, now) -> (state, actions). Every rule about cells is here or in the modules it leads.

Pure: no I/O, no clock, no randomness, no thread. Live asyncio, replay and virtual-time tests feed it the same events:

    core = SortCore(settings, classes)
    for action in core.feed(event, now_ns): ...        # do what it says, in this order
    core.feed(Ended(), now)      # after the last frame: tracks close, the tail is committed
    core.feed(Scored(...), now)  # the engine is flushed; receipts come in
    core.feed(Finished(), now)   # nothing more will come: what is open is booked, `ledger` is final

What decides a verdict is capture time and scores, never when something happened to arrive (see `stages.decide`). So a
caller that delivers every answer before `next_wake_ns` gets the same verdicts always.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from hspc_live.core.errors import SettingsError
from hspc_live.core.events import (
    Action,
    Alarm,
    Arm,
    ArmingRefused,
    Classify,
    Disarm,
    Disarmed,
    Ended,
    Event,
    Finished,
    FrameMissing,
    FrameSeen,
    GatesSet,
    Received,
    Scored,
    Skipped,
    Tick,
)
from hspc_live.core.values import DUPLICATE, Detection, Receipt, ReceiptKind
from hspc_live.settings.sort import Outlet, SortSettings
from hspc_live.stages.alarms import Watches
from hspc_live.stages.cell import Cell, State
from hspc_live.stages.decide import Decider
from hspc_live.stages.gate import EditGates, GateSet, check_gates, usable
from hspc_live.stages.ledger import REJECT_NAMES, FrameNumbers, Ledger
from hspc_live.stages.timing import JunctionTiming
from hspc_live.stages.track import Track, Tracker


class SortCore:
    """Tracks, closes, gates, times, decides and books. Raises SettingsError for gates that do not fit `classes`."""

    def __init__(self, settings: SortSettings, classes: tuple[str, ...], time_sd_us: float = 0.0) -> None:
        """`time_sd_us` is by how much the camera's times may be off. Raises SettingsError for gates without a class."""
        check_gates(settings, classes)
        self.ledger = Ledger()
        self._settings = settings
        self._classes = classes
        self._close = settings.close
        self._timing = JunctionTiming(settings.timing, settings.track, settings.close.decision_line_um, time_sd_us)
        self._tracker = Tracker(settings.track, settings.max_tracks)
        self._decider = Decider(settings, classes, self._timing, self.ledger)
        self._watches = Watches(settings.alarms, self._timing.velocity_um_s)
        self._told: set[str] = set()  # alarms that hold and have been reported
        self._numbers = FrameNumbers()
        self._seen_ns: int | None = None  # capture time of the last frame whose objects were tracked
        self._missed = False  # frames behind it were taken, and are missing
        self._now_ns = 0
        self._views: dict[tuple[int, int], tuple[Cell, int]] = {}  # requested, not answered: cell and slot
        self._ended = False
        self._finished = False
        self.followed: list[Track | None] = []  # by row of the last frame seen, for those who look on

    # ---- what the caller uses ------------------------------------------------------------------------------------

    @property
    def armed(self) -> bool:
        """Whether a wanted cell is commanded; only an Arm event makes it so."""
        return self._decider.armed

    @property
    def alarms(self) -> dict[str, str]:
        """The alarms that stand now, each with its explanation: while one does, nobody can arm."""
        return dict(self._watches.active)

    @property
    def gate_revision(self) -> int:
        """The number of the gates in force; 0 are those of the settings."""
        return self._decider.gates.revision

    @property
    def outlets(self) -> tuple[Outlet, ...]:
        """The outlets in force."""
        return tuple(self._decider.gates.outlets.values())

    @property
    def classes(self) -> dict[str, int]:
        """Cells by predicted class, among those that the gates judged (not abstained on)."""
        return dict(self._decider.tally)

    def feed(self, event: Event | EditGates, now_ns: int) -> list[Action]:
        """Take in one event at host time `now_ns` and return what is to be done, in order.

        A `now_ns` before an earlier one, or before the capture of a frame already seen, counts as that. Raises
        SettingsError for gates that do not fit; the old ones stay in force then.
        """
        if self._finished:
            return [Alarm("after_finish", f"{type(event).__name__} came after the run was finished")]
        if isinstance(event, EditGates):  # refused before anything is touched: no action may be lost with the error
            self._check_gates(event)
        out: list[Action] = []
        self._now_ns = max(self._now_ns, now_ns)
        self._decider.sweep(self._now_ns, out)  # what is too late is so before anything new is looked at
        match event:
            case FrameSeen():
                self._frame_seen(event, out)
            case FrameMissing():
                self._frame_missing(event, out)
            case Scored():
                self._scored(event, out)
            case Skipped():
                self._skipped(event, out)
            case Received():
                for receipt in event.receipts:
                    self._receipt(receipt, out)
            case Tick():
                if event.frame is not None:
                    self._depart(self._tracker.expire(event.frame))
                if event.captured_ns is not None:
                    self._advance(event.captured_ns)
            case Arm():
                self._arm(out)
            case Disarm():
                self._disarm(event.reason, out)
            case EditGates():
                self._edit_gates(event, out)
            case Ended():
                self._end(out)
            case Finished():
                self._end(out)
                self._decider.settle(self._now_ns, out)
                self._finish(out)
            case _:
                assert_never(event)
        self._decider.settle(self._now_ns, out)
        self.ledger.views.open = len(self._views)
        self.ledger.cells.open = len(self._decider.cells)
        self.ledger.commands.open = len(self._decider.commands)
        return out

    def next_wake_ns(self) -> int | None:
        """Host time from which on a Tick changes something: the first cell is too late then. None if none waits.

        Until then every score that comes is in time; a replay flushes its engine before it moves its clock past this.
        """
        return self._decider.next_latest_ns()

    def next_commit_ns(self) -> int | None:
        """Capture time at which the next cell commits. None if none waits for it.

        For recordings that left out their empty frames: feed `Tick(captured_ns)` there, where no frame will come.
        """
        return self._decider.next_commit_ns()

    # ---- frames --------------------------------------------------------------------------------------------------

    def _frame_seen(self, event: FrameSeen, out: list[Action]) -> None:
        in_order = event.index > self._numbers.last
        if not self._numbers.book(event.index):
            out.append(Alarm("duplicate_frame", f"frame {event.index} came before; ignored"))
            return
        frames, views = self.ledger.frames, self.ledger.views
        frames.captured += 1
        if self._ended:
            frames.lost["after_end"] += 1
            out.append(Alarm("frame_after_end", f"frame {event.index} came after the end of the run"))
            return
        frames.processed += 1
        for kind in event.alarms:
            out.append(Alarm(kind, f"frame {event.index}"))
        views.detected += len(event.detections) + event.over_cap
        if event.over_cap:
            views.skipped["over_cap"] += event.over_cap
        if not in_order or (self._seen_ns is not None and event.captured_ns <= self._seen_ns):
            detail = f"frame {event.index}, captured at {event.captured_ns} ns, is not after the one before"
            out.append(Alarm("time_backwards", f"{detail}; its objects are not tracked"))
            self._book_untracked(event.detections, "time_backwards")
            self._missed = True
            self._disarm("time_backwards: the camera's times cannot be trusted", out)  # nor can any command's moment
            return
        if self._missed:
            self._blind_until(event.captured_ns)
            self._missed = False
        self._seen_ns = event.captured_ns
        self._follow(event, out)
        self._check_alarms(out)
        self._advance(event.captured_ns)

    def _follow(self, event: FrameSeen, out: list[Action]) -> None:
        """Associate the frame's objects, gather views, close what has been looked at enough."""
        index, captured, seen = event.index, event.captured_ns, event.detections
        order = sorted(range(len(seen)), key=seen.__getitem__)
        strange = [row for row in order if not _finite(seen[row])]
        if strange:
            self._book_untracked([seen[row] for row in strange], "not_finite")
            order = sorted(set(order) - set(strange), key=seen.__getitem__)
        tracked = self._tracker.step(index, captured, seen, order)
        self.followed = tracked.tracks
        for row in order:
            track = tracked.tracks[row]
            if track is not None:
                if track.cell is None and not seen[row].reject:
                    track.cell = self._new_cell(index)
                self._estimate(track, index)
            self._view(seen[row], track, (index, row), captured, out)
        crowded = event.over_cap > 0 or tracked.over_cap > 0
        enough, line = self._close.views, self._close.decision_line_um
        in_view = self._decider.in_view = []
        for track in self._tracker.live:
            if crowded:
                track.crowded = True
            cell = track.cell
            if cell is not None and not cell.ended:
                in_view.append(cell)
                cell.crowded = track.crowded
                if not cell.frozen:
                    cell.doubtful = track.doubtful
                if cell.state is State.OPEN and (len(cell.views) >= enough or track.predict_x(captured) >= line):
                    self._decider.close(cell)
        self._depart(tracked.lost)

    def _depart(self, lost: Iterable[Track]) -> None:
        for track in lost:
            self._watches.departed(track)
            self._decider.depart(track)

    def _new_cell(self, index: int) -> Cell:
        """A cell, now that an object has its first accepted view in frame `index`."""
        cell = Cell(self.ledger.cells.tracked, index, index)
        self.ledger.cells.tracked += 1
        self._decider.cells[cell.number] = cell
        return cell

    def _view(
        self, seen: Detection, track: Track | None, key: tuple[int, int], captured: int, out: list[Action]
    ) -> None:
        """Book one object of the frame; if it is a view that its cell still needs, ask for its scores."""
        views = self.ledger.views
        if seen.reject:
            views.rejected[REJECT_NAMES.get(seen.reject, "unknown")] += 1
            return
        if track is None:
            views.skipped["over_cap"] += 1
            return
        cell = track.cell
        assert cell is not None, "an accepted object has made its track a cell"
        if cell.state is not State.OPEN:
            views.skipped["enough_views"] += 1
            return
        self._views[key] = (cell, len(cell.views))
        cell.views.append(key)
        cell.scores.append(None)
        cell.awaited += 1
        cell.looks.append(seen)
        cell.last_capture_ns = captured
        # an object that stands still has no deadline; its score is of use whenever it comes, but is not urgent
        latest = cell.latest_ns
        if latest is None:
            latest = self._timing.latest_ns(self._timing.prior_arrival(captured, seen.x_um))
        out.append(Classify(key[0], key[1], cell.number, latest))

    def _book_untracked(self, seen: Iterable[Detection], reason: str) -> None:
        for one in seen:
            if one.reject:
                self.ledger.views.rejected[REJECT_NAMES.get(one.reject, "unknown")] += 1
            else:
                self.ledger.views.skipped[reason] += 1

    def _estimate(self, track: Track, index: int) -> None:
        """Carry the track's newest estimate into its arrival, and into its cell."""
        cell = track.cell
        wider = track.inflation
        track.arrival = self._timing.arrival(
            track.at_ns, track.x_um, track.v_um_s, track.pxx * wider, track.pxv * wider, track.pvv * wider
        )
        if cell is None or cell.ended:
            return
        cell.last_frame = index
        cell.y_um = track.y_um
        if track.looks > 1:
            cell.velocity_um_s = track.v_um_s
            cell.velocity_sd_um_s = track.velocity_sd_um_s
        else:  # one look, or standing still: only the prior is left, and that is no measurement
            cell.velocity_um_s = cell.velocity_sd_um_s = None
        if not cell.frozen:
            cell.arrival = track.arrival
            cell.latest_ns = None if track.arrival is None else self._timing.latest_ns(track.arrival)

    def _frame_missing(self, event: FrameMissing, out: list[Action]) -> None:
        if not self._numbers.book(event.index):
            out.append(Alarm("duplicate_frame", f"frame {event.index} came before; its loss is ignored"))
            return
        frames = self.ledger.frames
        frames.captured += 1
        (frames.dropped if event.dropped else frames.lost)[event.reason] += 1
        if self._ended:
            return
        lost = self._tracker.expire(event.index)
        if lost:
            gone = {track.cell.number for track in lost if track.cell is not None}
            self._decider.in_view = [cell for cell in self._decider.in_view if cell.number not in gone]
            self._depart(lost)
            self._check_alarms(out)
        self._missed = True
        if event.captured_ns is not None:
            self._blind_until(event.captured_ns)
            self._advance(event.captured_ns)

    def _blind_until(self, captured_ns: int) -> None:
        """Nothing is known of what passed since the last frame that was seen."""
        if self._seen_ns is None:
            return
        window = self._timing.unseen(self._seen_ns, captured_ns, self._close.decision_line_um)
        if window is not None:
            self._decider.blind(window)

    def _advance(self, captured_ns: int) -> None:
        self._now_ns = max(self._now_ns, captured_ns)  # what has been captured is not in the future
        self._decider.advance(captured_ns, self._tracker.live)

    # ---- scores and receipts ---------------------------------------------------------------------------------------

    def _scored(self, event: Scored, out: list[Action]) -> None:
        rows = event.scores.tolist() if event.scores.shape == (len(event.keys), len(self._classes)) else None
        if rows is None:
            detail = f"scores of shape {event.scores.shape} for {len(event.keys)} views of {len(self._classes)} classes"
            out.append(Alarm("bad_scores", detail))
        for place, key in enumerate(event.keys):
            asked = self._views.pop(key, None)
            if asked is None:
                out.append(_unexpected(key))
                continue
            cell, slot = asked
            if rows is not None and usable(rows[place]):
                self.ledger.views.classified += 1
                cell.scores[slot] = tuple(rows[place])
            else:
                self.ledger.views.skipped["nan"] += 1
                cell.unusable += 1
            self._decider.answered(cell)

    def _skipped(self, event: Skipped, out: list[Action]) -> None:
        for key in event.keys:
            asked = self._views.pop(key, None)
            if asked is None:
                out.append(_unexpected(key))
                continue
            self.ledger.views.skipped["late"] += 1
            self._decider.answered(asked[0])

    def _receipt(self, receipt: Receipt, out: list[Action]) -> None:
        if receipt.command not in self._decider.commands:
            detail = f"command {receipt.command} was never sent, or has its receipt already"
            out.append(Alarm("unexpected_receipt", detail))
            return
        if receipt.kind is ReceiptKind.REFUSED and receipt.reason == DUPLICATE:
            # it came there twice: what became of the first one is still to be said, and may be that it fired
            out.append(Alarm("unexpected_receipt", f"command {receipt.command} reached the sorter more than once"))
            return
        self._decider.commands.remove(receipt.command)
        match receipt.kind:
            case ReceiptKind.FIRED:
                self.ledger.commands.fired += 1
            case ReceiptKind.REFUSED:
                self.ledger.commands.refused += 1
            case _:
                assert_never(receipt.kind)

    # ---- arming, gates and the end ---------------------------------------------------------------------------------

    def _arm(self, out: list[Action]) -> None:
        standing = self._watches.active
        if standing:
            out.append(ArmingRefused("; ".join(f"{name}: {detail}" for name, detail in standing.items())))
            return
        self._decider.armed = True

    def _check_gates(self, event: EditGates) -> None:
        if self._ended:
            raise SettingsError("the run has ended: its gates stay as they are")
        check_gates(self._settings.model_copy(update={"outlets": event.outlets}), self._classes)

    def _edit_gates(self, event: EditGates, out: list[Action]) -> None:
        """Put other gates in force. Which cells they judge follows capture time, so a replay can do the same."""
        before = self._decider.gates
        self._decider.gates = GateSet(event.outlets, self._classes, before.revision + 1, before)
        out.append(GatesSet(before.revision + 1, self._numbers.last + 1, event.by))

    def _disarm(self, reason: str, out: list[Action]) -> None:
        if self._decider.armed:
            self._decider.armed = False
            out.append(Disarmed(reason))

    def _check_alarms(self, out: list[Action]) -> None:
        """Look at the watches; disarm if one is alarmed, and report each alarm once while it holds."""
        self._watches.look(self._tracker.live)
        active = self._watches.active
        for name, detail in active.items():
            if name not in self._told:
                out.append(Alarm(name, detail))
            self._disarm(f"{name}: {detail}", out)
        self._told = set(active)

    def _end(self, out: list[Action]) -> None:
        if self._ended:
            return
        self._ended = True
        self._depart(self._tracker.end())
        self._check_alarms(out)
        self._decider.end()

    def _finish(self, out: list[Action]) -> None:
        self._finished = True
        self._decider.finish(self._now_ns, out)
        if self._views:
            self.ledger.views.skipped["run_ended"] += len(self._views)
            self._views.clear()


def _unexpected(key: tuple[int, int]) -> Alarm:
    return Alarm("unexpected_score", f"view {key[1]} of frame {key[0]}: not asked for, or answered before")


def _finite(seen: Detection) -> bool:
    """Whether an object has a place at all."""
    return seen.x_um - seen.x_um == 0.0 and seen.y_um - seen.y_um == 0.0
