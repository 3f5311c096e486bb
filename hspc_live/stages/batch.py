"""Which waiting views the engine takes next. Pure; no clock, no engine.

Work-conserving: whenever the engine is free it takes what waits, the tightest deadline first, in the largest bucket
whose measured p99 still fits the tightest slack among those it takes. A view that cannot make it even alone is not
inferred but given back as skipped. There is no fixed window and no waiting for a full bucket. Earliest deadline first
is optimal on one machine (Liu & Layland 1973, J. ACM 20:46).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from statistics import median

from hspc_live.core.clock import NS_PER_MS
from hspc_live.core.events import Classify

MEMORY = 128
ENOUGH = 5


class BucketTimes:
    """How long the engine takes for each bucket, as measured at its warm-up and ever since.

    A machine that was busy while the engine warmed up would otherwise be thought slow for the whole run, and one that
    becomes busy later thought fast. From `ENOUGH` batches of a bucket on, its own p99 (of the last `MEMORY`) counts; a
    bucket is never thought slower than as many single views one after the other.
    """

    def __init__(self, warm_up_p99_ms: Mapping[int, float]) -> None:
        """`warm_up_p99_ms` is bucket → milliseconds; it must not be empty."""
        self._warm_up_ms = dict(warm_up_p99_ms)
        self._recent_ms: dict[int, deque[float]] = {bucket: deque(maxlen=MEMORY) for bucket in warm_up_p99_ms}
        self._table_ms = self._tabulate()

    @property
    def p99_ms(self) -> Mapping[int, float]:
        """Bucket → p99 in milliseconds, as known now."""
        return self._table_ms

    @property
    def single_ms(self) -> float:
        """What the smallest bucket usually takes: the median of its recent batches, before that its warm-up p99."""
        smallest = min(self._warm_up_ms)
        recent = self._recent_ms[smallest]
        return median(recent) if len(recent) >= ENOUGH else self._warm_up_ms[smallest]

    def add(self, views: int, took_ms: float) -> None:
        """Take in one batch of `views` views; batches larger than every bucket tell nothing."""
        bucket = min((b for b in self._recent_ms if b >= views), default=None)
        if bucket is not None:
            self._recent_ms[bucket].append(took_ms)
            self._table_ms = self._tabulate()

    def _tabulate(self) -> dict[int, float]:
        table: dict[int, float] = {}
        for bucket in sorted(self._warm_up_ms):
            recent = sorted(self._recent_ms[bucket])
            p99 = recent[math.ceil(0.99 * len(recent)) - 1] if len(recent) >= ENOUGH else self._warm_up_ms[bucket]
            singly = min((table[b] * bucket / b for b in table), default=math.inf)
            table[bucket] = min(p99, singly)
        return table


def next_batch(
    waiting: Iterable[Classify], now_ns: int, p99_ms: Mapping[int, float], single_ms: float | None = None
) -> tuple[list[Classify], list[Classify]]:
    """Split `waiting` into (batch to infer now, views that cannot make their deadline); the rest keeps waiting.

    `p99_ms` is the engine's own table: bucket size → p99 in milliseconds; it must not be empty. `single_ms` is what the
    smallest bucket usually takes (its p99 if not given): what has less time left than that is given up. The tail
    decides how much to take at once, the usual time whether to try at all, or one slow batch would waste all cells
    after it.
    """
    by_deadline = sorted(waiting, key=lambda c: (c.deadline_ns, c.frame, c.view))
    buckets = sorted(p99_ms)
    soonest_ns = now_ns + int((p99_ms[buckets[0]] if single_ms is None else single_ms) * NS_PER_MS)
    too_late = [c for c in by_deadline if c.deadline_ns < soonest_ns]
    in_time = by_deadline[len(too_late) :]
    if not in_time:
        return [], too_late
    tightest_ns = in_time[0].deadline_ns - now_ns
    size = max((b for b in buckets if p99_ms[b] * NS_PER_MS <= tightest_ns), default=buckets[0])
    return in_time[: min(size, len(in_time))], too_late
