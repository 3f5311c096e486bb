"""What keeps a sorter from being armed: lasting reasons refuse at once, passing ones are waited for."""

from __future__ import annotations

import numpy as np
import pytest

from hspc_live.core.errors import ModelError
from hspc_live.core.events import FrameMissing, FrameSeen
from hspc_live.core.protocols import Engine
from hspc_live.core.values import OBJECT_DTYPE, CameraInfo, FrameResult, Modality
from hspc_live.processes.order import Ordered
from hspc_live.processes.self_test import EngineProof, SelfTest, disc_crop, engine_examined, engine_problem
from hspc_live.wire.messages import Entry
from hspc_models.engines.null import ImmediateEngine

MS = 1_000_000
CAMERA = CameraInfo(80, 320, "uint8", 0.25, 100.0, Modality.DIC)


def seen(index: int, *alarms: str) -> Ordered:
    at = index * 10 * MS
    empty = np.empty((0, 64, 64), np.uint8)
    own = tuple(alarm for alarm in alarms if alarm != "frozen")  # that one is found by acquire, not in the frame
    result = FrameResult(index, at, np.empty(0, OBJECT_DTYPE), empty, empty, empty, 0, alarms=own)
    return Ordered(Entry(index, at, at), FrameSeen(index, at, (), alarms=alarms), result, held=True)


def missing(index: int) -> Ordered:
    at = index * 10 * MS
    return Ordered(Entry(index, at, at, "camera"), FrameMissing(index, at, "camera", dropped=True), None, held=False)


def filmed(*frames: Ordered, camera: CameraInfo = CAMERA) -> SelfTest:
    test = SelfTest(camera, max_clock_error_ms=1.0)
    for frame in frames:
        test.frame(frame)
    return test


def test_all_well() -> None:
    found = filmed(seen(0), seen(1), seen(2)).find(50 * MS, (), {}, 100_000)
    assert found.lasting == () and found.passing == ()


@pytest.mark.parametrize(
    ("frames", "now_ns"),
    [((), 0), ((seen(0), seen(1)), 20 * MS), ((missing(0), missing(1), missing(2)), 30 * MS)],
)
def test_without_frames_arming_waits(frames: tuple[Ordered, ...], now_ns: int) -> None:
    found = filmed(*frames).find(now_ns, (), {}, 0)
    assert found.lasting == () and "no frames" in found.passing[0]


def test_frames_that_have_stopped_coming_are_none() -> None:
    test = filmed(seen(0), seen(1), seen(2))
    assert test.find(900 * MS, (), {}, 0).passing == ()
    assert "no frames" in test.find(1100 * MS, (), {}, 0).passing[0]


def test_a_slow_camera_is_given_its_time() -> None:
    slow = CameraInfo(80, 320, "uint8", 0.25, 0.5, Modality.DIC)
    assert filmed(seen(0), seen(1), seen(2), camera=slow).find(15_000 * MS, (), {}, 0).passing == ()


@pytest.mark.parametrize("alarm", ["black", "frozen"])
def test_a_black_or_frozen_picture_is_a_reason_until_it_is_gone(alarm: str) -> None:
    dark = filmed(seen(0), seen(1), seen(2, alarm))
    assert alarm in dark.find(30 * MS, (), {}, 0).passing[0]
    dark.frame(seen(3))
    assert dark.find(40 * MS, (), {}, 0).passing == ()


def test_a_clock_known_too_roughly_is_a_reason() -> None:
    test = filmed(seen(0), seen(1), seen(2))
    assert test.find(30 * MS, (), {}, 1_000_000).passing == ()
    [reason] = test.find(30 * MS, (), {}, 1_500_000).passing
    assert "1.50 ms" in reason and "max_clock_error_ms" in reason


def test_settings_and_standing_alarms_refuse_at_once() -> None:
    found = filmed(seen(0), seen(1), seen(2)).find(30 * MS, ("no population",), {"clog": "one stands still"}, 0)
    assert found.lasting == ("no population", "clog: one stands still")


class Broken(ImmediateEngine):
    """Answers with numbers that are no scores."""

    def infer(self, crops):
        return np.full((len(crops), len(self.classes)), np.nan, np.float32)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_engine_must_give_usable_scores(dtype: type) -> None:
    classes = ("LT-HSC", "ST-HSC", "MPP")
    assert engine_problem(ImmediateEngine(classes), 64, np.dtype(dtype)) is None
    assert "no usable scores" in (engine_problem(Broken(classes), 64, np.dtype(dtype)) or "")


@pytest.mark.parametrize("error", [MemoryError, RuntimeError, ValueError, IndexError, ModelError])
def test_whatever_an_engine_s_check_raises_is_a_reason_not_to_arm(error: type[Exception]) -> None:
    def check(engine: Engine) -> str | None:
        raise error("a bug")

    engine = ImmediateEngine(("LT-HSC", "ST-HSC", "MPP"))
    proof = EngineProof(disc_crop(64), check)
    reason = engine_examined(engine, 64, np.dtype(np.uint8), None, proof)
    assert reason == f"the engine failed its check: {error.__name__}: a bug"
    assert engine_examined(engine, 64, np.dtype(np.uint8), None, None) is None
