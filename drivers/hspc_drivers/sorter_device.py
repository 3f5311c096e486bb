"""The firmware of the simulated sorter: a pure state machine on the device's own clock.

It reads no clock and does no I/O: every call brings the device's time, every answer is returned. The process in
`simulated_sorter` and the virtual one in `virtual_sorter` drive this same machine. Its safety rules do not trust the
host: a command that comes too late, twice or while disarmed is refused; a host that falls silent finds the queue
emptied; a window that was slept through is not fired late, because by then it would take another cell.
"""

from __future__ import annotations

import bisect
import random
from collections.abc import Container
from dataclasses import dataclass
from enum import StrEnum

from hspc_live.core import values
from hspc_live.core.values import ReceiptKind
from hspc_live.settings.devices import SimulatedSorter

_MS = 1_000_000
MAX_WIDTH_NS = 1_000 * _MS
"""Longest pulse: an actuator held open for longer is a mistake."""
HORIZON_NS = 60_000 * _MS
"""How far ahead a pulse may lie: no cell is known so long before, but a clock may be wrong."""


class Refusal(StrEnum):
    """Why the device did not fire; the words stand in receipts and ledgers."""

    DISARMED = "disarmed"
    WATCHDOG = "watchdog"  # the host was silent: queue emptied, nothing accepted until armed anew
    TOO_LATE = "too_late"  # arrived after its deadline, or too short before its window
    DUPLICATE = values.DUPLICATE  # its number is not above all that have come before
    QUEUE_FULL = "queue_full"
    OVERLAP = "overlap"  # its window meets that of another queued command: the actuator cannot be in two places
    INVALID = "invalid"  # a window that ends before it begins, is too long or too far ahead; no such outlet
    SLEPT = "slept"  # the device woke up after the window had passed


@dataclass(frozen=True, slots=True)
class DeviceCommand:
    """Open `outlet` from `opens_ns` to `closes_ns`; not to be accepted after `deadline_ns`. Device time."""

    command: int
    outlet: str
    opens_ns: int
    closes_ns: int
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The device's word on one command; `at_ns` is device time: the opening of the pulse, or the refusal."""

    command: int
    kind: ReceiptKind
    at_ns: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FiredPulse:
    """What the actuator did, in device time. `deflects` False: it failed physically and nobody noticed."""

    command: int
    outlet: str
    opened_ns: int
    closed_ns: int
    deflects: bool


@dataclass(frozen=True, slots=True)
class ArmedChange:
    """The device began or ceased to accept commands."""

    at_ns: int
    armed: bool
    reason: str = ""


Output = Answer | FiredPulse | ArmedChange


