"""The pictures as a user finds them: which files a run leaves, and that they show something."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from hspc_live.core.errors import RecordingError
from hspc_live.report.draw import draw
from hspc_live.report.evidence import gather

LIVE = {"latency_ms": {"from": "mid-exposure"}, "sort": {"predicted_purity": 0.7, "predicted_interval": [0.4, 0.95]}}


def shows_something(path: Path) -> bool:
    """A picture of slide size with more than text on white."""
    picture = cv2.imread(str(path))
    assert picture is not None, f"{path} is no picture"
    return picture.shape[1] >= 1366 and picture.shape[0] >= 300 and len(np.unique(picture)) > 40


def names(paths: list[Path]) -> set[str]:
    return {"overlay" if path.name.startswith("overlay_") else path.stem for path in paths}


def test_a_run_on_the_twin_leaves_every_picture(write_run):
    paths = draw(write_run(), LIVE)
    assert names(paths) == {"overlay", "gallery", "latency", "confusion", "sort"}
    assert all(shows_something(path) for path in paths)
    assert all(path.parent.name == "figures" for path in paths)


def test_drawing_again_replaces_the_pictures(write_run):
    folder = write_run()
    assert draw(folder, LIVE) == draw(folder, LIVE)


def test_without_truth_only_what_needs_it_is_left_out(write_run):
    paths = draw(write_run(truth=False), LIVE)
    assert names(paths) == {"overlay", "gallery", "latency"}
    assert all(shows_something(path) for path in paths)


def test_without_kept_frames_there_are_no_overlays(write_run):
    assert names(draw(write_run(frames=False), LIVE)) == {"gallery", "latency", "confusion", "sort"}


def test_a_replay_shows_no_latency_because_its_clock_is_virtual(write_run):
    assert "latency" not in names(draw(write_run(), {"latency_ms": {"from": "hand-over"}}))


def test_a_run_without_cells_is_no_error(write_run):
    assert names(draw(write_run(cells=()), LIVE)) <= {"overlay", "gallery", "sort"}


def test_an_overlay_outlines_a_cell_in_the_colour_of_its_class(write_run):
    [first, *_] = sorted(path for path in draw(write_run(), LIVE) if path.name.startswith("overlay_"))
    picture = cv2.imread(str(first)).astype(int)[80:-80]  # without heading and legend
    orange = np.array([0x00, 0x9F, 0xE6])  # LT-HSC, in OpenCV's order
    assert np.count_nonzero(np.abs(picture - orange).max(axis=2) < 12) > 200


def test_a_missing_recording_is_said(tmp_path):
    with pytest.raises(RecordingError, match=r"recording\.rtdc"):
        draw(tmp_path, {})


@pytest.mark.parametrize(
    ("made", "summary", "said"),
    [
        ({}, {}, "Digital twin, simulated cells"),
        ({"replay": "/data/demo.rtdc"}, {}, "Digital twin, simulated cells (replay of demo.rtdc)"),
        ({"replay": "/data/blood.rtdc", "model": "RT-DC"}, {}, "Recording blood.rtdc"),
        ({"model": "Andor Zyla"}, {}, "sample, run 20240607T000000Z-abcdef"),
        ({}, {"engine": {"name": "null"}}, "Digital twin, simulated cells · null engine: says the first class"),
        ({"card": "modality: brightfield"}, {}, "the model knows only brightfield: its verdicts mean nothing"),
    ],
)
def test_every_title_says_whose_data_it_is(write_run, made, summary, said):
    with gather(write_run(**made), summary) as evidence:
        assert said in evidence.source
