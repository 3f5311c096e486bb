"""A live run on the twin: everything is accounted for, recorded, and scored against what really flowed past."""

from __future__ import annotations

import json

import dclab
import h5py
import numpy as np
import pytest

from hspc_live.cli.execute import Order, execute
from hspc_live.cli.score import score
from hspc_live.recording.inspect import summarise
from hspc_live.recording.reader import open_recording
from hspc_live.twin.truth import FlowTruth


def test_every_frame_view_cell_and_command_is_accounted_for(live):
    s = live.summary
    assert live.outcome.error is None, live.outcome.error
    assert s["ledger"] == {"balanced": True, "violations": []}
    frames, views, cells, commands = s["frames"], s["views"], s["cells"], s["commands"]
    lost = sum(frames["dropped"].values()) + sum(frames["lost"].values())
    assert frames["captured"] == frames["processed"] + lost
    assert frames["captured"] == 250, "a loaded machine may drop frames, the first and the last too, but counts them"
    assert frames["processed"] > 50
    assert views["detected"] == views["classified"] + sum(views["rejected"].values()) + sum(views["skipped"].values())
    ended = cells["sorted"] + cells["passed"] + cells["abstained"]
    assert cells["tracked"] == ended + sum(cells["aborted"].values()) + sum(cells["unresolved"].values()) > 5
    assert commands["sent"] == commands["fired"] + commands["refused"] + commands["unacknowledged"] == cells["sorted"]
    assert commands["fired"] > 0, "cells were sorted"


def test_cells_are_decided_in_time(live):
    assert live.summary["deadline"]["met_fraction"] > 0.9, live.summary["deadline"]
    latency = live.summary["latency_ms"]
    assert latency["n"] == live.summary["deadline"]["met"] and latency["p999"] is None
    assert 0 < latency["p50"] <= latency["p99"] <= latency["max"]


def test_the_recording_is_whole_and_opens_elsewhere(live):
    summary = summarise(live.path)
    assert summary["loss"] is None, summary
    processed = live.summary["recording"]["frames"]
    unrecorded = live.summary["recording"]["unrecorded"]["frames"]
    frames = live.summary["frames"]
    assert processed + unrecorded + sum(frames["dropped"].values()) == frames["captured"]
    with open_recording(live.path) as recording:
        assert len(list(recording.frames())) == processed and recording.exact
    with dclab.new_dataset(live.path) as dataset:
        assert len(dataset) == live.summary["recording"]["view_rows"] > 0
    with h5py.File(live.path) as file:
        assert len(file["hspc/cells"]) == live.summary["cells"]["tracked"]


def test_it_is_scored_against_the_truth_afterwards(live):
    scored = score(live.settings, None, live.outcome, 2.5)
    assert 0 <= scored["sort"]["purity"] <= 1 and 0 <= scored["sort"]["recovery"] <= 1
    low, high = scored["sort"]["purity_interval"]
    assert low <= scored["sort"]["purity"] <= high
    assert scored["sort"]["pulses"] == live.summary["commands"]["fired"]
    assert scored["model"]["n"] > 0


def test_disarmed_nothing_is_sent_and_the_same_seed_films_the_same_cells(live, tmp_path):
    """Without a person's word the sorter stays safe, and every wanted cell says why it was let go."""
    out = tmp_path / "out"
    outcome = execute(Order(live.settings, live=True, out=out, keep_truth=True), lambda *_: None)
    s = outcome.summary
    assert outcome.error is None and s["ledger"]["balanced"]
    assert s["commands"] == {"sent": 0, "fired": 0, "refused": 0, "unacknowledged": 0} and s["cells"]["sorted"] == 0
    assert s["cells"]["aborted"].get("disarmed", 0) > 0
    assert (out / "pulses.jsonl").read_text() == ""
    ours, theirs = (FlowTruth.load(path).objects for path in (outcome.truth, live.outcome.truth))
    for name in ours.dtype.names:
        a, b = ours[name], theirs[name]
        if name.endswith("_ns"):  # host time; from the first one on it is the seed's
            a, b = a - ours[name][0], b - theirs[name][0]
        np.testing.assert_array_equal(a, b, err_msg=name)


def test_the_summary_is_plain_json(live):
    assert json.loads(json.dumps(live.summary, allow_nan=False)) == json.loads(json.dumps(live.summary))
    assert len(live.summary["decisions_sha256"]) == 64


@pytest.mark.parametrize("missing", ["sort_delay_date", "prevalence"])
def test_arming_is_refused_with_its_reason_and_the_run_goes_on(tiny, watch, missing):
    overrides = {
        "sort_delay_date": [
            "sort.timing.sort_delay_ms=400",
            "sort.timing.sort_delay_velocity_um_s=2000",
            "sort.timing.sort_delay_date=2020-01-01T00:00:00",
        ],
        "prevalence": ["population.prevalence={}"],
    }[missing]
    settings = tiny("camera.frames=60", *overrides)
    outcome = execute(Order(settings, live=True, arm_by="test"), watch)
    [reason] = [text for _, kind, text in watch.said if kind == "arming-refused"]
    assert {"sort_delay_date": "old", "prevalence": "prevalence"}[missing] in reason
    assert outcome.summary["commands"]["sent"] == 0 and outcome.summary["ledger"]["balanced"]
