"""Memory of a run over time: resident memory of this process's children by name, read from /proc while they work."""

from __future__ import annotations

import multiprocessing
import threading
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

EVERY_S: Final = 1.0
WARM_SHARE: Final = 0.2  # of the time: processes still load, the ring and the caches still fill
MIB: Final = 1024.0  # /proc counts kB


class MemoryWatch:
    """`with MemoryWatch() as watch: …`, then `watch.report()`. Linux only; elsewhere the report says so."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._samples: list[tuple[float, dict[str, float]]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory-watch", daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._every_s):
            seen = {}
            for child in multiprocessing.active_children():
                rss = rss_mib(child.pid)
                if rss is not None:
                    seen[child.name.removeprefix("hspc-")] = rss
            if seen:
                self._samples.append((time.monotonic(), seen))

    def report(self, running_s: float) -> dict[str, Any] | None:
        """MiB at the beginning and the end of the last `running_s` seconds (a warm-up left out), and the slope.

        `slope_mib_per_min` is the median of the slopes between samples half of the time apart (after Theil and Sen).
        None where there is nothing to tell: no /proc, or too short a run.
        """
        if not self._samples:
            return None
        names = {name for _, seen in self._samples for name in seen}
        # the last one with everybody there may be of their end
        together = [(at, seen) for at, seen in self._samples if names == seen.keys()][:-1]
        begin = together[-1][0] - running_s * (1 - WARM_SHARE) if together else 0.0
        kept = [(at, seen) for at, seen in together if at >= begin]
        if len(kept) < 4:
            return None
        at = np.array([time_s for time_s, _ in kept])
        by_process = {name: np.array([seen[name] for _, seen in kept]) for name in sorted(names)}
        total = np.sum(list(by_process.values()), axis=0)
        return {
            "seconds": round(float(at[-1] - at[0]), 1),
            "samples": len(kept),
            **_trend(at, total),
            "by_process": {name: _trend(at, values) for name, values in by_process.items()},
        }


def _trend(at: np.ndarray[Any, Any], mib: np.ndarray[Any, Any]) -> dict[str, float]:
    half = len(at) // 2
    slopes = (mib[half:] - mib[: len(mib) - half]) / (at[half:] - at[: len(at) - half])
    return {
        "rss_first_mib": round(float(mib[0]), 1),
        "rss_last_mib": round(float(mib[-1]), 1),
        "slope_mib_per_min": round(float(np.median(slopes)) * 60, 2),
    }


def rss_mib(pid: int | None) -> float | None:
    """Resident memory of a process without the pixels that it shares with others; None where it cannot be read."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    held = {name: value for name, _, value in (line.partition(":") for line in lines)}
    try:
        return sum(int(held[key].split()[0]) for key in ("RssAnon", "RssFile")) / MIB
    except (KeyError, ValueError, IndexError):
        return None
