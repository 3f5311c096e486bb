"""What breaks trust while sorting: drifting velocity, a clog, lost focus. Each watch says whether it is alarmed.

The watches roll on while disarmed, so that a person who arms again is told at once if nothing has become better.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from statistics import median

from hspc_live.settings.sort import AlarmSettings
from hspc_live.stages.track import Track

WELL_MEASURED = 0.1
"""Relative standard deviation below which a track's velocity counts for the median."""


class Watches:
    """The three alarms. `active` maps an alarm's name to its explanation while it holds."""

    def __init__(self, settings: AlarmSettings, velocity_um_s: float) -> None:
        self._settings = settings
        self._reference = velocity_um_s
        self._velocities: deque[float] = deque(maxlen=settings.velocity_window)
        self._blurred: deque[bool] = deque(maxlen=settings.window)
        self._blurred_count = 0
        self.active: dict[str, str] = {}

    def departed(self, track: Track) -> None:
        """Take in an object that has left: its velocity if it was measured, and whether it was out of focus."""
        if track.looks > 1 and track.velocity_sd_um_s < WELL_MEASURED * self._reference:
            self._velocities.append(track.v_um_s)
            self._judge_velocity()
        if track.accepted or track.blurred:  # debris and clusters say nothing about focus
            self._judge_blur(track.blurred > track.accepted)

    def _judge_velocity(self) -> None:
        if len(self._velocities) < self._settings.velocity_window:
            return
        middle = median(self._velocities)
        change = middle / self._reference - 1.0
        self._set(
            "velocity_drift",
            abs(change) > self._settings.velocity_drift,
            f"median velocity {middle:.0f} µm/s, {change:+.0%} off the {self._reference:.0f} µm/s that timing rests on",
        )

    def _judge_blur(self, blurred: bool) -> None:
        if len(self._blurred) == self._settings.window:
            self._blurred_count -= self._blurred[0]  # it drops out
        self._blurred.append(blurred)
        self._blurred_count += blurred
        if len(self._blurred) < self._settings.window:
            return
        share = self._blurred_count / len(self._blurred)
        self._set(
            "blur",
            share > self._settings.blur_fraction,
            f"{share:.0%} of the last {len(self._blurred)} objects are out of focus",
        )

    def look(self, live: Iterable[Track]) -> None:
        """Look at the objects in view, once a frame: does one stand still?"""
        longest = max((track.still_frames for track in live), default=0)
        self._set(
            "clog",
            longest >= self._settings.clog_frames,
            f"an object has stood still for {longest} frames",
        )

    def _set(self, name: str, holds: bool, detail: str) -> None:
        if holds:
            self.active[name] = detail
        else:
            self.active.pop(name, None)
