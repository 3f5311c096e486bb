"""A crop whose scores are known rides along; an engine that drifts is found out, and decides nothing meanwhile."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from hspc_live.core.events import Classify
from hspc_live.processes.canary import EVERY_NS, LATEST_NS, canary_of
from hspc_live.processes.inference import Inference
from hspc_live.processes.self_test import disc_crop
from hspc_models.engines.null import ImmediateEngine

MS = 1_000_000
CROP = np.full((16, 16), 7, np.uint8)
BUCKETS = (1, 2, 4)


class Drifting(ImmediateEngine):
    """Scores by brightness, until `by` is set: then everything comes out differently."""

    buckets = BUCKETS  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__(("wanted", "other"))
        self.by = 0.0
        self.most = 99  # crops that it has memory for
        self.batches: list[int] = []

    def infer(self, crops):
        self.batches.append(len(crops))
        if len(crops) > self.most:
            raise MemoryError(f"no memory for {len(crops)}")
        wanted = np.clip(crops.reshape(len(crops), -1).mean(axis=1) / np.iinfo(crops.dtype).max + self.by, 0, 1)
        return np.stack((wanted, 1 - wanted), axis=1).astype(np.float32)


async def scored(inference: Inference, now_ns: int, views: int):
    for view in range(views):
        inference.add(Classify(now_ns // MS, view, view, now_ns + 1000 * MS), CROP)
    assert inference.start(now_ns) is None and inference.under_way is not None
    await asyncio.wait_for(inference.under_way, 30)
    found = inference.collect()
    assert found is not None and found.scores.shape == (len(found.keys), 2)
    return found


def opened() -> tuple[Drifting, Inference]:
    engine = Drifting()
    canary = canary_of(engine, disc_crop(16), np.dtype(np.uint8))
    engine.batches.clear()
    return engine, Inference(engine, dict.fromkeys(BUCKETS, 1.0), canary)


async def test_it_rides_once_a_second_where_there_is_room():
    engine, inference = opened()
    now_ns = 10 * EVERY_NS
    await scored(inference, now_ns, 3)
    await scored(inference, now_ns + 100 * MS, 3)  # too soon
    await scored(inference, now_ns + EVERY_NS, 2)  # a full bucket
    await scored(inference, now_ns + EVERY_NS + 200 * MS, 3)
    await scored(inference, now_ns + EVERY_NS + 200 * MS + LATEST_NS, 4)  # full again, but it has waited long enough
    assert engine.batches == [4, 3, 2, 4, 5]
    assert inference.canary_rides == 3 and inference.views == 15 and inference.drift is None


async def test_an_engine_that_drifts_is_found_out_and_its_scores_are_not_used():
    engine, inference = opened()
    good = await scored(inference, 10 * EVERY_NS, 3)
    assert np.isfinite(good.scores).all()
    engine.by = 0.1
    bad = await scored(inference, 11 * EVERY_NS, 3)
    assert np.isnan(bad.scores).all(), "nothing is decided on what a drifting engine says"
    assert inference.drift is not None and "drifted" in inference.drift


@pytest.mark.parametrize("most", [1, 2])
async def test_it_rides_on_after_an_engine_got_smaller_batches_though_each_of_them_is_full(most):
    engine, inference = opened()
    engine.most = most
    await scored(inference, 10 * EVERY_NS, most)
    assert inference.smaller == most and inference.drift is None and inference.canary_rides == 1
    for second in (12, 14):
        found = await scored(inference, second * EVERY_NS, most)
        assert np.isfinite(found.scores).all()
        assert engine.batches[-2:] == [most, 1], "beside a full batch by itself"
    assert inference.canary_rides == 3 and inference.views == 3 * most
    engine.by = 0.1
    assert np.isnan((await scored(inference, 16 * EVERY_NS, most)).scores).all()
    assert inference.drift is not None and "drifted" in inference.drift


@pytest.mark.parametrize("rows", [0, 2])
async def test_scores_of_another_shape_are_drift(rows):
    class Odd(Drifting):
        def infer(self, crops):
            return np.zeros((rows, 3), np.float32) if self.by else super().infer(crops)

    engine = Odd()
    canary = canary_of(engine, disc_crop(16), np.dtype(np.uint8))
    inference = Inference(engine, dict.fromkeys(BUCKETS, 1.0), canary)
    engine.by = 1.0
    inference.add(Classify(1, 0, 0, 20 * EVERY_NS), CROP)
    inference.start(10 * EVERY_NS)
    assert inference.under_way is not None
    await asyncio.wait_for(inference.under_way, 30)
    inference.collect()
    assert inference.drift is not None and "(2,)" in inference.drift


@pytest.mark.parametrize("by", [float("nan"), float("inf")])
async def test_scores_that_are_no_numbers_are_drift(by):
    engine, inference = opened()
    engine.by = by
    await scored(inference, 10 * EVERY_NS, 1)
    assert inference.drift is not None


async def test_an_examination_runs_when_the_engine_is_free_and_clears_what_the_canary_showed():
    engine, inference = opened()
    engine.by = 0.1
    await scored(inference, 10 * EVERY_NS, 3)
    for answer in ("still wrong", None):
        inference.examine(lambda answer=answer: answer)
        assert inference.examining and inference.examined() is None
        inference.add(Classify(1, 0, 0, 20 * EVERY_NS), CROP)
        inference.start(11 * EVERY_NS)
        assert inference.start(11 * EVERY_NS) is None, "no batch while the engine is being examined"
        assert inference.under_way is not None
        await asyncio.wait_for(inference.under_way, 30)
        assert inference.collect() is None and inference.examined() == (answer,)
        assert not inference.examining and inference.drift is None
        inference.start(11 * EVERY_NS)
        assert inference.under_way is not None
        await asyncio.wait_for(inference.under_way, 30)
        assert inference.collect() is not None and inference.idle


def test_the_canary_comes_at_the_cameras_depth():
    deep = canary_of(Drifting(), disc_crop(16), np.dtype(np.uint16))
    flat = canary_of(Drifting(), disc_crop(16), np.dtype(np.uint8))
    assert deep.crop.dtype == np.uint16
    np.testing.assert_allclose(deep.scores, flat.scores, atol=1e-6)
