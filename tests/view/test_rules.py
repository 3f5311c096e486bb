"""The screen's rules without a window: what is remembered, counted, said and drawn."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_live.core.values import OBJECT_DTYPE, Reject
from hspc_live.recording.room import seconds_left
from hspc_live.stages.ledger import Ledger
from hspc_live.view.banner import Weight, banners
from hspc_live.view.connection import Bond
from hspc_live.view.disk import Disk
from hspc_live.view.model import Model
from hspc_live.view.outlines import Strokes, outlines, tails
from hspc_live.view.sums import long_words, percentile_ms, purity_by_scores
from hspc_live.wire.telemetry import Seen

from .conftest import CLASSES, record, shown, standing


def lost(frames: int) -> Ledger:
    ledger = Ledger()
    ledger.frames.captured = 100 + frames
    ledger.frames.dropped["ring_full"] = frames
    return ledger


# ---- what is remembered ----------------------------------------------------------------------------------------------


def test_cells_and_crops_are_taken_once_however_often_they_are_told(about):
    model = Model()
    model.attach(about())
    cells = [record(1), record(2, (0.1, 0.1, 0.8))]
    for number in range(3):
        model.take(shown(number, cells=cells, crops=[(1, 1, 0), (1, 2, 0), (2, 2, 1)]))
    assert list(model.cells) == [1, 2] and model.missed == 0
    assert [look.record.cell for look in model.gallery["LT-HSC"]] == [1], "a cell is shown once"
    assert len(model.looks_of(1)) == 2 and len(model.looks_of(2)) == 1
    assert model.column("score:MPP").tolist() == [0.1, 0.8]
    assert model.column("diameter_um").tolist() == [9.0, 10.0]


def test_a_cell_without_scores_has_no_number_but_a_place(about):
    model = Model()
    model.attach(about())
    model.take(shown(cells=[record(1, None)], crops=[(1, 1, 0)]))
    assert math.isnan(model.column("score:MPP")[0])
    assert "no verdict" in model.gallery


def test_missed_updates_are_counted(about):
    model = Model()
    model.attach(about())
    for number in (0, 1, 5, 6):
        model.take(shown(number))
    assert (model.received, model.missed) == (4, 3)


def test_losses_add_up_over_runs_and_only_a_person_sets_them_back(about):
    model = Model()
    model.attach(about("run-1"))
    model.take(shown(0, stands=standing(ledger=lost(3), unrecorded=2)))
    assert model.losses.by_reason == {"ring_full": 3, "not recorded": 2}
    model.attach(about("run-1"))
    assert model.losses.total == 5, "attached again to the same run: nothing is counted twice"
    model.attach(about("run-2"))
    assert model.losses.total == 5, "another run does not set the counter back"
    model.take(shown(0, run="run-2", stands=standing(ledger=lost(4))))
    assert model.losses.total == 9
    model.set_losses_back()
    assert model.losses.total == 0
    model.take(shown(1, run="run-2", stands=standing(ledger=lost(6))))
    assert model.losses.by_reason == {"ring_full": 2}


def test_another_run_begins_with_no_cells(about):
    model = Model()
    model.attach(about("run-1"))
    model.take(shown(cells=[record(1)], crops=[(1, 1, 0)]))
    model.attach(about("run-2"))
    assert not model.cells and not model.gallery and model.shown is None
    assert len(model.column("diameter_um")) == 0


def test_rates_come_from_the_ledgers(about):
    model = Model()
    model.attach(about())
    for second, frames in enumerate((0, 50, 150)):
        ledger = Ledger()
        ledger.frames.captured = frames
        model.take(
            shown(second, sent_ns=(second + 1) * 10**9, stands=standing(ledger=ledger, held=16, met=3, missed=1))
        )
    assert [sample.frames_per_s for sample in model.history] == [50.0, 100.0]
    assert model.history[-1].fill == 0.25 and model.history[-1].met == 0.75


def test_an_old_frame_is_stale(about):
    model = Model()
    model.attach(about())
    model.take(shown(sent_ns=time.perf_counter_ns()))
    assert not model.stale
    model.take(shown(1, sent_ns=time.perf_counter_ns() - 2 * 10**9))
    assert model.stale and model.age_s > 1.9
    model.held = True
    assert not model.stale and "HELD" in words(model), "old on purpose"


# ---- what is said ----------------------------------------------------------------------------------------------------


def words(model: Model, bond: Bond = Bond.ATTACHED, silent_s: float = 0.0) -> list[str]:
    return [sign.text for sign in banners(model, bond, "", silent_s)]


def test_signs_say_what_holds_and_alarms_come_first(about):
    model = Model()
    assert words(model, Bond.SEARCHING) == ["NOT CONNECTED"]
    model.attach(about(live=False, overrides=["camera.kind=simulated"]))
    model.take(shown(sent_ns=time.perf_counter_ns(), stands=standing(alarms={"clog": "stands"}, disarmed=["clog"])))
    said = words(model)
    assert said[0] == "CLOG" and set(said) == {"CLOG", "DISARMED", "REPLAY", "SIMULATION", "CPU ENGINE"}
    assert words(model, Bond.SEARCHING)[0] == "CONNECTION LOST"
    assert words(model, silent_s=4.0)[0] == "NO WORD FOR 4 s"


def test_a_canary_that_came_back_wrong_is_said_with_what_it_showed(about):
    model = Model()
    model.attach(about())
    model.take(shown(0, stands=standing(alarms={"engine_drift": "the engine has drifted: it scores …"})))
    first = banners(model, Bond.ATTACHED, "", 0.0)[0]
    assert first.text == "ENGINE DRIFT" and "it scores" in first.meaning and first.weight is Weight.ALARM


def test_armed_is_never_said_beside_disarmed(about):
    model = Model()
    model.attach(about())
    model.take(shown(sent_ns=time.perf_counter_ns(), stands=standing(armed=True)))
    assert "ARMED" in words(model) and "DISARMED" not in words(model)
    model.take(shown(1, sent_ns=time.perf_counter_ns(), stands=standing(waits_to_arm=True)))
    assert "WAITS TO ARM" in words(model) and "ARMED" not in words(model)


# ---- figures ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 999), min_size=1, max_size=200), st.sampled_from([50.0, 99.0]))
def test_percentiles_of_counts_are_those_of_the_values_to_the_next_millisecond(latencies, percent):
    counts = np.bincount(np.floor(latencies).astype(int), minlength=1001).astype(np.uint32)
    exact = np.percentile(latencies, percent, method="inverted_cdf")
    assert percentile_ms(counts, percent) == math.floor(exact) + 1


def test_percentiles_of_nothing_and_of_the_far_too_slow():
    counts = np.zeros(1001, np.uint32)
    assert percentile_ms(counts, 50) is None
    counts[-1] = 1
    assert percentile_ms(counts, 50) == math.inf


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_purity_by_scores_lies_in_its_interval(scores):
    sums = [sum(scores), len(scores) - sum(scores), 0.0]
    found = purity_by_scores(sums, CLASSES, frozenset({"LT-HSC"}), len(scores))
    assert found is not None and 0 <= found.low <= found.share + 1e-9 and found.share <= found.high + 1e-9 <= 1 + 2e-9
    assert found.share == pytest.approx(min(1.0, np.mean(scores)))


def test_purity_is_not_said_where_there_is_nothing_to_say_it_of():
    assert purity_by_scores([0.0, 0.0, 0.0], CLASSES, frozenset({"LT-HSC"}), 0) is None
    assert purity_by_scores([1.0, 0.0, 0.0], CLASSES, frozenset(), 1) is None


def test_a_disk_lasts_as_long_as_its_room_at_the_present_rate(tmp_path):
    assert seconds_left([(0.0, 0), (10.0, 1000)], 5000) == 50.0
    assert seconds_left([(0.0, 0), (10.0, 0)], 5000) == math.inf
    assert seconds_left([(0.0, 0)], 5000) is None
    assert [long_words(s) for s in (None, 30, 600, 7200, math.inf)] == [
        "measuring", "30 s", "10 min", "2.0 h", "more than 99 h",
    ]  # fmt: skip
    assert Disk(None).words() == "nothing is recorded"
    missing = Disk(tmp_path / "gone.rtdc")
    missing.look()
    assert missing.words() == "the recording is not in reach"


# ---- what is drawn ---------------------------------------------------------------------------------------------------


def test_an_outline_lies_where_its_mask_lies():
    objects = np.zeros(1, OBJECT_DTYPE)
    objects["x_um"], objects["y_um"] = 0.5 * 100, 0.5 * 40  # pixel (100, 40) at 0.5 µm/px
    mask = np.zeros((1, 20, 20), np.uint8)
    mask[0, 5:15, 6:16] = 1
    (line,) = outlines(shown(objects=objects, masks=mask, seen=[Seen(0, 0)]), 0.5, 20)
    # the window's corner is 10 pixels left of and above the object
    assert line[:, 0].min() == 96.5 and line[:, 0].max() == 105.5
    assert line[:, 1].min() == 35.5 and line[:, 1].max() == 44.5
    assert (line[0] == line[-1]).all(), "it is closed"


def test_without_masks_the_box_gives_the_outline():
    objects = np.zeros(1, OBJECT_DTYPE)
    objects["x0_px"], objects["x1_px"], objects["y0_px"], objects["y1_px"] = 10, 20, 30, 50
    (line,) = outlines(shown(objects=objects, seen=[Seen(0, 0)]), 0.5, 20)
    assert line[:, 0].min() == pytest.approx(10) and line[:, 0].max() == pytest.approx(20)
    assert line[:, 1].min() == pytest.approx(30) and line[:, 1].max() == pytest.approx(50)


def test_strokes_join_the_points_of_a_line_and_no_others():
    strokes = Strokes.of([np.zeros((3, 2)), np.ones((0, 2)), np.ones((2, 2))])
    assert strokes.connect.tolist() == [1, 1, 0, 1, 0]
    assert len(Strokes.of([]).x) == 0


def test_a_tail_is_the_way_since_the_object_was_first_seen():
    objects = np.zeros(2, OBJECT_DTYPE)
    objects["x_um"], objects["y_um"] = 60.0, 8.0
    objects["reject"] = [0, Reject.DEBRIS]
    seen = [Seen(3, 1, since=5, v_um_s=2000.0), Seen(-1, -1)]
    first, second = tails(shown(objects=objects, seen=seen, frame=7), 0.4, 100.0)
    assert first.tolist() == [
        [pytest.approx((60 - 40) / 0.4), pytest.approx(20)],
        [pytest.approx(150), pytest.approx(20)],
    ]
    assert len(second) == 0
