"""Host time, real and virtual, in nanoseconds.

The whole pipeline speaks one time: `time.perf_counter_ns()` of the host, which on Linux is CLOCK_MONOTONIC and
therefore the same in every process of one machine. Replay and virtual-time tests hand the same code a `VirtualClock`.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
NS_PER_US = 1_000


class Clock(Protocol):
    """Something that tells the host-monotonic time in nanoseconds."""

    def now_ns(self) -> int:
        """Nanoseconds on the host's monotonic clock."""
        ...


class HostClock:
    """The host's monotonic clock."""

    __slots__ = ()

    def now_ns(self) -> int:
        """Nanoseconds of `time.perf_counter_ns`."""
        return time.perf_counter_ns()


class VirtualClock:
    """A clock that only moves when told to, and never backwards."""

    __slots__ = ("_now_ns",)

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """The virtual now."""
        return self._now_ns

    def advance_to(self, now_ns: int) -> None:
        """Move to `now_ns`; an earlier time leaves the clock where it is."""
        self._now_ns = max(self._now_ns, now_ns)


_set_by = timedelta(0)


def calendar() -> datetime:
    """The date and time of day, UTC. Anybody may set it at any moment: dates rest on it, and nothing else."""
    return datetime.now(UTC) + _set_by


def set_calendar(by: timedelta) -> None:
    """Set this process's `calendar` as somebody may set the computer's. For fault plans."""
    global _set_by
    _set_by += by
