"""Evidence and gates."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_live.core.errors import SettingsError
from hspc_live.settings.sort import (
    AbstainSettings,
    AndGate,
    CloseSettings,
    Gate,
    KnownStrangers,
    NotGate,
    OrGate,
    Outlet,
    PolygonGate,
    RangeGate,
    ScoreGate,
    SortSettings,
    TopPercentGate,
)
from hspc_live.stages.gate import GateSet, check_gates, combine, corrected, doubt, inside, usable

CLASSES = ("LT-HSC", "ST-HSC", "MPP")
rows = st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda row: sum(row) > 0).map(tuple)


def passes(gate: Gate, scores: tuple[float, ...] = (0.7, 0.2, 0.1), **features: float) -> bool:
    gates = GateSet((Outlet(name="out", gate=gate),), CLASSES)
    return gates.decide(scores, features) == "out"


# ---- evidence ----------------------------------------------------------------------------------------------------


def test_agreeing_views_keep_their_scores_and_disagreeing_ones_meet() -> None:
    assert combine([(0.7, 0.2, 0.1)] * 3) == pytest.approx((0.7, 0.2, 0.1))
    assert combine([(0.8, 0.1, 0.1), (0.1, 0.8, 0.1)])[:2] == pytest.approx((0.45, 0.45), abs=0.2)


def test_one_views_zero_is_no_veto() -> None:
    scores = combine([(0.99, 0.005, 0.005)] * 4 + [(0.0, 1.0, 0.0)])
    assert scores[0] == max(scores)
    assert all(score > 0 for score in scores)


@given(st.lists(rows, min_size=1, max_size=6))
def test_combined_scores_are_a_distribution_whatever_the_views(views: list[tuple[float, ...]]) -> None:
    scores = combine(views)
    assert sum(scores) == pytest.approx(1.0)
    assert all(0 <= score <= 1 for score in scores)


@given(st.lists(rows, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_the_views_hardly_matters(views: list[tuple[float, ...]], dice: object) -> None:
    mixed = sorted(views, key=repr)
    assert combine(mixed) == pytest.approx(combine(views), abs=1e-9)


def test_no_view_is_no_evidence() -> None:
    with pytest.raises(ValueError, match="no view"):
        combine([])


@pytest.mark.parametrize(
    ("row", "good"),
    [((0.7, 0.3), True), ((0.0, 1.0), True), ((math.nan, 0.5), False), ((math.inf, 0.0), False), ((-0.1, 1.1), False)],
)
def test_which_rows_are_usable(row: tuple[float, ...], good: bool) -> None:
    assert usable(row) is good
    assert not usable((0.0, 0.0))


LIMITED = AbstainSettings(min_score=0.3, min_views=2, known=KnownStrangers(limit=0.4, wrongly=0.05, basis="the model"))


@pytest.mark.parametrize(
    ("best", "views", "why"),
    [(0.9, 1, "few_views"), (0.2, 2, "low_score"), (0.5, 2, "stranger"), (0.7, 2, None), (0.2, 1, "few_views")],
)
def test_why_nothing_is_said_of_a_cell(best: float, views: int, why: str | None) -> None:
    assert doubt(best, views, LIMITED) == why


def test_strangers_are_believed_where_they_are_ignored_or_there_is_no_limit() -> None:
    assert doubt(0.5, 2, LIMITED.model_copy(update={"strangers": "ignore"})) is None
    assert doubt(0.5, 2, LIMITED.model_copy(update={"known": None})) is None
    none = KnownStrangers(limit=None, wrongly=None, basis="the model")
    assert doubt(0.5, 2, LIMITED.model_copy(update={"known": none})) is None


@given(rows, st.lists(st.floats(0, 5), min_size=3, max_size=3))
def test_corrected_scores_are_a_distribution_or_nothing(row: tuple[float, ...], factors: list[float]) -> None:
    found = corrected(row, factors)
    assert all(0 <= score <= 1 + 1e-9 for score in found)
    assert sum(found) == pytest.approx(1.0) or found == (0.0, 0.0, 0.0)


def test_scores_that_the_population_cannot_explain_pass_no_gate() -> None:
    assert corrected((0.0, 1.0, 0.0), (1.0, 0.0, 1.0)) == (0.0, 0.0, 0.0)
    assert corrected((0.5, 0.25, 0.25), (0.5, 1.0, 1.0)) == pytest.approx((1 / 3, 1 / 3, 1 / 3))


# ---- gates -------------------------------------------------------------------------------------------------------


def test_score_gate() -> None:
    assert passes(ScoreGate(class_name="LT-HSC", min=0.7))
    assert not passes(ScoreGate(class_name="LT-HSC", min=0.71))
    assert not passes(ScoreGate(class_name="ST-HSC", min=0.1))  # not the best class
    assert passes(ScoreGate(class_name="ST-HSC", min=0.1, top=False))


def test_range_gate_includes_its_ends_and_may_be_open() -> None:
    gate = RangeGate(kind="range", feature="diameter_um", min=7.0, max=9.0)
    assert [passes(gate, diameter_um=d) for d in (6.9, 7.0, 8.0, 9.0, 9.1)] == [False, True, True, True, False]
    assert passes(RangeGate(kind="range", feature="diameter_um", min=7.0), diameter_um=1e9)
    assert passes(RangeGate(kind="range", feature="score:LT-HSC", min=0.6, max=0.8))


def test_polygon_gate_with_a_dent() -> None:
    gate = PolygonGate(
        kind="polygon", x="area_um2", y="deformation", vertices=((0, 0), (10, 0), (10, 10), (5, 5), (0, 10))
    )
    assert passes(gate, area_um2=2.0, deformation=2.0)
    assert passes(gate, area_um2=1.0, deformation=8.0)
    assert not passes(gate, area_um2=5.0, deformation=8.0)  # in the dent
    assert not passes(gate, area_um2=11.0, deformation=5.0)


@given(st.floats(-2, 2), st.floats(-2, 2))
def test_a_square_polygon_agrees_with_two_ranges(x: float, y: float) -> None:
    if abs(abs(x) - 1) > 1e-9 and abs(abs(y) - 1) > 1e-9:
        assert inside(x, y, ((-1, -1), (1, -1), (1, 1), (-1, 1))) == (abs(x) < 1 and abs(y) < 1)


def test_top_percent_ranks_against_the_last_cells_only() -> None:
    gates = GateSet(
        (Outlet(name="out", gate=TopPercentGate(kind="top_percent", feature="area_um2", percent=20, window=10)),),
        CLASSES,
    )
    assert gates.remembers

    def judge(value: float) -> bool:
        return gates.decide((1.0, 0.0, 0.0), {"area_um2": value}) == "out"

    assert [judge(float(value)) for value in range(9)] == [False] * 9  # before the window is full none passes
    assert judge(9.0)  # 0…9: the highest
    assert judge(8.5)  # second highest of ten
    assert not judge(3.0)
    for _ in range(10):
        judge(0.0)
    assert judge(0.5)  # the high ones have left the window


@given(st.lists(st.floats(0, 100), min_size=30, max_size=120))
def test_top_percent_equals_sorting_the_window(values: list[float]) -> None:
    gate = TopPercentGate(kind="top_percent", feature="area_um2", percent=30, window=20)
    gates = GateSet((Outlet(name="out", gate=gate),), CLASSES)
    for place, value in enumerate(values):
        window = values[max(0, place - 19) : place + 1]
        expected = len(window) == 20 and value >= sorted(window, reverse=True)[5]
        assert (gates.decide((1.0, 0.0, 0.0), {"area_um2": value}) == "out") is expected


def test_and_or_not() -> None:
    lt, large = ScoreGate(class_name="LT-HSC"), RangeGate(kind="range", feature="diameter_um", min=8.0)
    both, either = AndGate(kind="and", of=(lt, large)), OrGate(kind="or", of=(lt, large))
    neither = NotGate(kind="not", of=either)
    st_scores = (0.1, 0.8, 0.1)
    assert passes(both, diameter_um=9.0)
    assert not passes(both, diameter_um=7.0)
    assert passes(either, diameter_um=7.0)
    assert passes(either, st_scores, diameter_um=9.0)
    assert passes(neither, st_scores, diameter_um=7.0)
    assert not passes(neither, diameter_um=7.0)


def test_a_feature_that_is_nan_passes_no_gate_not_even_a_not() -> None:
    gate = NotGate(kind="not", of=RangeGate(kind="range", feature="deformation", max=0.1))
    assert passes(gate, deformation=0.2)
    assert not passes(gate, deformation=math.nan)


def test_priority_decides_between_outlets_that_both_want_a_cell() -> None:
    any_cell = RangeGate(kind="range", feature="score:LT-HSC")
    gates = GateSet(
        (Outlet(name="late", gate=any_cell, priority=5), Outlet(name="early", gate=any_cell, priority=1)), CLASSES
    )
    assert gates.decide((1.0, 0.0, 0.0), {}) == "early"


# ---- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        (ScoreGate(class_name="HSC"), r"'sorted'.*'HSC'.*LT-HSC, ST-HSC, MPP"),
        (
            NotGate(kind="not", of=AndGate(kind="and", of=(ScoreGate(class_name="B-cell"),))),
            r"'B-cell'.*LT-HSC, ST-HSC, MPP",
        ),
        (RangeGate(kind="range", feature="score:HSC"), r"'HSC'.*LT-HSC, ST-HSC, MPP"),
        (RangeGate(kind="range", feature="volume"), r"no feature 'volume'.*diameter_um"),
        (RangeGate(kind="range", feature="reject"), r"no feature 'reject'"),
        (RangeGate(kind="range", feature="area_um2", min=9, max=3), r"min 9.*above max 3"),
        (PolygonGate(kind="polygon", x="area_um2", y="depth", vertices=((0, 0), (1, 0), (1, 1))), r"'depth'"),
        (TopPercentGate(kind="top_percent", feature="area_um2", percent=1, window=50), r"less than one cell.*100"),
    ],
)
def test_gates_that_cannot_work_are_refused_with_the_reason(gate: Gate, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check_gates(SortSettings(outlets=(Outlet(name="sorted", gate=gate),)), CLASSES)


def test_outlets_of_one_name_and_impossible_verdicts_are_refused() -> None:
    twice = Outlet(name="a", gate=ScoreGate(class_name="MPP"))
    with pytest.raises(SettingsError, match="two outlets are called 'a'"):
        check_gates(SortSettings(outlets=(twice, twice)), CLASSES)
    with pytest.raises(SettingsError, match="min_views"):
        check_gates(SortSettings(abstain=AbstainSettings(min_views=4), close=CloseSettings(views=3)), CLASSES)


def test_good_gates_are_let_through() -> None:
    gate = OrGate(
        kind="or",
        of=(
            ScoreGate(class_name="LT-HSC"),
            TopPercentGate(kind="top_percent", feature="score:LT-HSC", percent=3, window=200),
        ),
    )
    check_gates(SortSettings(outlets=(Outlet(name="a", gate=gate),)), CLASSES)


def test_a_gate_may_name_the_light_in_a_channel_that_is_measured():
    gate = RangeGate(kind="range", feature="glow:gfp", min=100.0)
    settings = SortSettings(outlets=(Outlet(name="bright", gate=NotGate(kind="not", of=gate)),))
    check_gates(settings, CLASSES, ("gfp",))
    with pytest.raises(
        SettingsError, match=r"'bright'.*channel 'gfp'.*exposed are rfp, bfp \(exposure\.fluorescence\)"
    ):
        check_gates(settings, CLASSES, ("rfp", "bfp"))
    with pytest.raises(SettingsError, match=r"channel 'gfp'.*no channel of fluorescence is exposed"):
        check_gates(settings, CLASSES, ())
    with pytest.raises(SettingsError, match=r"'glow:gfp', which is measured in a chamber alone"):
        check_gates(settings, CLASSES)


def test_a_gate_of_light_takes_the_bright_and_nothing_of_which_the_light_is_not_known():
    bright = GateSet((Outlet(name="bright", gate=RangeGate(kind="range", feature="glow:gfp", min=100.0)),), CLASSES)
    dark = GateSet((Outlet(name="dark", gate=RangeGate(kind="range", feature="glow:gfp", max=100.0)),), CLASSES)
    even = (1 / len(CLASSES),) * len(CLASSES)
    found = [(g.decide(even, {"glow:gfp": light}) or "") for light in (99.0, 101.0, math.nan) for g in (bright, dark)]
    assert found == ["", "dark", "bright", "", "", ""]