class SorterDevice:
    """The device. All times are its own nanoseconds and must not run backwards.

    It opens any outlet that it is told, or only `outlets`. Commands have rising numbers: none can be fired twice, and a
    small device has to remember one number only. `arm`, `disarm`, `heartbeat`, `accept` and `advance` return what
    happened, oldest first. Call `advance` at `next_due_ns()` (or as soon after as the machine allows): pulses open and
    close, and the watchdog trips, there.
    """

    def __init__(self, settings: SimulatedSorter, outlets: Container[str] | None = None) -> None:
        self._outlets = outlets
        self._latency_ns = round(settings.latency_ms * _MS)
        self._lead_ns = max(round(settings.min_lead_ms * _MS), self._latency_ns)
        self._max_queue = settings.max_queue
        self._watchdog_ns = round(settings.watchdog_ms * _MS)
        self._miss_rate = settings.miss_rate
        self._random = random.Random(settings.seed)
        self._armed = False
        self._idle_reason = Refusal.DISARMED
        self._heard_ns = 0
        self._queue: list[DeviceCommand] = []
        self._open: tuple[DeviceCommand, int] | None = None
        self._last = -1

    @property
    def armed(self) -> bool:
        """Whether commands are accepted."""
        return self._armed

    @property
    def queued(self) -> int:
        """Commands accepted and not yet begun."""
        return len(self._queue)

    def next_due_ns(self) -> int | None:
        """When `advance` has something to do next; None while disarmed."""
        if not self._armed:
            return None
        due = self._heard_ns + self._watchdog_ns
        if self._open is not None:
            return min(due, self._open[0].closes_ns)
        return min(due, self._queue[0].opens_ns) if self._queue else due

    def begin(self, now_ns: int) -> list[Output]:
        """A host begins anew: come to rest and forget the numbers of earlier commands."""
        outputs = self.disarm(now_ns)
        self._last = -1
        return outputs

    def arm(self, now_ns: int) -> list[Output]:
        """Accept commands from now on."""
        outputs = self.advance(now_ns)
        self._heard_ns = now_ns
        if not self._armed:
            self._armed = True
            outputs.append(ArmedChange(now_ns, True))
        return outputs

    def disarm(self, now_ns: int) -> list[Output]:
        """Bring the actuator to rest, empty the queue, refuse what comes."""
        outputs = self.advance(now_ns)
        outputs += self._rest(now_ns, Refusal.DISARMED)
        self._idle_reason = Refusal.DISARMED
        return outputs

    def heartbeat(self, now_ns: int) -> list[Output]:
        """The host is alive.

        Booked before anything due is done: when it was the device that slept, a word that waited proves the host awake.
        """
        self.hear(now_ns)
        return self.advance(now_ns)

    def hear(self, now_ns: int) -> None:
        """Reset the watchdog without doing anything that is due."""
        self._heard_ns = now_ns

    def accept(self, command: DeviceCommand, now_ns: int) -> list[Output]:
        """Queue one command, or refuse it; an accepted one is answered when its pulse has ended."""
        outputs = self.heartbeat(now_ns)
        reason = self._objection(command, now_ns)
        if reason is not Refusal.DUPLICATE:
            self._last = command.command
        if reason is None:
            bisect.insort(self._queue, command, key=lambda queued: queued.opens_ns)
        else:
            outputs.append(Answer(command.command, ReceiptKind.REFUSED, now_ns, reason))
        return outputs

    def advance(self, now_ns: int) -> list[Output]:
        """Do everything that is due by `now_ns`."""
        outputs: list[Output] = []
        while (due := self.next_due_ns()) is not None and due <= now_ns:
            host_silent = now_ns >= self._heard_ns + self._watchdog_ns
            if self._open is not None and self._open[0].closes_ns <= now_ns:
                outputs += self._close(now_ns)
            elif host_silent:
                outputs += self._rest(now_ns, Refusal.WATCHDOG)
                self._idle_reason = Refusal.WATCHDOG
            else:
                outputs += self._begin(self._queue.pop(0), now_ns)
        return outputs

    def _objection(self, command: DeviceCommand, now_ns: int) -> Refusal | None:
        """Why this command cannot be taken, or None. A repeated id is a duplicate whatever became of the first."""
        if command.command <= self._last:
            return Refusal.DUPLICATE
        if not self._armed:
            return self._idle_reason
        if not 0 < command.closes_ns - command.opens_ns <= MAX_WIDTH_NS or command.opens_ns > now_ns + HORIZON_NS:
            return Refusal.INVALID
        if self._outlets is not None and command.outlet not in self._outlets:
            return Refusal.INVALID
        if now_ns > command.deadline_ns or now_ns + self._lead_ns > command.opens_ns:
            return Refusal.TOO_LATE
        if len(self._queue) >= self._max_queue:
            return Refusal.QUEUE_FULL
        busy = [*self._queue, self._open[0]] if self._open is not None else self._queue
        if any(command.opens_ns < other.closes_ns and other.opens_ns < command.closes_ns for other in busy):
            return Refusal.OVERLAP
        return None

    def _begin(self, command: DeviceCommand, now_ns: int) -> list[Output]:
        """Open the actuator, unless the whole window was slept through."""
        if now_ns >= command.closes_ns:
            return [Answer(command.command, ReceiptKind.REFUSED, now_ns, Refusal.SLEPT)]
        self._open = (command, now_ns)
        return []

    def _close(self, closed_ns: int) -> list[Output]:
        """End the open pulse and report it; whether it deflected anything, the device cannot know."""
        assert self._open is not None
        command, opened_ns = self._open
        self._open = None
        deflects = self._random.random() >= self._miss_rate
        return [
            FiredPulse(command.command, command.outlet, opened_ns, closed_ns, deflects),
            Answer(command.command, ReceiptKind.FIRED, opened_ns),
        ]

    def _rest(self, now_ns: int, reason: Refusal) -> list[Output]:
        """Cut an open pulse short, refuse all that is queued, disarm."""
        outputs: list[Output] = []
        if self._open is not None:
            outputs += self._close(now_ns)
        outputs += [Answer(command.command, ReceiptKind.REFUSED, now_ns, reason) for command in self._queue]
        self._queue.clear()
        if self._armed:
            self._armed = False
            outputs.append(ArmedChange(now_ns, False, reason))
        return outputs
