"""A replay decides as the recording says, at any speed and with any number of workers; what is odd is counted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from hspc_live.recording.reader import open_recording
from hspc_live.settings.load import load
from hspc_live.settings.shipped import shipped_config

REAL = sorted(Path(os.environ["HSPC_REAL_DATA"], "streams").glob("*.rtdc")) if "HSPC_REAL_DATA" in os.environ else []
KEYS = {
    "frames": {"captured", "processed", "dropped", "lost"},
    "views": {"detected", "classified", "rejected", "skipped"},
    "cells": {"tracked", "sorted", "passed", "abstained", "aborted", "unresolved"},
    "commands": {"sent", "fired", "refused", "unacknowledged"},
    "latency_ms": {"n", "p50", "p99", "p999", "max"},
    "deadline": {"met_fraction"},
    "ledger": {"balanced"},
}


def verdicts(summary) -> dict:
    """What of a summary must not depend on speed and workers."""
    return {key: summary[key] for key in ("decisions_sha256", "outcomes_sha256", "frames", "views", "cells", "classes")}


def test_a_run_s_own_recording_decides_the_same_again_and_again(live, replay, replayed):
    first = replayed
    assert first.error is None and first.summary["ledger"]["balanced"]
    assert (
        first.summary["frames"]["captured"] == live.summary["frames"]["captured"]
        and first.summary["cells"]["tracked"] > 5
    )
    for speed, workers in ((None, 1), (None, 2), (4.0, 2)):
        again = replay(live.path, speed=speed, workers=workers).summary
        assert verdicts(again) == verdicts(first.summary), f"speed {speed}, {workers} workers"


def test_a_replay_finds_the_cells_that_the_live_run_found(live, replayed):
    s = replayed.summary
    if live.summary["frames"]["processed"] == 250:  # on a machine that kept up
        assert s["views"]["detected"] == live.summary["views"]["detected"]
        assert s["cells"]["tracked"] == live.summary["cells"]["tracked"]


def test_other_settings_decide_otherwise(live, replay, replayed):
    """The hash is of the verdicts, not of the file's name."""
    one = replayed.summary["decisions_sha256"]
    other = replay(live.path, "sort.outlets.0.gate.class_name=MPP").summary["decisions_sha256"]
    assert one != other


def test_the_real_engine_scores_the_same_at_any_speed_and_worker_count(live, replay):
    torch = ("engine.kind=torch", "engine.model=twin-lsm", "engine.device=cpu", "engine.threads=1")
    one = replay(live.path, *torch)
    two = replay(live.path, *torch, speed=3.0, workers=2)
    assert one.error is None and one.summary["views"]["classified"] > 10
    assert one.summary["engine"]["name"].startswith("torch")
    assert verdicts(one.summary) == verdicts(two.summary)


def test_the_command_prints_one_json_object_and_speaks_on_stderr(live, start, replayed):
    code, out, err = start("replay", live.path, "--speed", "max", "--workers", "2", "--json").end()
    assert code == 0, err
    summary = json.loads(out)
    for key, inner in KEYS.items():
        assert inner <= summary[key].keys(), key
    assert summary["decisions_sha256"] == replayed.summary["decisions_sha256"]
    assert "running" in err and "{" not in err


@pytest.mark.slow
@pytest.mark.skipif("HSPC_REAL_DATA" not in os.environ, reason="HSPC_REAL_DATA is not set")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_real_recordings_decide_the_same_again(path, replay):
    settings = load(shipped_config("replay_rtdc"), ["engine.kind=null"], {})
    runs = []
    for workers in (1, 2):
        pipeline = settings.pipeline.model_copy(update={"workers": workers})
        outcome = replay(path, settings=settings.model_copy(update={"pipeline": pipeline}))
        assert outcome.error is None and outcome.summary["ledger"]["balanced"], outcome.error
        runs.append(outcome.summary)
    with open_recording(path) as recording:
        assert runs[0]["frames"] == {"captured": recording.n_frames, "processed": recording.n_frames} | {
            "dropped": {},
            "lost": {},
        }
    assert runs[0]["views"]["detected"] > 0 and verdicts(runs[0]) == verdicts(runs[1])


# ---- files that nobody here wrote ------------------------------------------------------------------------------------

SHAPE = (80, 320)
Write = Callable[..., Path]


def disc(x: float, y: float = 40.0) -> NDArray[np.uint8]:
    """A dark cell of 9 µm on a bright, slightly noisy field."""
    rng = np.random.default_rng(int(x))
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    distance = np.hypot(xx - x, yy - y) * 0.34
    field = 120.0 + rng.normal(0, 1.0, SHAPE)
    field -= 35.0 * np.exp(-((distance - 4.0) ** 2) / 0.8)
    return field.round().clip(0, 255).astype(np.uint8)


