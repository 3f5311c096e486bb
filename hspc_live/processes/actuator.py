"""sort's hand on the sorter: heartbeats, commands out, receipts in, and every way in which it stops being trusted.

A sorter may be absent (nothing is ever armed then), fail, or disarm itself because its watchdog found the host silent.
None of these may pass unnoticed: they come back as a reason to disarm, which the caller feeds to the sort core.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from hspc_live.core.errors import DeviceError
from hspc_live.core.protocols import Sorter
from hspc_live.core.values import Receipt, ReceiptKind, SortCommand

HEARTBEAT_NS = 50_000_000
AT_REST = frozenset({"watchdog", "disarmed"})
"""Refusals that say the device will not take the next command either."""


class Actuator:
    """Wraps `sorter`; without one it takes and says nothing. In replay (`live` False) it beats at every poll."""

    def __init__(self, sorter: Sorter | None, *, live: bool) -> None:
        self._sorter = sorter
        self._live = live
        self._last_heartbeat_ns = 0
        self._armed = False
        self._failure = ""
        self.last_fire_ns = 0

    @property
    def present(self) -> bool:
        """Whether there is a sorter at all."""
        return self._sorter is not None

    @property
    def clock_bound_ns(self) -> int:
        """How far the device's clock may be off the host's idea of it; 0 without a device."""
        return 0 if self._sorter is None else self._sorter.clock_bound_ns

    @property
    def failure(self) -> str:
        """The device's first failure in this run; empty while there was none."""
        return self._failure

    @property
    def faults(self) -> Mapping[str, int]:
        """What the driver has counted as going wrong between host and device."""
        return {} if self._sorter is None else self._sorter.faults

    def arm(self) -> str | None:
        """Let commands through; returns why that is impossible, or None."""
        if self._sorter is None:
            return "no sorter is configured"
        try:
            self._sorter.arm()
        except DeviceError as error:
            return str(error)
        self._armed = True
        return None

    def disarm(self) -> None:
        """Make the sorter safe; harmless at any time."""
        self._armed = False
        if self._sorter is not None:
            self._sorter.disarm()

    def send(self, command: SortCommand) -> str | None:
        """Hand a command over; returns a reason to disarm if it could not be (it stays unacknowledged)."""
        self.last_fire_ns = max(self.last_fire_ns, command.fire_at_ns)
        if self._sorter is None:
            return None
        try:
            self._sorter.send(command)
        except DeviceError as error:
            return self._failed(error)
        return None

    def poll(self) -> tuple[tuple[Receipt, ...], str | None]:
        """Receipts since the last call and, if the device failed or is at rest, the reason to disarm."""
        if self._sorter is None:
            return (), None
        now_ns = time.perf_counter_ns()
        try:
            if now_ns - self._last_heartbeat_ns >= HEARTBEAT_NS or not self._live:
                self._last_heartbeat_ns = now_ns
                self._sorter.heartbeat()
            receipts = tuple(self._sorter.poll())
        except DeviceError as error:
            return (), self._failed(error)
        at_rest = {r.reason for r in receipts if r.kind is ReceiptKind.REFUSED} & AT_REST
        if at_rest or (self._armed and not self._sorter.armed):  # whatever we believe, the device does not sort
            why = ", ".join(sorted(at_rest)) or "by its own word"
            return receipts, f"the sorter has disarmed itself ({why}): was the host silent?"
        return receipts, None

    def _failed(self, error: DeviceError) -> str:
        self._failure = self._failure or str(error)
        return str(error)

    def close(self) -> None:
        """Disarm and let go."""
        if self._sorter is not None:
            self._sorter.close()
