"""From the core's time of a frame to host time, and to mid-exposure.

The core stamps every frame with the computer's local time when it gets it. What counts is how long it has waited since
(its residency in the buffer): that is taken at the pop, against the same clock, so that neither an adjusted clock nor
the change to summer time reaches further back than that wait. Mid-exposure lies half an exposure and the transfer
before the core had the frame; what is not known of the transfer is part of the stated uncertainty.
"""

from __future__ import annotations

import math
import time
from datetime import datetime

from hspc_live.core.clock import NS_PER_MS

_STEADY_NS = 50_000  # the two clocks are read within this, or once more
_TRIES = 4


def residency_ns(received: str) -> tuple[int, int]:
    """How long ago the core had a frame, and the host time now, both ns.

    `received` is local time as the core writes it. A clock that was set meanwhile could give a negative wait: then 0.
    Raises ValueError for text that is no time.
    """
    there = datetime.fromisoformat(received)
    for _ in range(_TRIES):
        before_ns = time.perf_counter_ns()
        here = datetime.now()
        now_ns = time.perf_counter_ns()
        if now_ns - before_ns < _STEADY_NS:  # else we were interrupted between the two
            break
    waited = here - there
    waited_us = waited.days * 86_400_000_000 + waited.seconds * 1_000_000 + waited.microseconds
    return max(0, waited_us * 1000), now_ns


def behind_ns(exposure_ms: float, transfer_ms: float) -> int:
    """How long after mid-exposure the core has a frame."""
    return round((exposure_ms / 2 + transfer_ms) * NS_PER_MS)


def time_sd_us(transfer_ms: float | None, transfer_sd_ms: float, frames_per_s: float, jitter_ms: float) -> float:
    """By how much `captured_ns` may be off, one standard deviation in µs.

    A transfer that nobody measured is counted as 0, and lies anywhere in one frame period: root mean square period/√3.
    """
    unknown_ms = 1e3 / frames_per_s / math.sqrt(3) if transfer_ms is None else transfer_sd_ms
    return 1e3 * math.hypot(unknown_ms, jitter_ms)
