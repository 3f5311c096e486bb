"""A recorder that is killed: every acknowledged row reads back, and `recover` makes a file that others open, too."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from dclab.rtdc_dataset import check_dataset

from hspc_live.cli.recordings import recover
from hspc_live.core.errors import DataLoss, OutputError, RecordingError
from hspc_live.recording.reader import open_recording
from hspc_live.recording.rescue import rescue
from tests.recording.test_crash import WRITER

KILLS = 200
CHECKED = 10  # every so many-th is looked at by dclab, too: that takes half a second

# forks itself for each file: a new interpreter for every kill would take minutes
FORKING = """
import os, sys
import h5py, hdf5plugin, numpy
from hspc_live.recording import writer
code = compile(sys.argv[1], "writer", "exec")
print("ready", flush=True)
while path := sys.stdin.readline().strip():
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(path + ".said", os.O_WRONLY | os.O_CREAT), 1)
        sys.argv = ["writer", path, "1"]
        exec(code, {"__name__": "writer"})
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("gone", flush=True)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Recordings whose writers were killed at random moments after their first acknowledged flush."""
    folder = tmp_path_factory.mktemp("killed")
    draw = random.Random(8)
    paths: list[Path] = []
    command = [sys.executable, "-c", FORKING, WRITER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for number in range(KILLS):
            path = folder / f"{number}.rtdc"
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
            pid = int(process.stdout.readline())
            said = path.with_suffix(".rtdc.said")
            while not said.exists() or not said.stat().st_size:
                time.sleep(0.001)
            time.sleep(draw.uniform(0.0, 0.03))
            os.kill(pid, signal.SIGKILL)
            assert process.stdout.readline() == "gone\n"
            paths.append(path)
        process.stdin.close()
    return paths


def test_two_hundred_kills_lose_no_acknowledged_row(killed):
    for path in killed:
        said = path.with_suffix(".rtdc.said").read_text()
        acknowledged = json.loads(said[: said.rfind("\n") + 1].splitlines()[-1])
        with open_recording(path) as recording:
            frames = list(recording.frames())
            assert len(frames) >= acknowledged["frames"] and not recording.closed, path
            last = frames[-1]
            expected = np.random.default_rng(last.index).integers(0, 255, (64, 128)).astype("u1")
            assert last.index == len(frames) - 1 and np.array_equal(last.pixels, expected)
            assert recording.event("bright_avg").tolist() == list(range(recording.n_events))
            assert recording.n_events >= acknowledged["views"]
            assert len(recording.lines("notes")) >= acknowledged["frames"], "one was written with each frame"


def test_what_is_recovered_is_whole_to_others_and_holds_the_same(killed):
    for path in killed[::CHECKED]:
        target = path.with_suffix(".recovered.rtdc")
        saved = rescue(path, target)
        assert saved.unreadable == {}
        violations, _, _ = check_dataset(target)
        assert violations == [], path
        with open_recording(path) as before, open_recording(target) as after:
            assert after.loss is None and not after.closed and not after.exact, "it never says that its run was whole"
            assert saved.rows["frames"] == after.n_frames == before.n_frames
            assert saved.rows["views"] == after.n_events == before.n_events
            for one, other in zip(before.frames(), after.frames(), strict=True):
                assert (one.index, one.captured_ns) == (other.index, other.captured_ns)
                assert np.array_equal(one.pixels, other.pixels)
            assert before.lines("notes") == after.lines("notes")
            np.testing.assert_array_equal(before.event("ml_score_axx"), after.event("ml_score_axx"))
        with h5py.File(target) as file:
            assert len(file["events/image"]) == saved.rows["views"]
            assert file["hspc"].attrs["recovered_from"] == path.name


def test_the_damaged_file_is_not_touched_and_nothing_is_overwritten(killed, tmp_path):
    before = killed[0].read_bytes()
    target = tmp_path / "recovered.rtdc"
    rescue(killed[0], target)
    with pytest.raises(OutputError, match="exists already"):
        rescue(killed[0], target)
    assert killed[0].read_bytes() == before


def test_a_file_that_was_cut_short_as_well_gives_the_rows_that_still_belong_together(killed, tmp_path):
    path = max(killed, key=lambda one: one.stat().st_size)
    cut, target = tmp_path / "cut.rtdc", tmp_path / "recovered.rtdc"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    saved = rescue(cut, target)
    assert saved.unreadable and saved.rows["frames"] > 0
    with open_recording(target) as recording:
        frames = list(recording.frames())
        assert recording.loss is None and [frame.index for frame in frames] == list(range(saved.rows["frames"]))


def test_other_files_are_refused_with_the_reason(tmp_path):
    other = tmp_path / "other.h5"
    with h5py.File(other, "x") as file:
        file["events/image"] = np.zeros((2, 4, 4), "u1")
    with pytest.raises(RecordingError, match="no recording of HSPC Live"):
        rescue(other, tmp_path / "out.rtdc")
    assert not (tmp_path / "out.rtdc").exists()


@pytest.fixture
def broken_off(create, picture, result, tmp_path) -> Path:
    """A run that was broken off: five frames, each with two objects."""
    path = tmp_path / "run.rtdc"
    writer = create(path)
    writer.write_background(0, picture(0), 1.0)
    for index in range(5):
        writer.write_frame(index, index, picture(index), 0)
        writer.write_result(result(index, (0, 0)))
    writer.close(None, None)
    return path


def loses_a_stream(file: h5py.File) -> None:
    del file["hspc/objects"]


def loses_a_group(file: h5py.File) -> None:
    del file["hspc/frames"]


def loses_a_column(file: h5py.File) -> None:
    del file["events/pos_x"]
    file["events/pos_x"] = h5py.SoftLink("/what/was/lost")  # named, and not to be read


def loses_a_text(file: h5py.File) -> None:
    del file["hspc/settings"]
    file["hspc/settings"] = h5py.SoftLink("/what/was/lost")


def loses_rows(file: h5py.File) -> None:
    for name in ("index", "captured_ns", "background", "image"):
        file[f"hspc/frames/{name}"].resize(3, axis=0)


@pytest.mark.parametrize(
    ("damage", "unreadable"),
    [
        (loses_a_stream, {"objects": 10}),
        (loses_a_group, {"frames": 5}),
        (loses_a_column, {"events/pos_x": 10}),
        (loses_a_text, {"hspc/settings": 1}),
        (loses_rows, {"frames": 2}),
    ],
)
def test_what_was_acknowledged_and_is_not_there_is_never_called_whole(broken_off, tmp_path, damage, unreadable):
    assert rescue(broken_off, tmp_path / "whole.rtdc").unreadable == {}
    with h5py.File(broken_off, "r+") as file:
        damage(file)
    saved = rescue(broken_off, tmp_path / "rest.rtdc")
    assert saved.unreadable == unreadable
    assert saved.rows["results"] == 5 and saved.rows["views"] == 10, "the rest is saved"
    with pytest.raises(DataLoss, match=next(iter(unreadable)).replace("_", ".")):
        recover(broken_off, tmp_path / "again.rtdc")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), RuntimeError("no room")])
def test_half_a_file_is_not_left_behind(broken_off, tmp_path, monkeypatch, error):
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr("hspc_live.recording.rescue._rows", fails)
    with pytest.raises((type(error), OutputError)):
        rescue(broken_off, tmp_path / "half.rtdc")
    assert not (tmp_path / "half.rtdc").exists()
