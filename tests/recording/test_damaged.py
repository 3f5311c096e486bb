"""Missing, empty, foreign, cut and corrupted files: a clear error, or what is left of them and a word on the rest."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hspc_live.core.errors import HspcError, RecordingError
from hspc_live.recording.inspect import summarise
from hspc_live.recording.reader import open_recording


def test_missing_empty_and_foreign_files_are_named(tmp_path):
    with pytest.raises(RecordingError, match=r"nowhere\.rtdc cannot be opened"):
        open_recording(tmp_path / "nowhere.rtdc")
    with pytest.raises(RecordingError, match="cannot be opened"):
        open_recording(tmp_path)
    (tmp_path / "empty.rtdc").touch()
    with pytest.raises(RecordingError, match=r"empty\.rtdc is empty"):
        open_recording(tmp_path / "empty.rtdc")
    (tmp_path / "notes.rtdc").write_text("these are notes\n" * 100)
    with pytest.raises(RecordingError, match=r"notes\.rtdc is not an HDF5 file"):
        open_recording(tmp_path / "notes.rtdc")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.999])
def test_our_recording_cut_short_gives_its_good_frames(recorded, picture, share):
    path = recorded(60, flush_every=5)
    os.truncate(path, int(path.stat().st_size * share))
    with open_recording(path) as recording:
        frames = list(recording.frames())
        assert "cut short" in recording.loss
        assert all(np.array_equal(f.pixels, picture(f.index)) for f in frames)
        assert len(frames) >= 60 * share - 15
        assert not recording.exact
    assert summarise(path)["loss"] is not None


def test_a_ledger_that_ends_in_the_middle_of_a_line_is_read_up_to_there(recorded):
    path = recorded(20, flush_every=5)
    with open_recording(path) as recording:
        whole = recording.lines("ledger")
    with h5py.File(path, "r+") as file:
        file["hspc/ledger"].resize(file["hspc/ledger"].shape[0] - 3, axis=0)
    with open_recording(path) as recording:
        assert recording.lines("ledger") == whole[:-1] and whole
    assert summarise(path)["frames"] == 20


def test_cut_rtdc_file_gives_its_good_frames(rtdc, picture):
    path = rtdc(chunk=1)
    with h5py.File(path, "r+") as file:  # pictures behind all the rest, as in a file that was written as it ran
        images = file["events/image"][:]
        del file["events/image"]
        dataset = file.create_dataset("events/image", images.shape, "u1", chunks=(1, *images.shape[1:]))
        file.flush()
        dataset[:] = images
    with h5py.File(path) as file:
        ends = [file["events/image"].id.get_chunk_info(i) for i in range(8)]
    os.truncate(path, ends[6].byte_offset + ends[6].size)
    with open_recording(path) as recording:
        frames = list(recording.frames())
        assert [f.index for f in frames] == [11, 12, 15, 16]
        assert "cut short" in recording.loss and "20" in recording.loss
        assert all(np.array_equal(f.pixels, picture(f.index, (40, 96))) for f in frames)


@pytest.mark.parametrize("plain", ["contiguous", "chunked"])
def test_zeros_behind_the_end_are_never_taken_for_pictures(tmp_path, plain):
    path = tmp_path / "plain.rtdc"
    with h5py.File(path, "w") as file:
        file.attrs["imaging:pixel size"], file.attrs["imaging:frame rate"] = 0.3, 100.0
        file["events/frame"] = np.arange(50)
        chunks = None if plain == "contiguous" else (5, 40, 90)
        file.create_dataset("events/image", data=np.full((50, 40, 90), 7, "u1"), chunks=chunks)
    os.truncate(path, path.stat().st_size - 70_000)
    with open_recording(path) as recording:
        frames = list(recording.frames())
        assert 20 < len(frames) < 50 and all((f.pixels == 7).all() for f in frames)
        assert "cannot be read" in recording.loss


def test_a_corrupt_chunk_costs_its_frames_only(rtdc, picture):
    path = rtdc(chunk=1)
    with h5py.File(path) as file:
        chunk = file["events/image"].id.get_chunk_info(3)
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\x5a" * chunk.size)
    with open_recording(path) as recording:
        assert [f.index for f in recording.frames()] == [11, 12, 16, 20]
        assert "pictures of 1 frames cannot be read: 15" in recording.loss


def test_a_frame_that_another_row_still_shows_is_not_lost(rtdc, picture):
    path = rtdc(chunk=1)
    with h5py.File(path) as file:
        chunk = file["events/image"].id.get_chunk_info(4)  # the first of three rows of frame 16
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\x5a" * chunk.size)
    with open_recording(path) as recording:
        frames = {f.index: f.pixels for f in recording.frames()}
        assert np.array_equal(frames[16], picture(16, (40, 96))) and recording.loss is None


def test_a_corrupt_picture_of_ours_is_noticed(recorded, picture):
    path = recorded(8)
    with h5py.File(path) as file:
        chunk = file["hspc/frames/image"].id.get_chunk_info(5)
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset + chunk.size // 2)
        raw.write(b"\x5a")
    with open_recording(path) as recording:
        frames = list(recording.frames())
        assert [f.index for f in frames] == [0, 1, 2, 3, 4, 6, 7] and "cannot be read: 5" in recording.loss
        assert all(np.array_equal(f.pixels, picture(f.index)) for f in frames)


def test_a_corrupt_time_column_is_reconstructed(rtdc):
    path = rtdc()
    with h5py.File(path) as file:
        chunk = file["events/time"].id.get_chunk_info(1)
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(b"\xff" * chunk.size)
    with open_recording(path) as recording:
        assert [f.captured_ns for f in recording.frames()] == [0, 2_000_000, 8_000_000, 10_000_000, 18_000_000]
        assert "events/time cannot be read" in recording.loss


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_ends_in_good_frames_or_a_clear_error(recorded, rtdc, picture, tmp_path_factory, data):
    """Bytes overwritten or cut off anywhere: never a crash of this program, never an error that names no file."""
    folder = tmp_path_factory.mktemp("damage")
    good = recorded(8, name=f"{folder.name}.rtdc") if data.draw(st.booleans()) else rtdc(f"{folder.name}.rtdc", chunk=2)
    content = bytearray(good.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + 8] = data.draw(st.binary(min_size=8, max_size=8))
    del content[data.draw(st.integers(1, len(content))) :]
    bad = Path(folder, "bad.rtdc")
    bad.write_bytes(content)
    try:
        with open_recording(bad) as recording:
            for frame in recording.frames():
                assert frame.pixels.shape == (recording.info.height_px, recording.info.width_px)
            list(recording.rows())
    except HspcError as error:
        assert "bad.rtdc" in str(error)


def test_a_file_whose_description_was_cut_off_says_so(rtdc):
    path = rtdc()
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(RecordingError, match=r"other\.rtdc was cut short"):
        open_recording(path)
