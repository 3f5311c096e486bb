"""What a run hands to the writer comes back from the reader, and dclab reads it too."""

from __future__ import annotations

import dataclasses
import os

import dclab
import h5py
import numpy as np
import pytest
from dclab.rtdc_dataset import check_dataset
from dclab.rtdc_dataset.filter import NanWarning
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hspc_live.core.errors import OutputError, RecordingError
from hspc_live.core.values import (
    CellOutcome,
    CellRecord,
    Classification,
    Detection,
    Receipt,
    ReceiptKind,
    SortCommand,
)
from hspc_live.recording import layout
from hspc_live.recording.inspect import summarise
from hspc_live.recording.reader import open_recording
from hspc_live.settings.schema import SampleSettings
from hspc_live.stages.segment import window_origin


def cell(number: int, **changes) -> CellRecord:
    told = {
        "cell": number,
        "first_frame": 1,
        "last_frame": 3,
        "views": ((1, 0), (3, 0)),
        "outcome": CellOutcome.SORTED,
        "reason": "",
        "outlet": "LT-HSC",
        "classification": Classification(number, (0.7, 0.2, 0.1), "LT-HSC", 2),
        "velocity_um_s": 4000.0,
        "velocity_sd_um_s": 12.0,
        "arrival_ns": 2**60 + 1,
        "arrival_sd_ns": 5,
        "y_um": 7.5,
        "last_capture_ns": 3,
        "decided_ns": 4,
        "latency_ns": 5,
        "command": 9,
        "features": {"area_um2": 50.0},
    }
    return CellRecord(**(told | changes))


def test_frames_come_back_once_each_in_order_and_bit_for_bit(recorded, picture):
    with open_recording(recorded(6)) as recording:
        frames = list(recording.frames())
        assert [f.index for f in frames] == list(range(6))
        assert [f.captured_ns for f in frames] == [i * 10_000_000 for i in range(6)]
        assert all(np.array_equal(f.pixels, picture(f.index)) for f in frames)
        assert all(f.background is None for f in frames)
        assert recording.kind == "hspc" and recording.exact and recording.closed
        assert recording.loss is None and recording.warnings == []


def test_camera_settings_and_classes_come_back(recorded, camera):
    with open_recording(recorded()) as recording:
        assert recording.info == camera
        assert recording.classes == ("LT-HSC", "ST-HSC", "MPP")
        assert recording.settings_json == '{"name": "run"}'
        assert recording.card_yaml == "name: twin-lsm\n"
        assert recording.summary == {"cells": 0}


def test_sixteen_bit_frames_come_back(picture, create, camera, result, tmp_path):
    writer = create(tmp_path / "deep.rtdc", camera=dataclasses.replace(camera, dtype="uint16"))
    deep = picture(3).astype("uint16") * 16
    writer.write_frame(0, 5, deep, 0)
    writer.write_result(result(0, [0], "uint16"))
    writer.close({}, {})
    with open_recording(tmp_path / "deep.rtdc") as recording:
        (frame,) = recording.frames()
        assert frame.pixels.dtype == np.uint16 and np.array_equal(frame.pixels, deep)


def test_books_come_back(create, tmp_path):
    writer = create(tmp_path / "run.rtdc")
    nothing = dict.fromkeys(
        ("outlet", "classification", "velocity_um_s", "velocity_sd_um_s", "arrival_ns", "arrival_sd_ns", "latency_ns")
    )
    unknown = cell(2, outcome=CellOutcome.UNRESOLVED, reason="ended", command=None, features={}, views=(), **nothing)
    writer.write_cells([cell(1), unknown])
    writer.write_commands([SortCommand(9, 1, "LT-HSC", 10, 20, 30, 40)])
    writer.write_receipts([Receipt(9, ReceiptKind.REFUSED, 41, "late")])
    writer.write_note("armed", "by a person · µm", 7)
    writer.write_ledger({"frames": {"captured": 1}})
    writer.close({"frames": {"captured": 2}}, {"done": True})
    with open_recording(tmp_path / "run.rtdc") as recording:
        cells = recording.table("cells")
        assert cells["outcome"].tolist() == [b"sorted", b"unresolved"]
        assert cells["arrival_ns"].tolist() == [2**60 + 1, layout.NONE]
        assert cells["scores"][0].tolist() == [0.7, 0.2, 0.1] and np.isnan(cells["scores"][1]).all()
        assert cells["mean_area_um2"][0] == 50.0 and np.isnan(cells["mean_area_um2"][1])
        assert recording.table("cell_views").tolist() == [(1, 1, 0), (1, 3, 0)]
        assert recording.table("commands").tolist() == [(9, 1, b"LT-HSC", 10, 20, 30, 40)]
        assert recording.table("receipts").tolist() == [(9, b"refused", 41, b"late")]
        assert recording.lines("notes") == [{"kind": "armed", "detail": "by a person · µm", "at_ns": 7}]
        assert [line["frames"]["captured"] for line in recording.lines("ledger")] == [1, 2]
    summary = summarise(tmp_path / "run.rtdc")
    assert summary["cells"] == {"sorted": 1, "unresolved": 1} and summary["ledger"]["frames"] == {"captured": 2}