def empty() -> NDArray[np.uint8]:
    return (120 + np.random.default_rng(0).normal(0, 1.0, SHAPE)).round().astype(np.uint8)


@pytest.fixture
def rtdc(tmp_path: Path) -> Write:
    """Writes an RT-DC file of given pictures, one event each, at 3000 frames a second."""

    def write(pictures: list[NDArray[np.uint8]], numbers: list[int] | None = None) -> Path:
        path = tmp_path / "foreign.rtdc"
        numbers = list(range(len(pictures))) if numbers is None else numbers
        with h5py.File(path, "x") as file:
            file.attrs["imaging:pixel size"], file.attrs["imaging:frame rate"] = 0.34, 3000.0
            file["events/frame"] = np.array(numbers, np.uint64)
            file["events/time"] = np.array(numbers) / 3000.0
            shape = (len(pictures), *SHAPE)
            file["events/image"] = np.array(pictures, np.uint8).reshape(shape)
            file["events/image_bg"] = np.full(shape, 120, np.uint8)
        return path

    return write


@pytest.fixture
def foreign():
    return load(shipped_config("replay_rtdc"), ["engine.kind=null"], {})


def test_a_foreign_file_decides_the_same_at_any_speed(rtdc, replay, foreign):
    pictures, numbers = [], []
    for cell in range(12):  # each is seen twice, then nothing for a while
        for look in range(2):
            pictures.append(disc(90.0 + 130.0 * look + cell))
            numbers.append(40 * cell + look)
    path = rtdc(pictures, numbers)
    one = replay(path, settings=foreign)
    assert one.error is None and one.summary["frames"]["captured"] == 24
    assert one.summary["cells"]["tracked"] == 12, one.summary
    pipeline = foreign.pipeline.model_copy(update={"workers": 2})
    two = replay(path, settings=foreign.model_copy(update={"pipeline": pipeline}), speed=0.5)
    assert verdicts(one.summary) == verdicts(two.summary)


def test_black_saturated_frozen_and_crowded_frames_are_counted_and_nothing_breaks(rtdc, replay, foreign):
    """More specks in one frame than the cap: measured up to it, counted beyond it."""
    specks = np.full(SHAPE, 120, np.uint8)
    for y in range(2, SHAPE[0] - 4, 10):
        for x in range(2, SHAPE[1] - 4, 10):
            specks[y : y + 3, x : x + 3] = 20
    black, white = np.zeros(SHAPE, np.uint8), np.full(SHAPE, 255, np.uint8)
    path = rtdc([empty(), black, black, white, specks, disc(100.0), disc(230.0), empty()])
    capped = foreign.segment.model_copy(update={"max_objects": 50})
    outcome = replay(path, settings=foreign.model_copy(update={"segment": capped}))
    s = outcome.summary
    assert outcome.error is None and s["ledger"]["balanced"] and s["frames"]["processed"] == 8
    assert s["alarms"]["black"] == 2 and s["alarms"]["saturated"] == 1 and s["alarms"]["frozen"] == 1, s["alarms"]
    assert s["views"]["skipped"]["over_cap"] >= 200 and 50 <= sum(s["views"]["rejected"].values()) < 60, s["views"]


def test_no_events_at_all_is_a_normal_empty_run(rtdc, replay, foreign):
    outcome = replay(rtdc([]), settings=foreign)
    s = outcome.summary
    assert outcome.error is None and s["ledger"]["balanced"]
    assert s["frames"] == {"captured": 0, "processed": 0, "dropped": {}, "lost": {}}
    assert s["cells"]["tracked"] == 0 and s["latency_ms"]["n"] == 0 and s["deadline"]["met_fraction"] is None


def test_a_truncated_recording_is_replayed_as_far_as_it_goes(live, start, tmp_path):
    """What was readable is decided, the loss is stated, and the exit code tells a script."""
    path = tmp_path / "cut.rtdc"
    whole = live.path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    code, out, err = start("replay", path, "--json", "--set", "engine.kind=null").end()
    assert code in (3, 10), err
    assert str(path) in err and "Traceback" not in err
    if code == 10:
        summary = json.loads(out)
        assert summary["ledger"]["balanced"] and 0 < summary["frames"]["processed"] < 250
    else:
        assert "recover" in err or "truncated" in err, err


def test_a_hole_in_the_pictures_is_stated_and_the_rest_is_decided(rtdc, start):
    path = rtdc([disc(60.0 + 10 * i) for i in range(10)])
    with h5py.File(path, "r+") as file:
        images = file["events/image"][:6]
        del file["events/image"]
        file["events/image"] = images  # fewer pictures than numbers
    code, out, err = start("replay", path, "--json", "--set", "engine.kind=null").end()
    assert code == 10 and str(path) in err, err
    summary = json.loads(out)
    assert summary["frames"]["processed"] == 6 and summary["ledger"]["balanced"]
