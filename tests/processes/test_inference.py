"""Between the sort core and the engine: what cannot be used is waste, counted, and never a command."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from numpy.typing import NDArray

from hspc_live.core.errors import ModelError
from hspc_live.core.events import Arm, Classify, Closed, Command, Ended, Finished, FrameSeen, Scored, Tick
from hspc_live.core.values import CellOutcome, Detection, Pixels
from hspc_live.processes.inference import Inference
from hspc_live.settings.sort import CloseSettings, Outlet, ScoreGate, SortSettings, TimingSettings, TrackSettings
from hspc_live.stages.sort_core import SortCore

MS = 1_000_000
CROP = np.zeros((8, 8), np.uint8)


class Engine:
    """Scores every crop with the same row."""

    name, precision, classes, buckets = "stub", "fp32", ("wanted", "other"), (1, 2, 4)

    def __init__(self, row: tuple[float, float]) -> None:
        self._row = row
        self.batches: list[int] = []

    def warm_up(self) -> dict[int, float]:
        return {1: 1.0, 2: 1.0, 4: 1.0}

    def infer(self, crops: Pixels) -> NDArray[np.float32]:
        self.batches.append(len(crops))
        return np.tile(np.float32(self._row), (len(crops), 1))

    def close(self) -> None:
        pass


SETTINGS = SortSettings(
    track=TrackSettings(velocity_um_s=1000.0, velocity_sd_um_s=100.0),
    close=CloseSettings(views=2, decision_line_um=90.0),
    outlets=(Outlet(name="wanted", gate=ScoreGate(class_name="wanted", min=0.5), mode="recovery"),),
    timing=TimingSettings(junction_um=600.0),
)


def seen(index: int) -> FrameSeen:
    """One cell that moves 10 µm a frame of 10 ms."""
    x = 10.0 + 10.0 * index
    one = Detection(x, 20.0, 50.0, 8.0, 0.01, 100.0, 5.0, 0.5, 0, 0, 8, 8, 0)
    return FrameSeen(index, (index + 1) * 10 * MS, (one,))


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        ((0.9, 0.1), CellOutcome.SORTED),
        ((float("nan"), 0.1), None),
        ((float("nan"), float("nan")), None),
        ((float("inf"), 0.0), None),
    ],
)
def test_scores_that_are_no_numbers_make_waste_and_are_counted(row, outcome):
    core, engine = SortCore(SETTINGS, Engine.classes), Inference(Engine(row), {1: 1.0, 4: 1.0})
    core.feed(Arm("test"), 0)
    actions = []
    for index in range(8):
        now_ns = (index + 1) * 10 * MS
        for action in core.feed(seen(index), now_ns):
            actions.append(action)
            if isinstance(action, Classify):
                engine.add(action, CROP)
        scored = engine.run_all()
        if scored is not None:
            actions += core.feed(scored, now_ns)
    actions += core.feed(Tick(500 * MS), 500 * MS)
    actions += core.feed(Ended(), 600 * MS)
    actions += core.feed(Finished(), 2000 * MS)
    [closed] = [a.record for a in actions if isinstance(a, Closed)]
    commands = [a for a in actions if isinstance(a, Command)]
    ledger = core.ledger
    assert ledger.balanced() == []
    if outcome is CellOutcome.SORTED:
        assert (closed.outcome, closed.reason, len(commands)) == (outcome, "", 1)
    else:
        assert closed.outcome in (CellOutcome.UNRESOLVED, CellOutcome.ABSTAINED, CellOutcome.ABORTED), closed
        assert closed.outlet is None and commands == [], "nothing is ever sorted on scores that are no numbers"
        assert ledger.views.skipped["nan"] == 2 and ledger.views.classified == 0


def request(number: int, deadline_ns: int) -> Classify:
    return Classify(number, 0, number, deadline_ns)


async def test_the_engine_takes_what_waits_when_it_is_free_and_the_late_is_given_back():
    stub = Engine((0.5, 0.5))
    engine = Inference(stub, {1: 1.0, 2: 1.0, 4: 1.0})
    for number, deadline_ns in enumerate((0, 90 * MS, 80 * MS, 70 * MS, 60 * MS, 50 * MS)):
        engine.add(request(number, deadline_ns), CROP)
    skipped = engine.start(10 * MS)
    assert skipped is not None and skipped.keys == ((0, 0),)
    assert engine.start(10 * MS) is None, "one batch at a time"
    assert engine.under_way is not None
    await asyncio.wait_for(engine.under_way, 30)
    first = engine.collect()
    assert first is not None and first.keys == ((5, 0), (4, 0), (3, 0), (2, 0))
    assert engine.start(10 * MS) is None and engine.under_way is not None
    await asyncio.wait_for(engine.under_way, 30)
    second = engine.collect()
    assert second is not None and second.keys == ((1, 0),)
    assert engine.idle and stub.batches == [4, 1] and engine.views == 5


def test_replay_s_batches_follow_from_the_keys_alone():
    orders = ((3, 1, 2), (1, 2, 3))
    scored: list[Scored | None] = []
    for order in orders:
        engine = Inference(Engine((0.5, 0.5)), {4: 1.0})
        for number in order:
            engine.add(request(number, 0), CROP)
        scored.append(engine.run_all())
        assert engine.idle and engine.run_all() is None
    assert scored[0] is not None and scored[1] is not None
    assert scored[0].keys == scored[1].keys == ((1, 0), (2, 0), (3, 0))


# ---- an engine that fails --------------------------------------------------------------------------------------------


class Small(Engine):
    """Has memory for batches of `most` crops."""

    def __init__(self, most: int) -> None:
        super().__init__((0.5, 0.5))
        self.most = most

    def infer(self, crops: Pixels) -> NDArray[np.float32]:
        scores = super().infer(crops)
        if len(crops) > self.most:
            raise MemoryError(f"no memory for {len(crops)}")
        return scores


async def batch(engine: Inference, views: int, now_ns: int) -> Scored:
    for number in range(views):
        engine.add(request(number + now_ns // MS, now_ns + 1000 * MS), CROP)
    assert engine.start(now_ns) is None and engine.under_way is not None
    await asyncio.wait({engine.under_way}, timeout=30)
    scored = engine.collect()
    assert scored is not None
    return scored


async def test_an_engine_out_of_memory_gets_smaller_batches_from_then_on():
    stub = Small(2)
    engine = Inference(stub, {1: 1.0, 2: 1.0, 4: 1.0})
    assert np.isfinite((await batch(engine, 4, 10 * MS)).scores).all(), "nothing is lost by it"
    assert stub.batches == [4, 2, 2] and engine.smaller == 2
    assert len((await batch(engine, 4, 20 * MS)).keys) == 2
    assert engine.drift is None and engine.failure is None


async def test_one_that_is_out_of_memory_again_is_not_trusted_and_its_views_are_waste():
    stub = Small(2)
    engine = Inference(stub, {1: 1.0, 2: 1.0, 4: 1.0})
    await batch(engine, 4, 10 * MS)
    stub.most = 0
    second = await batch(engine, 2, 20 * MS)
    assert second.scores.shape == (2, 2) and np.isnan(second.scores).all()
    assert engine.drift is not None and "out of memory" in engine.drift and engine.failure == engine.drift
    assert engine.idle, "it can be examined and tried again, once a person wants that"


async def test_an_engine_that_breaks_is_not_trusted_and_its_views_are_waste():
    class Broken(Engine):
        def infer(self, crops: Pixels) -> NDArray[np.float32]:
            raise RuntimeError("an illegal instruction")

    engine = Inference(Broken((0.5, 0.5)), {1: 1.0, 2: 1.0})
    scored = await batch(engine, 2, 10 * MS)
    assert np.isnan(scored.scores).all() and engine.drift is not None and "illegal instruction" in engine.drift


async def test_a_probe_that_fails_is_nobody_s_score_but_it_is_said():
    """Everything is thought to be too late: one view is timed again, and that one fails."""
    engine = Inference(Small(0), {1: 1.0})
    engine.add(request(1, 1 * MS), CROP)
    skipped = engine.start(10 * MS)
    assert skipped is not None and skipped.keys == ((1, 0),) and engine.under_way is not None
    await asyncio.wait({engine.under_way}, timeout=30)
    assert engine.collect() is None
    assert engine.idle and engine.failure is not None and "out of memory" in engine.failure


def test_in_a_replay_no_memory_is_an_error_that_names_the_mend():
    engine = Inference(Small(2), {4: 1.0})
    for number in range(4):
        engine.add(request(number, 0), CROP)
    with pytest.raises(ModelError, match=r"engine\.buckets"):
        engine.run_all()