def test_every_detection_is_kept_but_only_views_become_events(create, result, tmp_path):
    writer = create(tmp_path / "run.rtdc")
    writer.write_result(result(4, [0, 2, 0]))
    writer.write_result(result(5, []))
    writer.close({}, {})
    with open_recording(tmp_path / "run.rtdc") as recording:
        objects = recording.table("objects")
        assert objects["view"].tolist() == [0, 1, 2] and objects["reject"].tolist() == [0, 2, 0]
        rows = list(recording.rows())
        assert [(row.frame, row.pos_x_um) for row in rows] == [(4, 4.0), (4, 8.0)]
        assert recording.event("bright_avg").tolist() == [120.0, 122.0]
        assert recording.event("frame").tolist() == [5, 5]  # RT-DC counts from 1
        assert recording.table("results")["frame"].tolist() == [4, 5]
        # the mask, put back at its place in the frame, lies around the cell
        for row in rows:
            x = np.nonzero(row.mask)[1]
            assert abs((x.mean() + row.x0_px) * 0.25 - row.pos_x_um) < 0.3


def test_windows_are_placed_as_segmentation_places_them():
    for x in np.linspace(-3, 140, 200):
        for window in (32, 80, 200):
            ours = int(layout.window_origin(np.array([x]), 128, window)[0])
            assert ours == window_origin(float(x), 10.0, (64, 128), window)[0]


# ---- scores ----------------------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    views=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    flushes=st.sets(st.integers(0, 12)),
    order=st.randoms(use_true_random=False),
)
def test_scores_reach_their_own_rows_in_any_order(create, result, tmp_path_factory, views, flushes, order):
    path = tmp_path_factory.mktemp("scores") / "run.rtdc"
    writer = create(path)
    keys = []
    for index, count in enumerate(views):
        writer.write_result(result(index, [2, *[0] * count]))
        keys += [(index, 1 + i) for i in range(count)]
        if index in flushes:
            writer.flush()
    scored = order.sample(keys, len(keys) * 2 // 3)
    truth = {key: np.array([key[0] / 100, key[1] / 100, 0.5]) for key in scored}
    for at in range(0, len(scored), 3):
        some = scored[at : at + 3]
        assert writer.write_scores(some, np.array([truth[key] for key in some])) == 0
        if at in flushes:
            writer.flush()
    writer.close({}, {})
    with open_recording(path) as recording:
        rows = recording.table("views")
        assert [(int(r["frame"]), int(r["view"])) for r in rows] == keys
        got = np.stack([recording.event(f"ml_score_{code}") for code in ("lth", "sth", "mpp")], axis=1)
        for key, scores in zip(keys, got, strict=True):
            assert np.array_equal(scores, truth[key]) if key in truth else np.isnan(scores).all()


def test_ml_class_is_numbered_as_dclab_numbers_it(create, result, tmp_path):
    writer = create(tmp_path / "run.rtdc")
    writer.write_result(result(0, [0] * 5))
    scores = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [np.nan, 0.9, 0.1]])
    writer.write_scores([(0, i) for i in range(4)], scores)
    writer.close({}, {})
    with dclab.new_dataset(tmp_path / "run.rtdc") as dataset:
        ours = dataset["ml_class"][:]
    with h5py.File(tmp_path / "run.rtdc", "r+") as file:
        del file["events/ml_class"]
    with dclab.new_dataset(tmp_path / "run.rtdc") as dataset:
        theirs = dataset["ml_class"][:]
    assert ours.tolist()[:3] == theirs.tolist()[:3] == [0, 2, 1]
    assert ours.tolist()[3:] == [-1, -1]  # not usable, never scored


def test_scores_for_unknown_views_are_counted_not_misplaced(create, result, tmp_path):
    writer = create(tmp_path / "run.rtdc")
    writer.write_result(result(0, [2, 0]))
    assert writer.write_scores([(0, 0), (0, 1), (7, 0)], np.full((3, 3), 0.5)) == 2
    with pytest.raises(RecordingError, match="classes"):
        writer.write_scores([(0, 1)], np.full((1, 2), 0.5))
    writer.close({}, {})


def test_feature_names_of_scores():
    assert layout.score_features(("LT-HSC", "ST-HSC", "MPP")) == {
        "LT-HSC": "ml_score_lth",
        "ST-HSC": "ml_score_sth",
        "MPP": "ml_score_mpp",
    }
    assert list(layout.score_features(("MPP2", "MPP3", "MPP4")).values()) == [f"ml_score_mp{i}" for i in (2, 3, 4)]


@given(st.lists(st.text(max_size=8), unique=True, max_size=60))
def test_every_class_has_a_feature_of_its_own_that_rtdc_knows(names):
    features = layout.score_features(tuple(names))
    assert list(features) == names and len(set(features.values())) == len(names)
    assert all(dclab.dfn.feature_exists(feature) for feature in features.values())


# ---- dclab -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [0, 9])
def test_dclab_finds_no_violation(recorded, frames):
    violations, _, _ = check_dataset(recorded(frames))
    assert violations == []


