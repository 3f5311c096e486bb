"""A sorter with faults: it refuses, its wire is dead for a while, commands reach it late."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence

from hspc_live.core.clock import NS_PER_MS
from hspc_live.core.errors import DeviceError
from hspc_live.core.protocols import Sorter
from hspc_live.core.values import Receipt, ReceiptKind, SortCommand
from hspc_live.faults.schedule import Injector
from hspc_live.settings.faults import SorterLate, SorterNak, SorterSilence

PATIENCE_S = 1.0
"""How long a driver hears nothing before it says that its device is silent."""


class FaultySorter:
    """A `core.protocols.Sorter` around another one. It repeats no command: one that fails has failed."""

    def __init__(self, sorter: Sorter, injector: Injector) -> None:
        self._sorter = sorter
        self._injector = injector
        self._naks: deque[SorterNak] = deque()
        self._refused: list[Receipt] = []
        self._lates: deque[SorterLate] = deque()
        self._on_the_way: deque[tuple[int, SortCommand]] = deque()  # arrives at, command
        self._silent_since: float | None = None
        self._silent_until = 0.0

    def open(self) -> None:
        """As the sorter's."""
        self._sorter.open()

    @property
    def armed(self) -> bool:
        """By the device's last word, as the sorter's."""
        return self._sorter.armed

    @property
    def clock_bound_ns(self) -> int:
        """As the sorter's."""
        return self._sorter.clock_bound_ns

    @property
    def faults(self) -> Mapping[str, int]:
        """As the sorter's."""
        return self._sorter.faults

    def arm(self) -> None:
        """As the sorter's. Raises DeviceError while the wire is dead."""
        if self._dead:
            raise DeviceError("sorter: it does not answer (fault plan: silence)")
        self._sorter.arm()

    def disarm(self) -> None:
        """As the sorter's; over a dead wire it is left to the device's watchdog."""
        self._on_the_way.clear()
        if not self._dead:
            self._sorter.disarm()

    def send(self, command: SortCommand) -> None:
        """As the sorter's, if no fault is in the way."""
        self._strike()
        if self._naks:
            self._injector.done(self._naks.popleft(), f"command {command.command}")
            now_ns = time.perf_counter_ns()
            self._refused.append(Receipt(command.command, ReceiptKind.REFUSED, now_ns, "nak"))
        elif self._dead:
            return
        elif self._lates or self._on_the_way:  # a wire keeps the order: those behind a late one wait for it
            arrives_ns = self._on_the_way[-1][0] if self._on_the_way else 0
            if self._lates:
                fault = self._lates.popleft()
                self._injector.done(fault, f"command {command.command}")
                arrives_ns = max(arrives_ns, time.perf_counter_ns() + round(fault.by_ms * NS_PER_MS))
            self._on_the_way.append((arrives_ns, command))
        else:
            self._sorter.send(command)

    def poll(self) -> Sequence[Receipt]:
        """As the sorter's. Raises DeviceError when the wire has been dead for long."""
        self._strike()
        if self._dead:
            if self._silent_since is not None and time.monotonic() - self._silent_since > PATIENCE_S:
                raise DeviceError(f"sorter: silent for {PATIENCE_S:g} s (fault plan: silence)")
            return ()
        while self._on_the_way and self._on_the_way[0][0] <= time.perf_counter_ns():
            self._sorter.send(self._on_the_way.popleft()[1])
        refused, self._refused = self._refused, []
        return (*refused, *self._sorter.poll())

    def heartbeat(self) -> None:
        """As the sorter's; over a dead wire none arrives."""
        if not self._dead:
            self._sorter.heartbeat()

    def close(self) -> None:
        """As the sorter's."""
        self._sorter.close()

    @property
    def _dead(self) -> bool:
        if self._silent_since is not None and time.monotonic() >= self._silent_until:
            self._silent_since = None
        return self._silent_since is not None

    def _strike(self) -> None:
        for nak in self._injector.due(SorterNak):
            self._naks.extend([nak] * nak.count)
        for late in self._injector.due(SorterLate):
            self._lates.extend([late] * late.count)
        for silence in self._injector.due(SorterSilence):
            self._silent_since = time.monotonic()
            self._silent_until = self._silent_since + silence.seconds
            self._injector.done(silence, f"for {silence.seconds:g} s")
