"""Latencies of a run, counted in bins: what they take of memory does not grow with the run."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from hspc_live.core.clock import NS_PER_MS

LEAST_NS: Final = 1_000
STEP: Final = 1.001
"""A bin's upper end over its lower end: percentiles are right to half a thousandth."""

BINS: Final = math.ceil(math.log(1e9) / math.log(STEP)) + 2  # up to 1,000 s; the last one takes the rest
P999_SAMPLES: Final = 1000

_LOG_STEP: Final = math.log(STEP)


class Latencies:
    """Counts of latencies by size. One that is negative counts as 0: clocks of a camera may be off by a little."""

    def __init__(self) -> None:
        self._counts = [0] * BINS  # a list: quicker to count in than an array
        self._n = 0
        self._max_ns = 0

    def add(self, latency_ns: int) -> None:
        """Take one in."""
        place = 0 if latency_ns < LEAST_NS else 1 + int(math.log(latency_ns / LEAST_NS) / _LOG_STEP)
        self._counts[min(place, BINS - 1)] += 1
        self._n += 1
        self._max_ns = max(self._max_ns, latency_ns)

    def report(self) -> dict[str, Any]:
        """`n`, `p50`, `p99`, `p999` (null below 1,000) and `max` in milliseconds; all null when there are none."""
        if not self._n:
            return {"n": 0, "p50": None, "p99": None, "p999": None, "max": None}
        return {
            "n": self._n,
            "p50": self._ms(0.5),
            "p99": self._ms(0.99),
            "p999": self._ms(0.999) if self._n >= P999_SAMPLES else None,
            "max": round(self._max_ns / NS_PER_MS, 3),
        }

    def _ms(self, share: float) -> float:
        """The smallest latency that a `share` of all do not exceed."""
        place = int(np.searchsorted(np.cumsum(self._counts), math.ceil(share * self._n)))
        middle_ns = LEAST_NS * STEP ** (place - 0.5) if place else 0.0
        return round(min(middle_ns, self._max_ns) / NS_PER_MS, 3)
