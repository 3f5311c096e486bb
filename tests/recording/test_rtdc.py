"""RT-DC files that nobody here wrote: what is in them is replayed, what is odd is said."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from hspc_live.core.errors import RecordingError
from hspc_live.core.values import Modality
from hspc_live.recording.inspect import summarise
from hspc_live.recording.reader import open_recording

REAL = sorted(Path(os.environ["HSPC_REAL_DATA"], "streams").glob("*.rtdc")) if "HSPC_REAL_DATA" in os.environ else []


@pytest.mark.skipif("HSPC_REAL_DATA" not in os.environ, reason="HSPC_REAL_DATA is not set")
def test_real_recordings_are_there():
    assert len(REAL) >= 3


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_real_recordings_give_every_frame_once(path):
    with h5py.File(path) as file:
        numbers, images = file["events/frame"][:].astype(int), file["events/image"][:]
        backgrounds, times = file["events/image_bg"][:], file["events/time"][:]
        scale = float(file.attrs["imaging:pixel size"])
    with open_recording(path) as recording:
        frames = list(recording.frames())
        assert [f.index for f in frames] == sorted(set(numbers.tolist()))
        assert frames[0].captured_ns == 0
        for frame in frames:
            row = int(np.flatnonzero(numbers == frame.index)[0])
            assert np.array_equal(frame.pixels, images[row]) and np.array_equal(frame.background, backgrounds[row])
            assert frame.captured_ns == pytest.approx((times[row] - times[0]) * 1e9, abs=1)
        info = recording.info
        assert info.um_per_px == scale and info.modality is Modality.BRIGHTFIELD and not info.counts_gaps
        assert recording.loss is None and not recording.exact and recording.kind == "rtdc"
        rate = 1e9 * (frames[-1].index - frames[0].index) / frames[-1].captured_ns
        assert info.frames_per_s == pytest.approx(rate, rel=0.01)
        for row in recording.rows():  # the mask is where the row says its cell is
            y, x = np.nonzero(row.mask)
            assert abs(x.mean() * scale - row.pos_x_um) < 1.0 and abs(y.mean() * scale - row.pos_y_um) < 1.0


def frames_of(path, **flags):
    with open_recording(path, **flags) as recording:
        frames = list(recording.frames())
        return frames, recording.warnings, recording.loss, recording.info


def test_repeated_frames_are_one_and_gaps_are_no_drops(rtdc, picture):
    frames, warnings, loss, info = frames_of(rtdc())
    assert [f.index for f in frames] == [11, 12, 15, 16, 20]
    assert [f.captured_ns for f in frames] == [0, 2_000_000, 8_000_000, 10_000_000, 18_000_000]
    assert all(np.array_equal(f.pixels, picture(f.index, (40, 96))) for f in frames)
    assert (warnings, loss, info.counts_gaps) == ([], None, False)


def test_missing_time_is_reconstructed_and_said(rtdc):
    frames, warnings, loss, _ = frames_of(rtdc(changes={"time": None}))
    assert [f.captured_ns for f in frames] == [0, 2_000_000, 8_000_000, 10_000_000, 18_000_000]
    assert loss is None and len(warnings) == 1 and "reconstructed" in warnings[0] and "500" in warnings[0]


@pytest.mark.parametrize("seconds", [[5, 4, 4, 3, 2, 2, 2, 1], [1, 1, 1, 1, 1, 1, 1, 1], [1, 2, 2, np.nan, 4, 4, 4, 5]])
def test_time_that_does_not_advance_is_reconstructed_and_said(rtdc, seconds):
    frames, warnings, _, _ = frames_of(rtdc(changes={"time": np.array(seconds, float)}))
    assert [f.captured_ns for f in frames] == [0, 2_000_000, 8_000_000, 10_000_000, 18_000_000]
    assert "runs backwards" in warnings[0]


def test_missing_rate_follows_from_the_times(rtdc):
    _, warnings, _, info = frames_of(rtdc(changes={"imaging:frame rate": None}))
    assert info.frames_per_s == pytest.approx(500) and "frame rate is missing" in warnings[0]


def test_missing_rate_and_time_take_the_flag_or_a_stated_default(rtdc):
    path = rtdc(changes={"imaging:frame rate": None, "time": None})
    frames, warnings, _, info = frames_of(path)
    assert info.frames_per_s == 2000 and any("--fps" in warning for warning in warnings)
    frames, warnings, _, info = frames_of(path, frames_per_s=250.0)
    assert info.frames_per_s == 250 and frames[1].captured_ns == 4_000_000
    assert not any("--fps" in warning for warning in warnings)


@pytest.mark.parametrize("scale", [None, 0.0, -1.0, float("nan"), "wide"])
def test_missing_scale_asks_for_the_flag(rtdc, scale):
    path = rtdc(changes={"imaging:pixel size": scale})
    with pytest.raises(RecordingError, match=r"other\.rtdc.*--um-per-px"):
        open_recording(path)
    assert frames_of(path, um_per_px=0.3)[3].um_per_px == 0.3


def test_rows_out_of_order_are_replayed_by_frame_number(rtdc, picture):
    frame = np.array([16, 11, 12, 12, 20, 15, 16, 16])
    images = np.stack([picture(int(i), (40, 96)) for i in frame])
    frames, warnings, _, _ = frames_of(rtdc(changes={"frame": frame, "image": images, "time": frame / 500}))
    assert [f.index for f in frames] == [11, 12, 15, 16, 20]
    assert all(np.array_equal(f.pixels, picture(f.index, (40, 96))) for f in frames)
    assert "not in the order" in warnings[0]


def test_rows_of_one_frame_that_show_different_pictures_are_said(rtdc, picture):
    images = np.stack([picture(i, (40, 96)) for i in range(8)])
    frames, warnings, _, _ = frames_of(rtdc(changes={"image": images}))
    assert np.array_equal(frames[1].pixels, images[1])
    assert any("3 rows" in warning for warning in warnings)


def test_missing_frame_numbers_come_from_times_or_rows(rtdc):
    path = rtdc(changes={"frame": None})
    assert len(frames_of(path)[0]) == 5 and "frame numbers are missing" in frames_of(path)[1][0]
    bare = rtdc("bare.rtdc", {"frame": None, "time": None})
    assert len(frames_of(bare)[0]) == 8


def test_unusable_frame_numbers_cost_their_rows_and_that_is_said(rtdc):
    frames, _, loss, _ = frames_of(rtdc(changes={"frame": np.array([11, np.nan, 12.5, 15, 16, 16, 16, -2])}))
    assert [f.index for f in frames] == [11, 15, 16] and "3 rows have no usable frame number" in loss


def test_datasets_of_different_length_are_cut_and_said(rtdc):
    frames, _, loss, _ = frames_of(rtdc(changes={"frame": np.array([11, 12, 12, 15])}))
    assert [f.index for f in frames] == [11, 12, 15] and "events/frame 4" in loss
    path = rtdc("mask.rtdc", {"mask": np.zeros((5, 40, 96), np.uint8)})
    with open_recording(path) as recording:
        assert len(list(recording.frames())) == 5 and len(list(recording.rows())) == 5
        assert "events/mask holds 5 rows, events/image 8" in recording.loss
    short = rtdc("time.rtdc", {"time": np.arange(3.0)})
    frames, warnings, loss, _ = frames_of(short)
    assert len(frames) == 5 and "events/time" in loss and "reconstructed" in warnings[0]


def test_no_background_no_mask_no_position(rtdc):
    path = rtdc(changes={"image_bg": None, "mask": None, "pos_x": None, "pos_y": None})
    assert all(f.background is None for f in frames_of(path)[0])
    with open_recording(path) as recording:
        rows = list(recording.rows())
    assert len(rows) == 8 and rows[0].mask is None and np.isnan(rows[0].pos_x_um)


def test_zero_events_are_a_normal_empty_recording(rtdc):
    columns = ("image", "image_bg", "mask", "frame", "time", "pos_x", "pos_y")
    with h5py.File(rtdc()) as file:
        nothing = {name: file[f"events/{name}"][:0] for name in columns}
    frames, warnings, loss, info = frames_of(rtdc("empty.rtdc", nothing))
    assert (frames, warnings, loss) == ([], [], None) and (info.height_px, info.width_px) == (40, 96)
    assert summarise(rtdc("empty.rtdc", nothing))["events"] == 0


@pytest.mark.parametrize(
    "wrong", [np.zeros((8, 40), np.uint8), np.zeros((8, 40, 96), np.float32), np.zeros((8, 40, 96, 3), np.uint8)]
)
def test_pictures_that_are_no_frames_are_refused(rtdc, wrong):
    with pytest.raises(RecordingError, match=r"other\.rtdc: events/image is .* uint8 or uint16"):
        open_recording(rtdc(changes={"image": wrong, "image_bg": None, "mask": None}))


def test_hdf5_without_pictures_is_refused(rtdc):
    with pytest.raises(RecordingError, match=r"other\.rtdc holds no pictures"):
        open_recording(rtdc(changes={"image": None}))


def test_links_that_lead_out_of_the_file_are_refused(rtdc, tmp_path):
    path, other = rtdc(), rtdc("second.rtdc")
    for number, (where, link) in enumerate(
        {
            "events/image": h5py.ExternalLink(str(other), "/events/image"),
            "events/frame": h5py.ExternalLink(str(other), "/events/frame"),
            "events": h5py.ExternalLink(str(other), "/events"),
        }.items()
    ):
        copy = tmp_path / f"link{number}.rtdc"
        copy.write_bytes(path.read_bytes())
        with h5py.File(copy, "r+") as file:
            del file[where]
            file[where] = link
        with pytest.raises(RecordingError, match="link to another file"):
            open_recording(copy)
    virtual = tmp_path / "virtual.rtdc"
    virtual.write_bytes(path.read_bytes())
    with h5py.File(virtual, "r+") as file:
        del file["events/image"]
        layout = h5py.VirtualLayout((8, 40, 96), "u1")
        layout[:] = h5py.VirtualSource(str(other), "/events/image", (8, 40, 96))
        file.create_virtual_dataset("events/image", layout)
    with pytest.raises(RecordingError, match="other files"):
        open_recording(virtual)


def test_a_link_inside_the_file_is_followed(rtdc):
    path = rtdc()
    with h5py.File(path, "r+") as file:
        file.move("events/image", "elsewhere")
        file["events/image"] = h5py.SoftLink("/elsewhere")
    assert len(frames_of(path)[0]) == 5
    with h5py.File(path, "r+") as file:
        del file["events/image"]
        file["events/image"] = h5py.SoftLink("/events/image")  # a circle
    with pytest.raises(RecordingError, match="no pictures"):
        open_recording(path)


def test_sixteen_bit_and_other_groups(rtdc, picture):
    images = np.stack([picture(int(i), (40, 96)) for i in (11, 12, 12, 15, 16, 16, 16, 20)]).astype(np.uint16) * 16
    path = rtdc(changes={"image": images, "image_bg": None, "mask": None})
    with h5py.File(path, "r+") as file:
        file["logs/some"] = np.arange(3)
        file.create_group("basins")
    frames, warnings, loss, info = frames_of(path)
    assert info.dtype == "uint16" and frames[0].pixels.dtype == np.uint16 and (warnings, loss) == ([], None)
