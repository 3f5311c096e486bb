"""A run on Micro-Manager's own core and DemoCamera: all processes, a recording, every frame accounted for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hspc_live.recording.reader import open_recording
from hspc_live.settings.shipped import shipped_config

Start = Callable[..., Any]


def balanced(summary: dict[str, Any]) -> bool:
    frames = summary["frames"]
    lost = sum(frames["dropped"].values()) + sum(frames["lost"].values())
    return bool(summary["ledger"]["balanced"]) and frames["captured"] == frames["processed"] + lost


def test_the_shipped_demo_camera_runs_and_is_recorded_with_what_it_says_of_itself(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, err = start("run", shipped_config("rigs/demo_camera"), "--for", "2s", "--out", out, "--json").end()
    assert code == 0, err
    summary = json.loads(said)
    assert balanced(summary) and summary["frames"]["processed"] > 10
    assert summary["frames_per_s"] < 150, "ten milliseconds of exposure each"
    with open_recording(out / "recording.rtdc") as recording:
        info = recording.info
        frames = list(recording.frames())
    assert info.model == "DemoCamera/DCam" and info.dtype == "uint16" and info.exposure_us == 10_000
    assert info.time_sd_us >= 500 and "75" in info.device["interface"] and info.device["Camera-PixelType"] == "16bit"
    assert len(frames) > 10 and frames[0].pixels.shape == (128, 512)


@pytest.mark.slow
def test_past_the_rate_that_the_core_holds_every_lost_frame_is_in_the_ledger(start: Start) -> None:
    """Frames come faster than they are fetched: the core throws whole buffers away, and the run counts them."""
    code, said, err = start(
        "run", shipped_config("rigs/demo_camera"), "--for", "3s", "--json",
        "--set", "camera.exposure_ms=0.2", "--set", "camera.core.buffer_mb=1",
        "--set", "camera.properties={PixelType: 16bit, FastImage: 1, OnCameraCCDXSize: 512, OnCameraCCDYSize: 512}",
    ).end()  # fmt: skip
    assert code == 0, err
    summary = json.loads(said)
    assert balanced(summary) and sum(summary["frames"]["dropped"].values()) > 0
