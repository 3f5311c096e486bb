"""What a chamber run hands over comes back out of its recording, value by value."""

from __future__ import annotations

import math
from dataclasses import replace

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hspc_live.core.chamber import (
    ChamberCell,
    ChamberOutcome,
    FieldObjects,
    Phase,
    Revisited,
    Settled,
)
from hspc_live.core.errors import OutputError, RecordingError
from hspc_live.core.values import OBJECT_DTYPE, Classification, Detection
from hspc_live.recording.chamber_reader import open_chamber
from hspc_live.recording.inspect import summarise
from hspc_live.recording.reader import open_recording

CLASSES = ("LT-HSC", "ST-HSC", "MPP")

number = st.floats(-1e6, 1e6)
words = st.text(st.characters(codec="ascii", categories=("L", "N")), max_size=16)


@st.composite
def cell(draw, number_: int) -> ChamberCell:
    looks = draw(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**31)), min_size=1, max_size=4, unique=True))
    scores = tuple(draw(st.floats(0, 1)) for _ in CLASSES)
    known = draw(st.booleans())
    names = draw(st.sets(st.sampled_from([*Detection._fields, "glow:CD48"])))
    return ChamberCell(
        cell=number_,
        x_um=draw(number),
        y_um=draw(number),
        sd_um=draw(st.floats(0, 50)),
        radius_um=draw(st.floats(0, 50)),
        seen_ns=draw(st.integers(0, 2**62)),
        visit=looks[0][0],
        view=looks[0][1],
        looks=tuple(looks),
        outcome=draw(st.sampled_from(ChamberOutcome)),
        reason=draw(words),
        outlet=draw(words) or None,
        classification=Classification(number_, scores, draw(st.sampled_from(CLASSES)), 1) if known else None,
        features={name: draw(number) for name in names},
        order=draw(st.none() | st.integers(1, 2**31)),
    )


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_cells_and_second_visits_come_back(create_chamber, tmp_path_factory, data):
    cells = [data.draw(cell(i)) for i in range(data.draw(st.integers(0, 6)))]
    revisited = [
        Revisited(c.cell, data.draw(st.integers(0, 99)), data.draw(words), *(data.draw(number) for _ in range(5)))
        for c in cells[:3]
    ]
    path = tmp_path_factory.mktemp("chamber") / "run.h5"
    writer = create_chamber(path)
    writer.cells(cells)
    writer.revisited(revisited)
    writer.close({"ok": 1}, {})
    with open_chamber(path) as recording:
        assert recording.cells() == cells
        assert recording.revisited() == revisited
        assert recording.loss is None and recording.exact


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_visits_and_objects_come_back(create_chamber, chamber_field, chamber_facts, tmp_path_factory, data):
    """With and without fluorescence, without a picture, with no objects and with many."""
    given_ = []
    for i in range(data.draw(st.integers(1, 4))):
        visit, found = chamber_field(i, data.draw(st.sampled_from(Phase)))
        pictures = visit.pictures[: data.draw(st.integers(0, 2))]
        settled = Settled("" if pictures else "still_moving", 4, 10, data.draw(st.none() | st.floats(0, 9)))
        given_.append((replace(visit, pictures=pictures, settled=settled), objects_for(data, found, bool(pictures))))
    path = tmp_path_factory.mktemp("chamber") / "run.h5"
    writer = create_chamber(path)
    for visit, found in given_:
        writer.field(visit, found)
    writer.close({"ok": 1}, {})
    with open_chamber(path) as recording:
        back = list(recording.visits())
        assert len(back) == len(given_)
        for (visit, found), again in zip(given_, back, strict=True):
            for name in ("number", "phase", "target", "x_um", "y_um", "settled"):
                assert getattr(again, name) == getattr(visit, name)
            assert [p.channel for p in again.pictures] == [p.channel for p in visit.pictures]
            for one, other in zip(visit.pictures, again.pictures, strict=True):
                assert (other.frame.index, other.frame.captured_ns) == (one.frame.index, one.frame.captured_ns)
                assert np.array_equal(other.frame.pixels, one.frame.pixels)
                assert other.frame.pixels.dtype == one.frame.pixels.dtype
            same_objects(recording.objects(visit.number), found)
        assert recording.loss is None
        told = chamber_facts()
        assert recording.facts.plan == told.plan and recording.facts.stage == told.stage
        assert recording.facts.camera == told.camera and recording.facts.channels == told.channels
        assert np.array_equal(recording.facts.affine, told.affine)
        assert np.array_equal(recording.facts.affine_covariance, told.affine_covariance)


def objects_for(data: st.DataObject, found: FieldObjects, pictured: bool) -> FieldObjects | None:
    if not pictured:
        return None
    rejects = data.draw(st.lists(st.integers(0, 7), max_size=5))
    objects = np.zeros(len(rejects), OBJECT_DTYPE)
    objects["reject"] = rejects
    objects["x_um"] = data.draw(st.lists(number, min_size=len(rejects), max_size=len(rejects)))
    crops = np.full((rejects.count(0), *found.result.crops.shape[1:]), 9, "u2")
    alarms = tuple(data.draw(st.sets(st.sampled_from(["black", "saturated"]))))
    result = replace(found.result, objects=objects, crops=crops, alarms=alarms)
    return FieldObjects(
        result,
        objects["reject"] % 2 == 0,
        tuple("" if code == 0 else "debris" for code in rejects),
        found.labels,
        {"CD48": np.arange(float(len(rejects)))},
    )


