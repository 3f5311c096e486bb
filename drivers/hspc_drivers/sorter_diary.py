"""Turns what the device did (device time) into receipts and diary entries (host time, by the true clock)."""

from __future__ import annotations

from typing import assert_never

from hspc_drivers.sorter_clock import DeviceClock
from hspc_drivers.sorter_device import Answer, ArmedChange, FiredPulse, Output
from hspc_live.core.values import Receipt
from hspc_live.twin.pulses import Armed, DiaryEntry, Pulse


class Bookkeeper:
    """Keeps the diary of one device. `entries` grows as `book` is called."""

    def __init__(self, true_clock: DeviceClock, delay_error_ns: int) -> None:
        self._clock = true_clock
        self._delay_error_ns = delay_error_ns
        self.entries: list[DiaryEntry] = []

    def book(self, outputs: list[Output]) -> list[Receipt]:
        """Write outputs into the diary; returns the answers among them as receipts in true host time."""
        receipts: list[Receipt] = []
        for output in outputs:
            match output:
                case Answer():
                    at_ns = self._clock.host_ns(output.at_ns)
                    receipts.append(Receipt(output.command, output.kind, at_ns, output.reason))
                case FiredPulse():
                    self.entries.append(self._pulse(output))
                case ArmedChange():
                    self.entries.append(Armed(self._clock.host_ns(output.at_ns), output.armed, output.reason))
                case _:
                    assert_never(output)
        return receipts

    def _pulse(self, fired: FiredPulse) -> Pulse:
        return Pulse(
            command=fired.command,
            outlet=fired.outlet,
            opened_ns=self._clock.host_ns(fired.opened_ns),
            closed_ns=self._clock.host_ns(fired.closed_ns),
            device_opened_ns=fired.opened_ns,
            device_closed_ns=fired.closed_ns,
            deflects=fired.deflects,
            delay_error_ns=self._delay_error_ns,
        )
