"""A picking list comes back from its files as it was written, and nothing else is taken for one."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hspc_live.core.chamber import ChamberOutcome
from hspc_live.core.errors import OutputError, RecordingError
from hspc_live.report.chamber_words import LEFT_OUT, OUTCOMES, WHY
from hspc_live.report.picking_list import COLUMNS, read_picking_list, write_picking_list
from hspc_live.stages.picking import LeftOut, Pick, PickingList

ONE = Pick(1, 7, "keep", "LT-HSC", (0.9, 0.1), 0.9, -12.25, 830.5, 0.4, 8.1, 55.0, 3.5, 600.0, 4, 2)
LISTED = PickingList(("LT-HSC", "MPP"), (ONE,), ((9, LeftOut.NEIGHBOUR_TOO_NEAR),))
reals = st.floats(-1e5, 1e5)
picks = st.builds(
    Pick,
    st.integers(1, 99),
    st.integers(0, 10**6),
    st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=8),
    st.sampled_from(["LT-HSC", "MPP"]),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    *(reals,) * 5,
    st.floats(0, 1e5) | st.just(math.inf),
    reals,
    st.floats(0, 1e5) | st.just(math.inf),
    st.integers(0, 999),
    st.integers(0, 999),
)


@given(st.lists(picks, max_size=5), st.lists(st.tuples(st.integers(0, 99), st.sampled_from(LeftOut)), max_size=5))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_read_back_it_is_what_was_written_to_the_hundredth_of_a_micrometre(tmp_path_factory, found, left_out):
    listed = PickingList(("LT-HSC", "MPP"), tuple(found), tuple(left_out))
    table, whole = write_picking_list(listed, tmp_path_factory.mktemp("list"), {"run": "r"})
    again = read_picking_list(whole)
    assert again == replace(listed, picks=tuple(rounded(pick) for pick in found))
    if found:
        assert read_picking_list(table) == replace(again, left_out=())


def rounded(pick):
    um = {name: round(getattr(pick, name), 2) for name in ("x_um", "y_um", "pick_sd_um", "diameter_um", "nearest_um")}
    seconds = {name: round(getattr(pick, name), 3) for name in ("age_s", "expires_in_s")}
    return replace(pick, rank=round(pick.rank, 4), scores=tuple(round(s, 4) for s in pick.scores), **um, **seconds)


def test_no_number_has_more_digits_than_it_means(tmp_path):
    """Positions to 0.01 µm, scores to four digits, times to a millisecond, in both files."""
    third = replace(ONE, x_um=100 / 3, scores=(1 / 3, 2 / 3), rank=1 / 3, age_s=1 / 3, nearest_um=math.inf)
    table, whole = write_picking_list(PickingList(("LT-HSC", "MPP"), (third,), ()), tmp_path, {})
    [row] = csv.DictReader(table.read_text().splitlines())
    assert (row["x_um"], row["score:LT-HSC"], row["rank"], row["age_s"]) == ("33.33", "0.3333", "0.3333", "0.333")
    assert (row["y_um"], row["expires_in_s"], row["nearest_neighbour_um"]) == ("830.50", "600.000", "")
    assert row["order"] == "1" and row["field"] == "4"
    [pick] = json.loads(whole.read_text())["picks"]
    assert (pick["x_um"], pick["score:MPP"], pick["age_s"]) == (33.33, 0.6667, 0.333)


def test_units_stand_in_the_heads_and_the_books_in_the_json(tmp_path):
    table, whole = write_picking_list(LISTED, tmp_path, {"run": "a run"})
    heads = next(csv.reader(table.read_text().splitlines()))
    assert heads == [*COLUMNS, "score:LT-HSC", "score:MPP"]
    assert {"x_um", "position_plus_minus_um", "pick_sd_um", "expires_in_s"} <= set(heads)
    document = json.loads(whole.read_text())
    assert document["run"] == "a run"
    assert document["ledger"] == {"wanted": 2, "picked": 1, "left_out": {"neighbour_too_near": 1}}
    [left_out] = document["left_out"]
    assert (left_out["cell"], left_out["reason"]) == (9, "neighbour_too_near")
    assert "so near that a pick would take it along" in left_out["why"]


def test_every_reason_has_words():
    assert set(WHY) == set(LEFT_OUT) == set(LeftOut) and set(OUTCOMES) == set(ChamberOutcome)


def test_nothing_is_overwritten(tmp_path):
    write_picking_list(LISTED, tmp_path, {})
    with pytest.raises(OutputError, match="overwritten"):
        write_picking_list(LISTED, tmp_path, {})
    with pytest.raises(OutputError, match="cannot be written"):
        write_picking_list(LISTED, tmp_path / "nowhere", {})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "{}"),
        ("b.json", "[1]"),
        ("c.json", '{"format": "hspc-live-picking-list/2"}'),
        ("d.csv", "x,y\n1,2\n"),
        ("e.json", "not json"),
    ],
)
def test_what_is_no_picking_list_is_refused_by_name(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(RecordingError, match=name):
        read_picking_list(tmp_path / name)
    with pytest.raises(RecordingError, match="missing"):
        read_picking_list(tmp_path / "missing.csv")


def test_a_place_that_is_none_is_refused(tmp_path):
    table = tmp_path / "bad.csv"
    good, _ = write_picking_list(LISTED, tmp_path, {})
    table.write_text(good.read_text().replace("-12.25", "nan"))
    with pytest.raises(RecordingError, match="place of cell 7"):
        read_picking_list(table)
