"""What the pictures count and choose, against the data that went in."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_live.core.values import CellOutcome, Reject
from hspc_live.report import style
from hspc_live.report.confusion import confusion_table, consistency_words
from hspc_live.report.evidence import gather
from hspc_live.report.gallery import cut_out
from hspc_live.report.latency import latencies
from hspc_live.report.outlets import measure, predicted_for, rates
from hspc_live.report.select import by_certainty, choose_frames, ends, owners, reject_examples, said
from hspc_live.twin.score import score_cells


@pytest.fixture
def evidence(write_run):
    with gather(write_run(), {}) as found:
        yield found


def test_the_confusion_table_counts_every_classified_cell_under_its_true_kind(evidence):
    scores = score_cells(evidence.records, evidence.truth, evidence.classes)
    table = confusion_table(scores["confusion"], evidence.classes)
    assert table.kinds == ("LT-HSC", "ST-HSC", "MPP", "dead")
    assert table.said == ("LT-HSC", "ST-HSC", "MPP", "abstain")
    assert table.known == 3
    assert table.counts.tolist() == [[2, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 0, 0]]
    assert table.shares().sum(axis=1).tolist() == [1, 1, 1, 1]
    words = consistency_words(scores)
    assert "83.3 %" in words and "n = 6 cells" in words and "95 % interval" in words


def test_a_confusion_table_without_cells_has_all_classes_and_no_shares():
    table = confusion_table({}, ("A", "B"))
    assert table.counts.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert not table.shares().any()
    assert "no cell" in consistency_words({"consistency_rate": None})


def test_what_was_collected_is_counted_by_true_kind_and_purity_stands_beside_its_prediction(evidence):
    found = measure(evidence)
    outlet = found["outlets"]["LT-HSC"]
    assert outlet["collected_by_kind"] == {"LT-HSC": 2, "ST-HSC": 1}
    lines = rates(outlet, {"predicted_purity": 0.7, "predicted_interval": [0.4, 0.95]})
    assert [line.name for line in lines] == ["purity", "purity, predicted", "recovery", "yield"]
    assert lines[0].share == pytest.approx(2 / 3) and lines[0].note.startswith("2 of 3")
    assert (lines[1].share, lines[1].interval, lines[1].measured) == (0.7, (0.4, 0.95), False)
    assert lines[2].share == 1.0
    assert [line.name for line in rates(outlet, {})] == ["purity", "recovery", "yield"]


def test_the_prediction_of_the_whole_sort_is_that_of_its_only_outlet():
    summary = {"sort": {"predicted_purity": 0.5, "outlets": {"B": {"predicted_purity": 0.8}}}}
    assert predicted_for(summary, "A", True)["predicted_purity"] == 0.5
    assert predicted_for(summary, "A", False) == {}
    assert predicted_for(summary, "B", False)["predicted_purity"] == 0.8
    assert predicted_for({}, "A", True) == {}


def test_latencies_are_those_of_the_decided_cells_with_the_time_they_had(evidence):
    late = replace(evidence.records[0], cell=99, latency_ns=None, classification=None)
    data = latencies([*evidence.records, late], evidence.settings.sort)
    assert data.latency_ms.tolist() == [10, 11, 12, 13, 14, 15, 16]
    assert data.undecided == 1
    # arrival 600 ms after the last look, ± 3 x 2 ms, 20 ms lead of the device, half a millisecond to spare
    assert data.allowed_ms == pytest.approx([573.5] * 7)
    assert np.isnan(latencies(evidence.records, None).allowed_ms).all()


def test_galleries_keep_the_abstained_apart_and_miss_no_class(evidence):
    groups = said(evidence.records, evidence.classes)
    assert {name: [record.cell for record in of] for name, of in groups.items()} == {
        "LT-HSC": [0, 1, 2], "ST-HSC": [3, 6], "MPP": [4],
    }  # fmt: skip


def test_the_most_certain_come_first_and_nobody_is_shown_twice(evidence):
    ranked = [record.cell for record in by_certainty(evidence.records)]
    assert ranked == [4, 0, 3, 1, 2, 6, 5]
    best, least = ends(evidence.records, 3, 2)
    assert [record.cell for record in best] == ranked[:3]
    assert [record.cell for record in least] == ranked[-2:]


def test_frames_with_a_sorted_cell_and_something_rejected_are_chosen_first(evidence):
    frames = evidence.results["frame"]
    [first] = choose_frames(frames, evidence.objects, evidence.records, count=1)
    shown = {record.cell for record in evidence.records for frame, _ in record.views if frame == first}
    assert any(evidence.records[cell].outcome is CellOutcome.SORTED for cell in shown)
    rejected = evidence.objects["frame"][evidence.objects["reject"] != Reject.ACCEPTED]
    assert first in rejected
    several = choose_frames(frames, evidence.objects, evidence.records, count=4)
    classes = {record.classification.predicted for record in evidence.records for f, _ in record.views if f in several}
    assert classes == {"LT-HSC", "ST-HSC", "MPP"}
    assert several == sorted(set(several)) and len(several) == 4
    assert choose_frames(frames[:0], evidence.objects, evidence.records) == []


def test_a_cell_is_recognised_before_and_after_the_looks_it_was_judged_by(evidence):
    times = dict(evidence.results[["frame", "captured_ns"]].tolist())
    last_look_unused = [replace(record, views=record.views[:2]) for record in evidence.records]
    x_um = 10 + 7.5  # the mean place of the two looks that remain
    for record in last_look_unused:
        record.features.update(x_um=x_um)
    frame = evidence.records[3].last_frame
    found = owners(frame, evidence.in_frame(frame), last_look_unused, times)
    assert [None if record is None else record.cell for record in found] == [3, None]  # the other one is debris


def test_an_object_where_no_cell_should_be_belongs_to_none(evidence):
    times = dict(evidence.results[["frame", "captured_ns"]].tolist())
    frame = evidence.records[3].last_frame
    others = [record for record in evidence.records if record.cell != 3]
    assert owners(frame, evidence.in_frame(frame), others, times) == [None, None]


def test_examples_of_rejects_are_real_ones_spread_over_the_run(evidence):
    examples = reject_examples(evidence.objects, 2)
    assert list(examples) == [Reject.DEBRIS]
    rows = examples[Reject.DEBRIS]
    assert len(rows) == 2 and set(evidence.objects["reject"][rows]) == {Reject.DEBRIS}
    assert evidence.objects["frame"][rows].tolist() == [10, 40]


@given(st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=12))
def test_every_class_has_a_colour_of_its_own(others):
    classes = [*others, *(name for name in style.FIXED if name not in others)]
    colours = style.class_colours(classes)
    assert list(colours) == classes
    assert len(set(colours.values())) == len(classes)
    assert all(colours[name] == colour for name, colour in style.FIXED.items())


@given(st.floats(0.5, 1e5), st.floats(0.05, 0.9))
def test_scale_bars_have_round_lengths_that_fit(span_um, share):
    length = style.nice_length(span_um, share)
    assert 0.39 * span_um * share < length <= span_um * share * 1.001
    digit = length / 10 ** math.floor(math.log10(length) + 1e-9)
    assert any(digit == pytest.approx(step) for step in (1, 2, 5))


@given(st.floats(-3, 15), st.floats(-3, 15), st.integers(1, 9))
def test_a_cut_out_keeps_its_place_and_is_white_outside_the_frame(x, y, edge):
    pixels = np.arange(144, dtype=np.uint8).reshape(12, 12)
    picture = cut_out(pixels, x, y, edge)
    assert picture.shape == (edge, edge)
    for i, j in np.ndindex(edge, edge):
        at = (round(y) - edge // 2 + i, round(x) - edge // 2 + j)
        inside = 0 <= at[0] < 12 and 0 <= at[1] < 12
        assert picture[i, j] == pixels[at] if inside else np.isnan(picture[i, j])
