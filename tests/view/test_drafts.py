"""Gates on a plot: moved, they are a draft; what is asked for is exactly what is drawn."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_live.core.errors import SettingsError
from hspc_live.settings.load import load_outlets
from hspc_live.settings.sort import Outlet, PolygonGate, RangeGate
from hspc_live.view.drafts import Draft, gate_words

SCORE = {"kind": "score", "class_name": "LT-HSC", "min": 0.5}
RANGE = {"kind": "range", "feature": "diameter_um", "min": 6.0, "max": 9.0}
POLYGON = {"kind": "polygon", "x": "area_um2", "y": "diameter_um", "vertices": [[10, 5], [90, 5], [50, 12]]}


def outlet(gate: dict, name: str = "a") -> Outlet:
    return Outlet.model_validate({"name": name, "gate": gate})


def draft(*gates: dict) -> Draft:
    return Draft([outlet(gate, f"o{number}") for number, gate in enumerate(gates)], 0)


def test_gates_lie_where_they_say_on_either_axis():
    one = draft({"kind": "and", "of": [SCORE, {"kind": "not", "of": RANGE}]})
    assert [(line.axis, line.at, line.end) for line in one.lines("score:LT-HSC", "diameter_um")] == [
        ("x", 0.5, "min"),
        ("y", 6.0, "min"),
        ("y", 9.0, "max"),
    ]
    assert [line.axis for line in one.lines("diameter_um", None)] == ["x", "x"]
    assert list(one.lines("area_um2", "x_um")) == []


def test_a_moved_border_is_a_draft_until_it_is_asked_for():
    one = draft({"kind": "and", "of": [SCORE, RANGE]})
    line = next(iter(one.lines("score:LT-HSC", None)))
    one.move_line(line, 0.73)
    assert one.changed and one.in_force[0].gate.of[0].min == 0.5
    wished = load_outlets(one.wish(), "the wish")
    assert wished[0].gate.of[0].min == 0.73 and wished[0].gate.of[1] == one.in_force[0].gate.of[1]
    assert "0.73" in one.changes()[0] and "0.5" in one.changes()[0]
    one.discard()
    assert not one.changed


@given(st.lists(st.tuples(st.sampled_from(["min", "max"]), st.floats(-50, 50)), max_size=8))
def test_the_ends_of_a_range_never_pass_each_other(moves):
    one = draft(RANGE)
    for end, to in moves:
        line = next(line for line in one.lines("diameter_um", None) if line.end == end)
        one.move_line(line, to)
        gate = one.outlets[0].gate
        assert gate.min <= gate.max


@given(st.floats(-3, 3))
def test_a_score_stays_a_score(to):
    one = draft(SCORE)
    one.move_line(next(iter(one.lines("score:LT-HSC", None))), to)
    assert 0.0 <= one.outlets[0].gate.min <= 1.0


def test_a_polygon_is_the_same_on_turned_axes():
    one = draft(POLYGON)
    (straight,) = one.polygons("area_um2", "diameter_um")
    (turned,) = one.polygons("diameter_um", "area_um2")
    assert turned.vertices == tuple((y, x) for x, y in straight.vertices) and turned.turned
    one.move_polygon(turned, [(1, 2), (3, 4), (5, 9)])
    assert one.outlets[0].gate.vertices == ((2, 1), (4, 3), (9, 5))
    assert list(one.polygons("diameter_um", "brightness")) == []


def test_an_outlet_is_narrowed_and_widened_again():
    one = draft(SCORE)
    one.add("o0", RangeGate(kind="range", feature="area_um2", min=1.0, max=2.0))
    one.add("o0", PolygonGate(kind="polygon", x="x_um", y="y_um", vertices=((0, 0), (1, 0), (1, 1))))
    assert gate_words(one.outlets[0].gate).count(" and ") == 2
    places = [place for place, _, leaf in one.leaves() if leaf.kind != "score"]
    assert [place for place, _ in one.narrowing()] == places
    assert [words for _, words in one.narrowing()] == [
        "o0: 1 ≤ area_um2 ≤ 2",
        "o0: polygon of 3 corners in (x_um, y_um)",
    ]
    one.remove(places[1])
    one.remove(places[0])
    assert not one.changed and not list(one.narrowing())
    with pytest.raises(SettingsError, match="no outlet nobody"):
        one.add("nobody", RangeGate(kind="range", feature="area_um2"))


def test_a_promise_is_shown_but_neither_moved_nor_narrowed():
    rate = {"rate": 0.9, "low": 0.8, "high": 1.0, "n": 10}
    made = {
        "threshold": 0.8, "seen": rate, "kept": rate, "tested": 10, "method": "m", "data": "d", "taken": "flow",
        "calibration_sha256": "0", "basis": "b",
    }  # fmt: skip
    one = draft({"kind": "promise", "class_name": "MPP", "purity": 0.9, "made": made})
    (line,) = one.lines("score:MPP", None)
    assert line.at == 0.8 and not line.movable
    one.move_line(line, 0.2)
    assert not one.changed
    with pytest.raises(SettingsError, match="promise"):
        one.add("o0", RangeGate(kind="range", feature="area_um2"))


def test_a_draft_follows_the_run_unless_it_holds_changes():
    text = json.dumps([outlet(RANGE, "new").model_dump(mode="json")])
    one = draft(SCORE)
    assert one.follow(text, 1) and one.revision == 1 and one.outlets[0].name == "new"
    one.move_line(next(iter(one.lines("diameter_um", None))), 7.0)
    other = json.dumps([outlet(SCORE, "other").model_dump(mode="json")])
    assert not one.follow(other, 2)
    assert one.overtaken and one.outlets[0].name == "new", "what a person has moved is not thrown away"
