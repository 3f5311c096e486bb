"""How long the disk of a recording lasts, looked at from outside the pipeline. No Qt."""

from __future__ import annotations

import shutil
import time
from collections import deque
from pathlib import Path

from hspc_live.recording.room import seconds_left
from hspc_live.view.sums import long_words

EVERY_S = 2.0
OVER = 30  # looks that the rate is taken over: a minute


class Disk:
    """The recording at `path`; None: nothing is recorded."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._looks: deque[tuple[float, int]] = deque(maxlen=OVER)
        self._free: int | None = None
        self._looked = -EVERY_S

    def look(self) -> None:
        """Look at the file and its disk, now and then."""
        now = time.monotonic()
        if self._path is None or now - self._looked < EVERY_S:
            return
        self._looked = now
        try:
            self._looks.append((now, self._path.stat().st_size))
            self._free = shutil.disk_usage(self._path.parent).free
        except OSError:
            self._free = None

    @property
    def left_s(self) -> float | None:
        """Seconds until the disk is full at the present rate; None while that is not known."""
        return None if self._free is None else seconds_left(list(self._looks), self._free)

    def words(self) -> str:
        """The same for a person."""
        if self._path is None:
            return "nothing is recorded"
        if self._free is None:
            return "the recording is not in reach" if self._looked >= 0 else "measuring"
        return f"{long_words(self.left_s)} left ({self._free / 1e9:.0f} GB)"
