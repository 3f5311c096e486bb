"""When a cell is at the junction, how surely, and by when everything about it must be done.

Pure arithmetic on one track's estimate. Two ways to the arrival: calibrated (time at the decision line plus the
measured sort delay, scaled by the measured velocity) or geometric (distance to the junction over velocity). Both are a
distance over a velocity, so they share their error propagation.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from hspc_live.settings.sort import TimingSettings, TrackSettings

NS_PER_MS = 1_000_000
SEND_MARGIN_NS = 500_000
"""A command is not handed over in its last half millisecond: between the decision and the wire lies some time, too."""

SLOWEST = 0.05
"""Share of the prior velocity below which an object counts as standing: it has no arrival."""


class Arrival(NamedTuple):
    """Host time at the junction and its standard deviation, in ns."""

    at_ns: int
    sd_ns: int


class Pulse(NamedTuple):
    """The stretch of time in which the sorter deflects, in ns of host time."""

    start_ns: int
    end_ns: int

    @property
    def width_ns(self) -> int:
        """Length of the pulse."""
        return self.end_ns - self.start_ns


class JunctionTiming:
    """The settings' timing rules, with every unit converted once.

    `time_sd_us` is by how much the camera's times may be off: it is part of every arrival's uncertainty.
    """

    __slots__ = (
        "_commit_lead_ns", "_distance_um", "_k", "_lead_ns", "_max_pulse_ns", "_min_pulse_ns", "_prior_sd",
        "_prior_v", "_scatter", "_slowest", "_time_sd", "refractory_ns", "velocity_um_s",
    )  # fmt: skip

    def __init__(
        self, timing: TimingSettings, track: TrackSettings, decision_line_um: float, time_sd_us: float = 0.0
    ) -> None:
        self._prior_v = track.velocity_um_s
        self._prior_sd = track.velocity_sd_um_s
        self._slowest = SLOWEST * track.velocity_um_s
        self.velocity_um_s = track.velocity_um_s  # what the timing rests on; a drift away from it is an alarm
        if timing.sort_delay_ms is None:
            self._distance_um = timing.junction_um
        else:  # the calibrated delay holds at one velocity; times it, it is the distance that the cells really travel
            self.velocity_um_s = timing.sort_delay_velocity_um_s or track.velocity_um_s
            self._distance_um = decision_line_um + timing.sort_delay_ms * 1e-3 * self.velocity_um_s
        self._scatter = timing.transit_sd_fraction
        self._time_sd = time_sd_us * 1e-6
        self._k = timing.k_sigma
        self._min_pulse_ns = round(timing.min_pulse_ms * NS_PER_MS)
        self._max_pulse_ns = round(timing.max_pulse_ms * NS_PER_MS)
        self._commit_lead_ns = round(timing.commit_lead_ms * NS_PER_MS)
        self._lead_ns = round(timing.device_lead_ms * NS_PER_MS)
        self.refractory_ns = round(timing.refractory_ms * NS_PER_MS)

    def arrival(self, at_ns: int, x_um: float, v_um_s: float, pxx: float, pxv: float, pvv: float) -> Arrival | None:
        """Arrival of an object that was at `x_um` at `at_ns`, with the covariance of its position and velocity.

        First-order propagation of t = L / v, plus the transit's own scatter and what the camera's times are off by.
        None for an object that stands still.
        """
        if v_um_s < self._slowest:
            return None
        transit = (self._distance_um - x_um) / v_um_s
        variance = (pxx + 2.0 * transit * pxv + transit * transit * pvv) / (v_um_s * v_um_s)
        scatter = self._scatter * transit
        sd = math.sqrt(max(variance, 0.0) + scatter * scatter + self._time_sd * self._time_sd)
        return Arrival(at_ns + round(transit * 1e9), round(sd * 1e9))

    def prior_arrival(self, at_ns: int, x_um: float) -> Arrival:
        """Arrival of an object whose velocity says nothing (never measured, or standing still): by the prior."""
        transit = (self._distance_um - x_um) / self._prior_v
        sd = math.hypot(abs(transit) * math.hypot(self._prior_sd / self._prior_v, self._scatter), self._time_sd)
        return Arrival(at_ns + round(transit * 1e9), round(sd * 1e9))

    def window(self, arrival: Arrival) -> Pulse:
        """When an object may be at the junction: arrival ± k sigma."""
        half = round(self._k * arrival.sd_ns)
        return Pulse(arrival.at_ns - half, arrival.at_ns + half)

    def pulse(self, arrival: Arrival) -> Pulse | None:
        """The pulse that catches the object: its window, at least the shortest pulse; None if longer than allowed."""
        half = max(round(self._k * arrival.sd_ns), self._min_pulse_ns // 2)
        if 2 * half > self._max_pulse_ns:
            return None
        return Pulse(arrival.at_ns - half, arrival.at_ns + half)

    def unseen(self, since_ns: int, until_ns: int, line_um: float) -> Pulse | None:
        """When objects may be at the junction that went from the left border past `line_um` between these times.

        None where the time is too short for that: then every one of them is seen before or after.
        """
        if (until_ns - since_ns) * 1e-9 * (self._prior_v + self._k * self._prior_sd) < line_um:
            return None
        first = self.window(self.prior_arrival(since_ns, 0.0))
        last = self.window(self.prior_arrival(until_ns, line_um))
        return Pulse(first.start_ns, last.end_ns)

    def deadline_ns(self, pulse: Pulse) -> int:
        """The last moment at which the sorter may accept a command for `pulse`."""
        return pulse.start_ns - self._lead_ns

    def latest_ns(self, arrival: Arrival) -> int:
        """From this moment on nothing can be done about the object any more.

        An arrival too uncertain to be sorted still has a deadline: that of the longest pulse.
        """
        half = min(max(round(self._k * arrival.sd_ns), self._min_pulse_ns // 2), self._max_pulse_ns // 2)
        return arrival.at_ns - half - self._lead_ns - SEND_MARGIN_NS

    def commit_ns(self, arrival: Arrival) -> int:
        """Capture time from which on coincidence is judged and the command made."""
        return arrival.at_ns - self._commit_lead_ns
