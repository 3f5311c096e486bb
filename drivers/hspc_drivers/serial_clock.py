"""A device's 32-bit microsecond clock, as its host knows it: counted on beyond the wrap, estimated from pings. Pure."""

from __future__ import annotations

from hspc_drivers.serial_protocol import U32, unwrap
from hspc_drivers.sorter_clock import ClockEstimate

TICK_NS = 4000
"""How coarse a small board's clock may be (micros() of a 16 MHz AVR)."""
WORST_DRIFT = 5e-3
"""Ceramic resonators of small boards are specified to ±0.5 %."""
_MOST_PINGS = 64


class SerialClock:
    """Times of the host in ns, times on the wire in µs modulo 2³²."""

    def __init__(self) -> None:
        self._estimate = ClockEstimate(worst_drift=WORST_DRIFT)
        self._last_us: int | None = None
        self._pings: dict[int, int] = {}

    @property
    def known(self) -> bool:
        """Whether any ping has been answered."""
        return self._last_us is not None

    @property
    def waiting(self) -> bool:
        """Whether a ping has not been answered yet."""
        return bool(self._pings)

    def pinged(self, seq: int, sent_ns: int) -> None:
        """Ping number `seq` was sent then, or later."""
        self._pings[seq] = sent_ns
        while len(self._pings) > _MOST_PINGS:
            del self._pings[next(iter(self._pings))]

    def answered(self, seq: int, clock_us: int, received_ns: int) -> None:
        """The device's clock read so between ping `seq` and `received_ns`. An answer to no ping is left out."""
        sent_ns = self._pings.pop(seq, None)
        if sent_ns is not None:
            self._last_us = clock_us if self._last_us is None else unwrap(clock_us, self._last_us)
            self._estimate.add(sent_ns - TICK_NS, self._last_us * 1000, received_ns + TICK_NS)

    def bound_ns(self, at_ns: int) -> int:
        """How far the estimate can be off at that host time. Raises DeviceError before any ping was answered."""
        return self._estimate.offset_ns(at_ns)[1]

    def wire_us(self, host_ns: int) -> int:
        """What the device's clock reads at a host time."""
        return self._estimate.device_ns(host_ns) // 1000 % U32

    def host_ns(self, wire_us: int, now_ns: int) -> int:
        """The host time, near now, at which the device's clock reads so."""
        near_us = self._last_us if self._last_us is not None else wire_us
        return self._estimate.host_ns(unwrap(wire_us, near_us) * 1000, now_ns)
