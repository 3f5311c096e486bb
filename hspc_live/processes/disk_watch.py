"""Says in good time that the disk of a recording will be full, while a person can still do something about it."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

from hspc_live.recording.room import room_left, seconds_left

EVERY_S = 1.0
OVER = 60  # looks that the rate is taken over: a minute
WARN_S = (600.0, 60.0)
"""Said when no more than this is left, once each."""


class DiskWatch:
    """The recording at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._looks: deque[tuple[float, int]] = deque(maxlen=OVER)
        self._said = float("inf")

    def look(self) -> str | None:
        """A warning, if one is due. Call it as often as you like."""
        now = time.monotonic()
        if self._looks and now - self._looks[-1][0] < EVERY_S:
            return None
        try:
            self._looks.append((now, self._path.stat().st_size))
            left_s = seconds_left(list(self._looks), room_left(self._path))
        except OSError:  # moved away, say: writing goes on, and will say what is wrong
            return None
        if left_s is None:
            return None
        passed = min((limit for limit in WARN_S if left_s <= limit), default=None)
        if passed is None or passed >= self._said:
            return None
        self._said = passed
        return f"the disk of {self._path} is full in about {left_s:.0f} s: end the run, or make room"