def test_dclab_alerts_only_what_nobody_told_us(recorded):
    _, alerts, _ = check_dataset(recorded(4))
    unknown = ("flow rate", "chip identifier", "temperature")
    assert [alert for alert in alerts if not any(word in alert for word in unknown)] == []
    told = SampleSettings(flow_rate_ul_s=0.06, sheath_flow_rate_ul_s=0.045, temperature_c=23.0)
    _, alerts, _ = check_dataset(recorded(4, name="told.rtdc", sample=told))
    assert [alert for alert in alerts if "chip identifier" not in alert] == []


def test_dclab_reads_and_filters_by_score(create, result, tmp_path):
    writer = create(tmp_path / "run.rtdc")
    for index in range(5):
        writer.write_result(result(index, [0]))
    writer.write_scores([(i, 0) for i in range(4)], np.array([[i / 4, 0.0, 1 - i / 4] for i in range(4)]))
    writer.close({}, {})
    with dclab.new_dataset(tmp_path / "run.rtdc") as dataset:
        assert len(dataset) == 5 == dataset.config["experiment"]["event count"]
        dataset.config["filtering"]["ml_score_lth min"] = 0.5
        dataset.config["filtering"]["ml_score_lth max"] = 1.0
        with pytest.warns(NanWarning):  # the view that was never scored
            dataset.apply_filter()
        assert np.flatnonzero(dataset.filter.all).tolist() == [2, 3]
        assert dataset["image"][2].shape == (32, 32) and dataset["mask"][2].sum() == 49
        assert np.allclose(dataset["time"], np.arange(5) * 0.01)
        assert dataset["volume"][0] == pytest.approx(4 / 3 * np.pi * 1.0**3, rel=0.25)


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_an_existing_output_is_refused_and_left_alone(create, tmp_path):
    path = tmp_path / "run.rtdc"
    path.write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"run\.rtdc exists already"):
        create(path)
    assert path.read_bytes() == b"precious"


def test_an_output_that_cannot_be_written_is_refused(create, tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        create(tmp_path / "nowhere" / "run.rtdc")
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        with pytest.raises(OutputError, match="cannot be written"):
            create(tmp_path / "run.rtdc")
        tmp_path.chmod(0o700)


def test_a_frame_of_another_shape_or_type_is_refused_and_the_rest_kept(create, picture, tmp_path):
    writer = create(tmp_path / "run.rtdc")
    writer.write_frame(0, 0, picture(0), 0)
    for wrong in (picture(1, (64, 64)), picture(1).astype("uint16")):
        with pytest.raises(RecordingError, match="does not belong"):
            writer.write_frame(1, 1, wrong, 0)
    writer.close({}, {})
    with open_recording(tmp_path / "run.rtdc") as recording:
        assert [f.index for f in recording.frames()] == [0]


def test_without_frames_a_recording_says_that_it_cannot_be_replayed(recorded):
    with open_recording(recorded(4, record_frames=False)) as recording:
        assert not recording.exact and recording.n_events == 2
        with pytest.raises(RecordingError, match="keeps no frames"):
            next(recording.frames())


def test_a_run_without_books_says_that_it_was_broken_off(create, picture, tmp_path):
    writer = create(tmp_path / "run.rtdc")
    writer.write_frame(0, 0, picture(0), 0)
    writer.close(None, None)
    writer.close(None, None)
    with open_recording(tmp_path / "run.rtdc") as recording:
        assert not recording.closed and "broken off" in recording.warnings[0] and recording.loss is None
        assert len(list(recording.frames())) == 1


def test_overrides_are_taken_and_said(recorded):
    with open_recording(recorded(), um_per_px=0.5, frames_per_s=50.0) as recording:
        assert (recording.info.um_per_px, recording.info.frames_per_s) == (0.5, 50.0)
        assert len(recording.warnings) == 2 and "0.25" in recording.warnings[0]


def test_time_running_backwards_in_our_own_recording_is_kept_and_said(create, picture, tmp_path):
    writer = create(tmp_path / "run.rtdc")
    for index, at in enumerate([100, 200, 150]):
        writer.write_frame(index, at, picture(index), 0)
    writer.close({}, {})
    with open_recording(tmp_path / "run.rtdc") as recording:
        assert [f.captured_ns for f in recording.frames()] == [0, 100, 50]
        assert "do not always advance" in recording.warnings[0]


def test_file_stays_small_when_flushed_often(create, result, tmp_path):
    """A filtered chunk that is rewritten at every flush would leave its old place lost in the file."""
    sizes = []
    for every in (1, 50):
        writer = create(tmp_path / f"{every}.rtdc")
        for index in range(200):
            writer.write_result(result(index, [0]))
            writer.write_note("tick", "x" * 50, index)
            if index % every == 0:
                writer.flush()
        writer.close({}, {})
        sizes.append((tmp_path / f"{every}.rtdc").stat().st_size)
    assert sizes[0] < 1.1 * sizes[1]


def test_detection_names_are_the_columns(recorded):
    with open_recording(recorded()) as recording:
        assert recording.table("objects").dtype.names == ("frame", "view", *Detection._fields)
