"""Faults of the computer: processes that die, hang or get no time; a disk that is full; a calendar that is set."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import assert_never

from hspc_live.core.clock import set_calendar
from hspc_live.faults.schedule import Injector
from hspc_live.settings.faults import ClockJump, DiskFull, HangProcess, KillProcess, ProcessFault, SlowProcess

CYCLE_S = 0.2  # of a process that gets a share of its time
NEVER = float("inf")
PROCESSES: tuple[type[KillProcess | HangProcess | SlowProcess], ...] = (KillProcess, HangProcess, SlowProcess)


class ProcessFaults:
    """Kills, stops and starts a run's processes. `turn` is called again and again with those that live."""

    def __init__(self, injector: Injector) -> None:
        self._injector = injector
        self._random = random.Random(injector.seed)
        self._still: dict[int, float] = {}  # pid: until when
        self._slow: dict[int, tuple[float, float]] = {}  # pid: until when, share

    def turn(self, living: Mapping[str, int]) -> None:
        """`living` maps role to pid; workers are called segment-…."""
        now = time.monotonic()
        for fault in self._injector.due(PROCESSES):
            if (pid := self._chosen(fault, living)) is None:
                continue
            match fault:
                case KillProcess():
                    _signal(pid, signal.SIGKILL)
                case HangProcess(seconds=seconds):
                    _signal(pid, signal.SIGSTOP)
                    self._still[pid] = NEVER if seconds is None else now + seconds
                case SlowProcess(seconds=seconds, share=share):
                    self._slow[pid] = (now + seconds, share)
                case _:
                    assert_never(fault)
            self._injector.done(fault, f"process {pid}")
        self._go_on(now, set(living.values()))

    def end(self) -> None:
        """The run comes to its end: who was to go on later goes on now, nobody would wake them any more."""
        for pid in (*(pid for pid, until in self._still.items() if until != NEVER), *self._slow):
            _signal(pid, signal.SIGCONT)

    def _chosen(self, fault: ProcessFault, living: Mapping[str, int]) -> int | None:
        """A process that lives and has nothing else to suffer."""
        role = "segment-" if fault.process == "worker" else fault.process
        pids = [pid for name, pid in sorted(living.items()) if name.startswith(role) and pid not in self._still]
        return self._random.choice(pids) if pids else None

    def _go_on(self, now: float, living: set[int]) -> None:
        """Wake those whose time has come; those that get a share of theirs stand still for the rest of each cycle."""
        for pid, until in list(self._still.items()):
            if pid not in living or now >= until:
                del self._still[pid]
                _signal(pid, signal.SIGCONT)
        for pid, (until, share) in list(self._slow.items()):
            over = pid not in living or now >= until
            if over:
                del self._slow[pid]
            if pid not in self._still:
                _signal(pid, signal.SIGCONT if over or now % CYCLE_S < share * CYCLE_S else signal.SIGSTOP)


class FullDisk:
    """Fills the disk that a file grows on, by a limit on the size of this process's files."""

    def __init__(self, injector: Injector, path: Path) -> None:
        self._injector = injector
        self._path = path
        self._before: tuple[int, int] | None = None  # the limits that were in force

    def turn(self) -> None:
        """Called again and again."""
        for fault in self._injector.due(DiskFull):
            import resource  # not on every system; a plan with this fault is refused there

            size = self._path.stat().st_size + fault.left_kb * 1024
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            self._before = self._before or limits
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
            self._injector.done(fault, f"{fault.left_kb} kB are left")

    def empty(self) -> None:
        """There is room again, for whatever else this process has to write."""
        if self._before is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


class Calendar:
    """Sets this process's calendar. `counts`: one process of a run counts it, all do it."""

    def __init__(self, injector: Injector, *, counts: bool) -> None:
        self._injector = injector
        self._counts = counts

    def turn(self) -> None:
        """Called again and again."""
        for fault in self._injector.due(ClockJump):
            set_calendar(timedelta(seconds=fault.by_s))
            if self._counts:
                self._injector.done(fault, f"by {fault.by_s:g} s")


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
        os.kill(pid, number)
