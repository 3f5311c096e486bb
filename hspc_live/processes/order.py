"""Puts what the segment workers return back into capture order. Pure.

acquire's log says what was captured and in which order; results arrive in any order, late, twice or never. `take` gives
the events for the sort core in the log's order and names the frames whose pixels are needed no longer. Live, a frame
without a result is given up at its deadline, so that one lost frame cannot hold up the cells behind it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from hspc_live.core.events import FrameMissing, FrameSeen
from hspc_live.core.values import FrameResult
from hspc_live.wire.messages import Entry


@dataclass(frozen=True, slots=True, eq=False)
class Ordered:
    """One entry of the log, settled. `result` is there for `FrameSeen` only; `held` says whether it has a ring slot."""

    entry: Entry
    event: FrameSeen | FrameMissing
    result: FrameResult | None
    held: bool


class FrameOrder:
    """Restores order. `deadline_ns` (from hand-over; None waits for ever) is when a missing result is given up.

    `most_early` results of frames that are not logged yet are kept, those of the lowest numbers: no more frames than
    the ring has slots can be out at once, so whatever lies beyond was made up.
    """

    def __init__(self, deadline_ns: int | None, most_early: int = 1024) -> None:
        self._deadline_ns = deadline_ns
        self._most_early = most_early
        self._log: deque[Entry] = deque()
        self._results: dict[int, FrameResult] = {}
        self._lost: dict[int, str] = {}
        self._logged = -1  # the log's numbers only grow; up to here everything is logged
        self._awaited: set[int] = set()  # logged and not settled
        self._early: set[int] = set()  # not logged, and there is a result
        self.unexpected = 0

    @property
    def empty(self) -> bool:
        """Whether every logged frame has been taken."""
        return not self._log

    @property
    def waiting(self) -> int:
        """How many logged frames have not been taken."""
        return len(self._log)

    def log(self, entries: Iterable[Entry]) -> None:
        """What acquire captured next. Numbers that do not grow were said before: counted and ignored."""
        for entry in entries:
            if entry.index <= self._logged:
                self.unexpected += 1
                continue
            self._logged = entry.index
            self._log.append(entry)
            self._awaited.add(entry.index)
        for index in [index for index in self._early if index <= self._logged]:
            self._early.remove(index)
            if index not in self._awaited:  # there is no such frame
                self.unexpected += 1
                del self._results[index]

    def result(self, result: FrameResult) -> None:
        """A worker's result; a second one, or one that comes after its frame was given up, is counted and ignored.

        acquire leases a frame before it logs it, and on another link: a result may come before its log entry, so
        unknown frames are kept until the log reaches them.
        """
        known = result.index > self._logged or result.index in self._awaited
        if not known or result.index in self._results:
            self.unexpected += 1
            return
        self._results[result.index] = result
        if result.index > self._logged:
            self._early.add(result.index)
            if len(self._early) > self._most_early:
                self.unexpected += 1
                del self._results[farthest := max(self._early)]
                self._early.remove(farthest)

    def lost(self, indices: Iterable[int], reason: str) -> None:
        """These will never have a result: acquire says so."""
        self._lost.update((index, reason) for index in indices if index > self._logged or index in self._awaited)
        while len(self._lost) > self._most_early:
            del self._lost[max(self._lost)]

    def take(self, now_ns: int) -> list[Ordered]:
        """Everything that is settled at the head of the log."""
        settled: list[Ordered] = []
        while self._log:
            entry = self._log[0]
            reason = self._lost.get(entry.index)
            if entry.missing:
                missing = FrameMissing(entry.index, entry.captured_ns, entry.missing, dropped=True)
                settled.append(Ordered(entry, missing, None, held=False))
            elif (result := self._results.pop(entry.index, None)) is not None:
                alarms = (*result.alarms, entry.alarm) if entry.alarm else result.alarms
                seen = FrameSeen(entry.index, entry.captured_ns, result.detections(), result.over_cap, alarms)
                settled.append(Ordered(entry, seen, result, held=True))
            elif reason is not None or self._overdue(entry, now_ns):
                missing = FrameMissing(entry.index, entry.captured_ns, reason or "no_result_in_time", dropped=False)
                settled.append(Ordered(entry, missing, None, held=True))
            else:
                break
            self._log.popleft()
            self._lost.pop(entry.index, None)
            self._awaited.discard(entry.index)
        return settled

    def _overdue(self, entry: Entry, now_ns: int) -> bool:
        return self._deadline_ns is not None and now_ns - entry.received_ns > self._deadline_ns
