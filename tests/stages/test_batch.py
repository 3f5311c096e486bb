"""The engine takes what can still make it, tightest deadline first, and never waits while something does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hspc_live.core.events import Classify
from hspc_live.stages.batch import next_batch

MS = 1_000_000
NOW_NS = 50 * MS


@st.composite
def tables(draw: st.DrawFn) -> dict[int, float]:
    """Bucket → p99 ms; a larger batch never takes less time."""
    buckets = sorted(draw(st.sets(st.sampled_from([1, 2, 4, 8, 16, 32, 64]), min_size=1)))
    times = sorted(draw(st.lists(st.floats(0, 80), min_size=len(buckets), max_size=len(buckets))))
    return dict(zip(buckets, times, strict=True))


@st.composite
def queues(draw: st.DrawFn) -> list[Classify]:
    deadlines = draw(st.lists(st.integers(0, 300 * MS), max_size=100))
    return [Classify(frame, 0, frame, deadline) for frame, deadline in enumerate(deadlines)]


@given(queues(), tables())
def test_batch_late_and_waiting_are_all_there_is(waiting: list[Classify], p99_ms: dict[int, float]) -> None:
    batch, late = next_batch(waiting, NOW_NS, p99_ms)
    assert len(batch) + len(late) <= len(waiting) and len(set(batch) | set(late)) == len(batch) + len(late)
    assert set(batch) | set(late) <= set(waiting)


@given(queues(), tables())
def test_nothing_is_inferred_that_cannot_make_it_nor_given_up_that_can(
    waiting: list[Classify], p99_ms: dict[int, float]
) -> None:
    batch, late = next_batch(waiting, NOW_NS, p99_ms)
    alone_ns = int(p99_ms[min(p99_ms)] * MS)
    assert all(c.deadline_ns < NOW_NS + alone_ns for c in late)
    assert all(c.deadline_ns >= NOW_NS + alone_ns for c in set(waiting) - set(late))
    if batch:
        bucket = min((b for b in p99_ms if b >= len(batch)), default=max(p99_ms))
        tightest = min(c.deadline_ns for c in batch)
        assert NOW_NS + p99_ms[bucket] * MS <= tightest + 1, "the batch ends before its tightest deadline"


@given(queues(), tables())
def test_earliest_deadline_first_and_never_idle(waiting: list[Classify], p99_ms: dict[int, float]) -> None:
    batch, late = next_batch(waiting, NOW_NS, p99_ms)
    left = set(waiting) - set(batch) - set(late)
    assert batch or not left, "work waits and the engine idles"
    if batch and left:
        assert max(c.deadline_ns for c in batch) <= min(c.deadline_ns for c in left)
        slack_ns = min(c.deadline_ns for c in batch) - NOW_NS
        assert len(batch) == max((b for b in p99_ms if p99_ms[b] * MS <= slack_ns), default=min(p99_ms))


def test_a_tight_cell_gets_a_small_batch_and_a_slack_queue_the_largest() -> None:
    p99_ms = {1: 10.0, 4: 20.0, 16: 60.0}
    slack = [Classify(n, 0, n, NOW_NS + 100 * MS) for n in range(20)]
    assert len(next_batch(slack, NOW_NS, p99_ms)[0]) == 16
    tight = Classify(99, 0, 99, NOW_NS + 15 * MS)
    assert next_batch([*slack, tight], NOW_NS, p99_ms) == ([tight], [])
    gone = Classify(100, 0, 100, NOW_NS + 5 * MS)
    batch, late = next_batch([*slack, gone], NOW_NS, p99_ms)
    assert late == [gone] and len(batch) == 16
