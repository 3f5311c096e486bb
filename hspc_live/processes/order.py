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
    """Restores order. `deadline_ns` (from hand-over; None waits for ever) is when a missing result is given up."""

    def __init__(self, deadline_ns: int | None) -> None:
        self._deadline_ns = deadline_ns
        self._log: deque[Entry] = deque()
        self._results: dict[int, FrameResult] = {}
        self._lost: dict[int, str] = {}
        self._passed = -1  # the log's numbers only grow; up to here everything is settled
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
        """What acquire captured next."""
        self._log.extend(entries)

    def result(self, result: FrameResult) -> None:
        """A worker's result; a second one, or one that comes after its frame was given up, is counted and ignored.

        acquire leases a frame before it logs it, and on another link: a result may come before its log entry, so
        unknown frames are kept until the log reaches them.
        """
        if result.index <= self._passed or result.index in self._results:
            self.unexpected += 1
            return
        self._results[result.index] = result

    def lost(self, indices: Iterable[int], reason: str) -> None:
        """These will never have a result: acquire says so."""
        self._lost.update((index, reason) for index in indices if index > self._passed)

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
            self._passed = entry.index
        return settled

    def _overdue(self, entry: Entry, now_ns: int) -> bool:
        return self._deadline_ns is not None and now_ns - entry.received_ns > self._deadline_ns
