"""Scoring against hand-made truth, where every number can be counted on fingers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_live.core.errors import RecordingError
from hspc_live.core.values import CellOutcome, CellRecord, Classification
from hspc_live.settings.sort import AndGate, NotGate, Outlet, RangeGate, ScoreGate
from hspc_live.twin.cells import KINDS
from hspc_live.twin.pulses import Armed, Diary, Pulse, read_diary, to_line
from hspc_live.twin.score import Filmed, collected_objects, score_cells, score_sort, wanted_classes, wilson
from hspc_live.twin.truth import SIGHTING_DTYPE, TRUTH_DTYPE, FlowTruth

MS = 1_000_000
V = 4000.0
TRANSIT_NS = 650 * MS
FILMED = Filmed(first_ns=0, last_ns=10_000 * MS, field_um=256.0)
LT = Outlet(name="left", gate=ScoreGate(class_name="LT-HSC"))


def _truth(objects: list[tuple[str, float]], sightings: list[tuple[int, int, float, float]] | None = None) -> FlowTruth:
    """Objects as (kind, junction in ms); sightings as (frame, object, x, y)."""
    rows = np.zeros(len(objects), TRUTH_DTYPE)
    for row, (kind, junction_ms) in enumerate(objects):
        rows["id"][row] = row
        rows["kind"][row] = KINDS.index(kind)
        rows["velocity_um_s"][row] = V
        rows["junction_ns"][row] = round(junction_ms * MS)
        rows["entry_ns"][row] = round(junction_ms * MS) - TRANSIT_NS
    seen = np.zeros(len(sightings or ()), SIGHTING_DTYPE)
    for place, (frame, number, x_um, y_um) in enumerate(sightings or ()):
        seen["frame"][place], seen["object"][place] = frame, number
        seen["x_um"][place], seen["y_um"][place] = x_um, y_um
    return FlowTruth(KINDS, rows, seen)


def _pulse(command: int, opened_ms: float, closed_ms: float, outlet: str = "left", **more: Any) -> Pulse:
    opened, closed = round(opened_ms * MS), round(closed_ms * MS)
    return Pulse(command, outlet, opened, closed, opened + 7, closed + 7, **more)


def _diary(*pulses: Pulse, armed_ms: tuple[float, float] = (0, 9000)) -> Diary:
    on, off = (Armed(round(at * MS), state) for at, state in zip(armed_ms, (True, False), strict=True))
    return Diary((on, *pulses, off))


def test_everything_collected_counts_against_purity() -> None:
    truth = _truth(
        [("LT-HSC", 1000), ("MPP", 1100), ("debris", 1101), ("doublet", 1200), ("LT-HSC", 1300), ("LT-HSC", 1400)]
    )
    diary = _diary(_pulse(0, 995, 1005), _pulse(1, 1095, 1105), _pulse(2, 1195, 1205), _pulse(3, 1295, 1305))
    score = score_sort(diary, truth, [LT], FILMED)
    assert (score["wanted"], score["collected"], score["purity"]) == (2, 5, 0.4)
    assert score["collected_by_kind"] == {"LT-HSC": 2, "MPP": 1, "debris": 1, "doublet": 1}
    assert score["recovery"] == pytest.approx(2 / 3)
    assert score["yield"] == 0.5
    low, high = score["purity_interval"]
    assert 0.0 < low < 0.4 < high < 1.0
    assert score["outlets"]["left"]["purity"] == 0.4


def test_nothing_collected_is_no_purity() -> None:
    score = score_sort(_diary(_pulse(0, 1, 2)), _truth([("LT-HSC", 1000)]), [LT], FILMED)
    assert score["purity"] is None and score["purity_interval"] is None
    assert score["recovery"] == 0.0 and score["yield"] == 0.0
    nothing = score_sort(_diary(), _truth([]), [LT], FILMED)
    assert nothing["purity"] is None and nothing["recovery"] is None and nothing["yield"] is None


def test_a_missed_pulse_collects_nothing_and_a_delay_error_shifts_what_it_takes() -> None:
    truth = _truth([("LT-HSC", 1000), ("MPP", 992)])
    missed = score_sort(_diary(_pulse(0, 995, 1005, deflects=False)), truth, [LT], FILMED)
    assert missed["collected"] == 0 and missed["missed_pulses"] == 1
    late = score_sort(_diary(_pulse(0, 995, 1005, delay_error_ns=8 * MS)), truth, [LT], FILMED)
    assert late["collected_by_kind"] == {"MPP": 1}  # what crosses 8 ms before the pulse is in it when it opens


def test_recovery_counts_only_what_could_have_been_sorted() -> None:
    truth = _truth([("LT-HSC", 500), ("LT-HSC", 1000), ("LT-HSC", 2000), ("LT-HSC", 3000), ("LT-HSC", 9900)])
    # armed from 1400 to 2900: the first two entered before, the fourth arrives after; the last left the field unfilmed
    score = score_sort(_diary(_pulse(0, 1995, 2005), armed_ms=(1300, 2900)), truth, [LT], FILMED)
    assert (score["wanted_passed"], score["recovered"], score["recovery"]) == (1, 1, 1.0)
    short = Filmed(first_ns=0, last_ns=2000 * MS, field_um=256.0)
    score = score_sort(_diary(armed_ms=(0, 9990)), truth, [LT], short)
    assert score["wanted_passed"] == 2  # in view before the first frame: 500; entering after the last one: 3000, 9900


def test_an_object_in_two_pulses_is_collected_once() -> None:
    truth = _truth([("LT-HSC", 1000)])
    collected = collected_objects([_pulse(1, 999, 1010), _pulse(0, 990, 1001)], truth)
    assert collected == {0: [0], 1: []}


def test_outlets_are_scored_apart_and_together() -> None:
    truth = _truth([("LT-HSC", 1000), ("MPP", 2000), ("MPP", 3000)])
    right = Outlet(name="right", gate=ScoreGate(class_name="MPP"))
    diary = _diary(_pulse(0, 995, 1005), _pulse(1, 1995, 2005, "left"), _pulse(2, 2995, 3005, "right"))
    score = score_sort(diary, truth, [LT, right], FILMED)
    assert score["outlets"]["left"]["purity"] == 0.5
    assert score["outlets"]["right"]["purity"] == 1.0
    assert score["outlets"]["right"]["recovery"] == 0.5
    assert score["purity"] == pytest.approx(2 / 3)


def test_what_a_gate_wants() -> None:
    size = RangeGate(kind="range", feature="diameter_um", max=9.0)
    both = AndGate(kind="and", of=(ScoreGate(class_name="ST-HSC"), size, NotGate(kind="not", of=LT.gate)))
    assert wanted_classes(both) == {"ST-HSC"}
    assert wanted_classes(size) == frozenset()


@given(st.integers(0, 500), st.integers(0, 500))
def test_wilson_holds_the_share_and_stays_inside_0_and_1(hits: int, rest: int) -> None:
    interval = wilson(hits, hits + rest)
    if hits + rest == 0:
        assert interval is None
    else:
        assert interval is not None
        low, high = interval
        assert 0.0 <= low <= hits / (hits + rest) + 1e-12
        assert hits / (hits + rest) - 1e-12 <= high <= 1.0


def test_wilson_is_the_textbook_s() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def _record(number: int, x_um: float, y_um: float, frames: range, said: str, outcome: CellOutcome) -> CellRecord:
    scores = tuple(0.8 if name == said else 0.1 for name in KINDS[:3])
    return CellRecord(
        cell=number,
        first_frame=frames[0],
        last_frame=frames[-1],
        views=tuple((frame, 0) for frame in frames),
        outcome=outcome,
        reason="",
        outlet=None,
        classification=Classification(number, scores, said, len(frames)),
        velocity_um_s=V,
        velocity_sd_um_s=10.0,
        arrival_ns=0,
        arrival_sd_ns=0,
        y_um=y_um,
        last_capture_ns=0,
        decided_ns=0,
        latency_ns=0,
        features={"x_um": x_um, "y_um": y_um},
    )


def test_cells_are_matched_where_they_were_seen() -> None:
    sightings = [(f, 0, 40.0 * f, 20.0) for f in range(4)] + [(f, 1, 40.0 * f + 12, 24.0) for f in range(4)]
    truth = _truth([("LT-HSC", 1000), ("dead", 1001), ("MPP", 1002)], sightings)
    records = [
        _record(0, 41.0, 20.5, range(3), "LT-HSC", CellOutcome.SORTED),
        _record(1, 52.5, 23.5, range(3), "MPP", CellOutcome.ABSTAINED),
        _record(2, 41.0, 90.0, range(3), "MPP", CellOutcome.PASSED),  # nobody was there
        _record(3, 120.0, 20.0, range(3, 4), "ST-HSC", CellOutcome.PASSED),
    ]
    score = score_cells(records, truth, KINDS[:3])
    assert score["confusion"] == {"LT-HSC": {"LT-HSC": 1, "ST-HSC": 1}, "dead": {"abstain": 1}}
    assert (score["consistency_rate"], score["n"], score["unmatched"]) == (0.5, 2, 1)
    assert score["per_class"] == {"LT-HSC": 0.5, "ST-HSC": None, "MPP": None}


def test_a_diary_comes_back_and_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "pulses.jsonl"
    entries = (Armed(5, True), _pulse(1, 10, 20), Armed(99, False, "watchdog"))
    path.write_bytes(b"".join(map(to_line, entries)) + to_line(entries[1])[:17])
    assert read_diary(path).entries == entries
    path.write_bytes(b"{}\n")
    with pytest.raises(RecordingError, match="line 1"):
        read_diary(path)
    with pytest.raises(RecordingError, match="cannot be read"):
        read_diary(tmp_path / "none")


def test_an_open_armed_span_ends_with_the_run() -> None:
    diary = Diary((Armed(5, True), Armed(9, False, "watchdog"), Armed(20, True)))
    assert diary.armed_spans(100) == [(5, 9), (20, 100)]