def same_objects(again: FieldObjects | None, found: FieldObjects | None) -> None:
    if found is None or again is None:
        assert again is found
        return
    assert np.array_equal(again.result.objects, found.result.objects)
    for name in ("index", "captured_ns", "background", "over_cap", "alarms", "segment_ns"):
        assert getattr(again.result, name) == getattr(found.result, name)
    assert np.array_equal(again.result.crops, found.result.crops)
    assert np.array_equal(again.whole, found.whole) and again.reasons == found.reasons
    assert np.array_equal(again.labels, found.labels)
    assert again.glow.keys() == found.glow.keys()
    for name, values in found.glow.items():
        assert np.array_equal(again.glow[name], values, equal_nan=True)


def test_scores_texts_and_books_come_back(chamber_recorded):
    path = chamber_recorded(4)
    with open_chamber(path) as recording:
        assert recording.scores()["visit"].tolist() == [0, 1, 2, 3]
        assert np.allclose(recording.scores()["scores"], [0.2, 0.3, 0.5])
        assert recording.lines("ledger") == [{"balanced": True}] and recording.summary == {"cells": 0}
        assert recording.settings_json == '{"mode": "chamber"}' and recording.card_yaml == "name: twin-lsm\n"
        assert recording.closed and recording.exact and recording.classes == CLASSES


def test_fields_are_stored_once_in_the_file_that_other_programs_read(chamber_recorded):
    """Plain HDF5, one picture a row, its channel and time beside it."""
    with h5py.File(chamber_recorded(3)) as file:
        fields = file["hspc/fields"]
        assert fields["image"].shape == (6, 48, 64) and fields["image"].dtype == np.uint16
        assert fields["visit"][:].tolist() == [0, 0, 1, 1, 2, 2] and fields["channel"][:].tolist() == [0, 1] * 3
        assert file["hspc"].attrs["format"] == "hspc-live-chamber/1"


def test_an_existing_file_is_never_overwritten(create_chamber, tmp_path):
    path = tmp_path / "run.h5"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        create_chamber(path)
    assert path.read_text() == "mine"


def test_what_does_not_belong_is_refused_and_the_file_goes_on(create_chamber, chamber_field, tmp_path):
    writer = create_chamber(tmp_path / "run.h5")
    visit, found = chamber_field(0)
    small = replace(visit.pictures[0].frame, pixels=visit.pictures[0].frame.pixels[:-1])
    bad = replace(visit, pictures=(replace(visit.pictures[0], frame=small),))
    with pytest.raises(RecordingError, match="another camera format"):
        writer.field(bad, found)
    with pytest.raises(RecordingError, match="channel 'GFP'"):
        writer.field(replace(visit, pictures=(replace(visit.pictures[0], channel="GFP"),)), found)
    with pytest.raises(RecordingError, match="crops"):
        writer.field(visit, replace(found, result=replace(found.result, crops=found.result.crops[:0])))
    assert writer.field(visit, found)["visits"] == 1
    with pytest.raises(RecordingError, match="kept once"):
        writer.field(visit, found)
    with pytest.raises(RecordingError, match="classes are"):
        writer.scores(0, np.array([0]), np.zeros((1, 2), "f4"))
    writer.close({}, {})
    with open_chamber(tmp_path / "run.h5") as recording:
        assert recording.n_visits == 1 and recording.n_pictures == 2 and recording.loss is None


def test_flow_and_chamber_recordings_are_told_apart(chamber_recorded, recorded, rtdc):
    with pytest.raises(RecordingError, match=r"is the recording of a chamber.*hspc-live replay"):
        open_recording(chamber_recorded())
    for other in (recorded(), rtdc()):
        with pytest.raises(RecordingError, match="not the recording of a chamber"):
            open_chamber(other)


def test_inspect_says_what_a_chamber_recording_holds(create_chamber, chamber_field, tmp_path):
    path = tmp_path / "run.h5"
    writer = create_chamber(path)
    for i in range(6):
        writer.field(*chamber_field(i))
    writer.field(*chamber_field(6, Phase.REVISIT))
    place = dict.fromkeys(("x_um", "y_um", "sd_um", "radius_um"), 1.0)
    for_all = {"seen_ns": 1, "view": 0, "outlet": None, "classification": None, **place}
    writer.cells(
        [
            ChamberCell(cell=0, visit=0, looks=((0, 0),), outcome=ChamberOutcome.LISTED, reason="", **for_all),
            ChamberCell(cell=1, visit=1, looks=(), outcome=ChamberOutcome.LEFT_OUT, reason="expired", **for_all),
        ]
    )
    writer.revisited([Revisited(0, 6, "gone", math.nan, math.nan, math.nan, math.nan)])
    writer.close({"fields": 6}, {"name": "run"})
    said = summarise(path)
    assert said["kind"] == "chamber" and said["fields"] == {"scan": 6, "revisit": 1} and said["planned"] == 6
    assert said["pictures"] == said["readable_pictures"] == 14 and said["channels"] == ["transmitted", "CD48"]
    assert said["cells"] == {"listed": 1, "left_out": 1} and said["left_out"] == {"expired": 1}
    assert said["revisited"] == {"found": 0, "lost": {"gone": 1}}
    assert said["exact"] and said["loss"] is None and said["summary"] == {"name": "run"}
    with pytest.raises(RecordingError, match="leave out --um-per-px"):
        summarise(path, um_per_px=0.3)
