"""After `kill -9`, or when the disk is full, every row that was acknowledged reads back."""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import time

import numpy as np
import pytest

from hspc_live.recording.inspect import summarise
from hspc_live.recording.reader import open_recording

# writes frames as fast as it can and says after every flush what it has acknowledged; pixels follow from the index
WRITER = """
import json, sys
from pathlib import Path
import numpy as np
from hspc_live.core.values import OBJECT_DTYPE, CameraInfo, FrameResult, Modality
from hspc_live.recording.writer import RecordingWriter

camera = CameraInfo(64, 128, "uint8", 0.25, 100.0, Modality.DIC)
writer = RecordingWriter.create(
    Path(sys.argv[1]), run_id="r", settings_json="{}", camera=camera, classes=("A", "B"), card_yaml="", pipeline_id="",
    versions={}, window=(32, 32), record_frames=True)
flush_every = int(sys.argv[2])
index = 0
while True:
    pixels = np.random.default_rng(index).integers(0, 255, (64, 128)).astype("u1")
    writer.write_frame(index, index * 1000, pixels, 0)
    objects = np.zeros(1, OBJECT_DTYPE)
    objects["brightness"] = index
    window = np.full((1, 32, 32), index % 251, "u1")
    writer.write_result(FrameResult(index, index * 1000, objects, window, window, window * 0 + 1, 0))
    writer.write_scores([(index, 0)], np.array([[index % 7 / 7, 1 - index % 7 / 7]]))
    writer.write_note("tick", "x" * (index % 90), index)
    index += 1
    if index % flush_every == 0:
        print(json.dumps(writer.flush()), flush=True)
"""


@pytest.mark.parametrize("flush_every", [1, 7, 40])
def test_every_acknowledged_row_survives_a_kill(tmp_path, flush_every):
    path = tmp_path / "run.rtdc"
    command = [sys.executable, "-c", WRITER, str(path), str(flush_every)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it is under way
        time.sleep(random.Random(flush_every).uniform(0.05, 0.5))
        process.kill()
        said = process.stdout.read().splitlines()
    acknowledged = json.loads(said[-1]) if said else {"frames": flush_every, "views": flush_every, "notes": 1}

    with open_recording(path) as recording:
        frames = list(recording.frames())
        assert not recording.closed and "crashed" in recording.loss
        assert len(frames) >= acknowledged["frames"] >= flush_every
        assert [f.index for f in frames] == list(range(len(frames)))
        for frame in frames:
            expected = np.random.default_rng(frame.index).integers(0, 255, (64, 128)).astype("u1")
            assert np.array_equal(frame.pixels, expected)
        assert recording.n_events >= acknowledged["views"]
        brightness, scores = recording.event("bright_avg"), recording.event("ml_score_axx")
        assert brightness.tolist() == list(range(recording.n_events))
        assert np.allclose(scores, np.arange(recording.n_events) % 7 / 7)
        assert [row.frame for row in recording.rows()] == list(range(recording.n_events))
        notes = recording.lines("notes")
        assert [note["at_ns"] for note in notes] == list(range(len(notes))) and len(notes) == recording.n_events
    assert summarise(path)["readable_frames"] == len(frames)


@pytest.mark.parametrize("kilobytes", [1900, 2777, 4000])
def test_every_acknowledged_row_survives_a_full_disk(tmp_path, kilobytes):
    """What came behind the last acknowledged flush is half written: none of it may be taken for data."""
    path = tmp_path / "run.rtdc"
    command = [sys.executable, "-c", WRITER, str(path), "10"]
    room = (kilobytes * 1000,) * 2
    full = subprocess.run(
        command, capture_output=True, text=True, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, room)
    )
    assert full.returncode != 0
    assert "could not be written on (File too large): is the disk full?" in full.stderr
    acknowledged = json.loads(full.stdout.splitlines()[-1])
    with open_recording(path) as recording:
        frames = list(recording.frames())
        assert [f.index for f in frames] == list(range(acknowledged["frames"]))
        for frame in frames:
            expected = np.random.default_rng(frame.index).integers(0, 255, (64, 128)).astype("u1")
            assert np.array_equal(frame.pixels, expected)
        assert not recording.closed and recording.loss is not None
        assert recording.event("bright_avg").tolist() == list(range(acknowledged["views"]))
        notes = recording.lines("notes")
        assert [note["at_ns"] for note in notes] == list(range(acknowledged["frames"]))


def test_a_crashed_recording_that_was_also_cut_short_gives_what_is_left(tmp_path):
    path = tmp_path / "run.rtdc"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path), "20"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(6):
            process.stdout.readline()
        process.kill()
    with open_recording(path) as whole:
        n_whole = len(list(whole.frames()))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with open_recording(path) as recording:
        frames = list(recording.frames())
        assert 0 < len(frames) < n_whole
        assert "cannot be read" in recording.loss
        for frame in frames:
            expected = np.random.default_rng(frame.index).integers(0, 255, (64, 128)).astype("u1")
            assert np.array_equal(frame.pixels, expected)
