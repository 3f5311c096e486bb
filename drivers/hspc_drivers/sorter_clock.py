"""Two clocks that do not agree: the device's true one, and the host's estimate of it.

`DeviceClock` is the simulation's truth and stays on the device's side (and in its diary). `ClockEstimate` is all the
host ever knows: from pings it bounds the device's reading at any host time, after the intersection principle of NTP's
clock filter (RFC 5905, section 10): the reply was stamped somewhere between sending and receiving, so half the round
trip bounds the error, and every second of age adds what the worst permitted drift can have added.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from hspc_live.core.errors import DeviceError
from hspc_live.settings.devices import SimulatedSorter

WORST_DRIFT = 200e-6
"""Largest relative drift assumed between two quartz clocks (each is specified to ±100 ppm)."""


@dataclass(frozen=True, slots=True)
class DeviceClock:
    """device = host + offset + drift·(host - epoch), all in ns; it was switched on at host time `epoch_ns`."""

    offset_ns: int
    drift: float
    epoch_ns: int

    @classmethod
    def of(cls, settings: SimulatedSorter, epoch_ns: int) -> DeviceClock:
        """The clock these settings describe, switched on at host time `epoch_ns`."""
        return cls(round(settings.clock_offset_ms * 1e6), settings.clock_drift_ppm * 1e-6, epoch_ns)

    def device_ns(self, host_ns: int) -> int:
        """What the device's clock reads at a host time."""
        return host_ns + self.offset_ns + round(self.drift * (host_ns - self.epoch_ns))

    def host_ns(self, device_ns: int) -> int:
        """The host time at which the device's clock reads so."""
        elapsed = (device_ns - self.offset_ns - self.epoch_ns) / (1.0 + self.drift)
        # the large part stays an integer: a float holds monotonic nanoseconds only to some tens of ns
        return self.epoch_ns + round(elapsed)


@dataclass(frozen=True, slots=True)
class _Ping:
    middle_ns: int
    offset_ns: int
    half_trip_ns: int


class ClockEstimate:
    """The host's view of the device's clock, from pings; the newest `memory` are weighed."""

    def __init__(self, memory: int = 64) -> None:
        self._pings: deque[_Ping] = deque(maxlen=memory)

    def add(self, sent_ns: int, device_ns: int, received_ns: int) -> None:
        """One ping: sent and received in host time, stamped by the device in between. Nonsense is left out."""
        if received_ns >= sent_ns:
            middle = (sent_ns + received_ns) // 2
            self._pings.append(_Ping(middle, device_ns - middle, (received_ns - sent_ns + 1) // 2))

    def offset_ns(self, at_host_ns: int) -> tuple[int, int]:
        """(offset, bound): device - host at that host time, and how far it can be off. DeviceError before any ping."""
        if not self._pings:
            raise DeviceError("sorter: the clock offset is unknown, no ping has been answered")
        bound, best = min(
            ((ping.half_trip_ns + round(WORST_DRIFT * abs(at_host_ns - ping.middle_ns)), ping) for ping in self._pings),
            key=lambda pair: (pair[0], -pair[1].middle_ns),
        )
        return best.offset_ns, bound

    def device_ns(self, host_ns: int, now_ns: int) -> int:
        """A host time on the device's clock, by the offset that holds now."""
        return host_ns + self.offset_ns(now_ns)[0]

    def host_ns(self, device_ns: int, now_ns: int) -> int:
        """A device time on the host's clock, by the offset that holds now."""
        return device_ns - self.offset_ns(now_ns)[0]
