"""Two clocks that do not agree: the device's true one, and the host's estimate of it.

`DeviceClock` is the simulation's truth and stays on the device's side (and in its diary). `ClockEstimate` is all the
host ever knows: from pings it bounds the device's reading at any host time, after the intersection principle of NTP's
clock filter (RFC 5905, section 10): the reply was stamped somewhere between sending and receiving, so half the round
trip bounds the error, and every second of age adds what the uncertainty of the drift can have added.
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
    """The host's view of the device's clock, from pings; the newest `memory` are weighed.

    `worst_drift` is the largest relative drift that is possible; within it, the drift is estimated.
    """

    def __init__(self, memory: int = 64, worst_drift: float = WORST_DRIFT) -> None:
        self._pings: deque[_Ping] = deque(maxlen=memory)
        self._worst_drift = worst_drift
        self._drift: tuple[float, float] | None = None

    def add(self, sent_ns: int, device_ns: int, received_ns: int) -> None:
        """One ping: sent and received in host time, stamped by the device in between. Nonsense is left out."""
        if received_ns >= sent_ns:
            middle = (sent_ns + received_ns) // 2
            self._pings.append(_Ping(middle, device_ns - middle, (received_ns - sent_ns + 1) // 2))
            self._drift = None

    @property
    def drift(self) -> tuple[float, float]:
        """(drift, bound), relative: how much faster the device's clock runs, and how far that can be off.

        Two pings bound the slope between them, the quicker and the farther apart the better; taken are the quickest of
        the older and of the newer half. A drift that is steady over the pings' few seconds is assumed.
        """
        if self._drift is None:
            self._drift = self._fit()
        return self._drift

    def _fit(self) -> tuple[float, float]:
        worst = self._worst_drift
        half = len(self._pings) // 2
        if half == 0:
            return 0.0, worst
        pings = list(self._pings)
        first, last = (min(part, key=lambda ping: ping.half_trip_ns) for part in (pings[:half], pings[half:]))
        apart_ns = last.middle_ns - first.middle_ns
        if apart_ns <= 0:
            return 0.0, worst
        slope = (last.offset_ns - first.offset_ns) / apart_ns
        off = (first.half_trip_ns + last.half_trip_ns + 2) / apart_ns
        low, high = max(slope - off, -worst), min(slope + off, worst)
        if low > high:  # a clock worse than any that was thought possible: believe what was measured
            low, high = slope - off, slope + off
        # never said to be known better than a hundredth of the worst: temperatures change
        return (low + high) / 2, max((high - low) / 2, worst / 100)

    def offset_ns(self, at_host_ns: int) -> tuple[int, int]:
        """(offset, bound): device - host at that host time, and how far it can be off. DeviceError before any ping."""
        if not self._pings:
            raise DeviceError("sorter: the clock offset is unknown, no ping has been answered")
        drift, drift_bound = self.drift
        bound, best = min(
            ((ping.half_trip_ns + round(drift_bound * abs(at_host_ns - ping.middle_ns)), ping) for ping in self._pings),
            key=lambda pair: (pair[0], -pair[1].middle_ns),
        )
        return best.offset_ns + round(drift * (at_host_ns - best.middle_ns)), bound + 1

    def device_ns(self, host_ns: int) -> int:
        """A host time on the device's clock, by the offset that holds then."""
        return host_ns + self.offset_ns(host_ns)[0]

    def host_ns(self, device_ns: int, now_ns: int) -> int:
        """A device time on the host's clock, by the offset that holds then (`now_ns` is near it)."""
        near_ns = device_ns - self.offset_ns(now_ns)[0]
        return device_ns - self.offset_ns(near_ns)[0]
