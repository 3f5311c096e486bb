"""Verdicts on the objects of a chamber, and the books over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_live.core.chamber import ChamberCell, ChamberOutcome
from hspc_live.core.values import Detection
from hspc_live.settings.chamber import PickingSettings, PositionSettings, StageLimits
from hspc_live.settings.sort import (
    AbstainSettings,
    KnownStrangers,
    MadePromise,
    Outlet,
    PromiseGate,
    RangeGate,
    ScoreGate,
    ShareSeen,
    TopPercentGate,
)
from hspc_live.stages.chamber_verdicts import (
    ChamberBooks,
    Evidence,
    close_cells,
    decisions_sha256,
    judge_objects,
    wanted,
)
from hspc_live.stages.gate import GateSet
from hspc_live.stages.looks import Look
from hspc_live.stages.mosaic import Seen
from hspc_live.stages.picking import make_picking_list

CLASSES = ("LT-HSC", "ST-HSC", "MPP")
LT = Outlet(name="lt", gate=ScoreGate(class_name="LT-HSC", min=0.5))
FEATURES = dict.fromkeys(Detection._fields, 0.0) | {"diameter_um": 9.0}
ABSTAIN = AbstainSettings(min_score=0.4)


def objects(n: int) -> list[Seen]:
    found = []
    for number in range(n):
        look = Look(0, number, 0, 100.0 * number, 0.0, 0.1, 4.5, 60.0, 0.5, True)
        found.append(Seen(number, look.x_um, look.y_um, 0.1, 4.5, 0, look, (look,)))
    return found


def run(
    scores: Mapping[int, tuple[float, ...]],
    refused: Mapping[int, str] | None = None,
    outlets: tuple[Outlet, ...] = (LT,),
    picking: PickingSettings | None = None,
    abstain: AbstainSettings = ABSTAIN,
) -> list[ChamberCell]:
    seen = objects(len(scores) + len(refused or {}))
    evidence = Evidence(
        {(0, view): row for view, row in scores.items()},
        {(0, view): why for view, why in (refused or {}).items()},
        {(0, one.number): FEATURES for one in seen},
    )
    judged = judge_objects(seen, evidence, GateSet(outlets, CLASSES), abstain, CLASSES)
    names = {outlet.name: outlet for outlet in outlets}
    listed = make_picking_list(
        wanted(judged, names, CLASSES),
        seen,
        CLASSES,
        0,
        picking or PickingSettings(),
        PositionSettings(),
        StageLimits(),
    )
    return close_cells(judged, listed)


def test_a_stranger_is_abstained_on_and_its_reason_booked() -> None:
    known = KnownStrangers(limit=0.3, wrongly=0.05, basis="the model")
    scores = {0: (0.9, 0.05, 0.05), 1: (0.6, 0.2, 0.2), 2: (0.34, 0.33, 0.33)}
    cells = run(scores, abstain=AbstainSettings(min_score=0.4, known=known))
    assert [(cell.outcome, cell.reason) for cell in cells] == [
        (ChamberOutcome.LISTED, "gate"),
        (ChamberOutcome.ABSTAINED, "stranger"),
        (ChamberOutcome.ABSTAINED, "low_score"),
    ]
    books = ChamberBooks(objects=3)
    books.close(cells)
    assert books.doubts == {"low_score": 1, "stranger": 1} and books.violations() == []
    books.doubts.clear()
    assert books.violations() == ["cells: abstained 2, but 0 are booked"]


def test_promised_cells_are_ranked_by_the_score_of_their_class() -> None:
    shares = ShareSeen(rate=0.9, low=0.8, high=1.0, n=10)
    made = MadePromise(
        threshold=0.5, seen=shares, kept=shares, tested=10, method="", data="", taken="flow", calibration_sha256="",
        basis="",
    )  # fmt: skip
    gate = PromiseGate(kind="promise", class_name="LT-HSC", purity=0.8, made=made)
    scores = {0: (0.6, 0.4, 0.0), 1: (0.9, 0.1, 0.0), 2: (0.45, 0.3, 0.25)}
    cells = run(scores, outlets=(Outlet(name="lt", gate=gate),), picking=PickingSettings(top=1))
    assert [(cell.outcome, cell.reason) for cell in cells] == [
        (ChamberOutcome.LEFT_OUT, "over_top"),
        (ChamberOutcome.LISTED, "gate"),
        (ChamberOutcome.PASSED, "no_gate"),
    ]


def test_every_kind_of_verdict() -> None:
    cells = run({0: (0.9, 0.05, 0.05), 1: (0.1, 0.8, 0.1), 2: (0.34, 0.33, 0.33)}, {3: "debris"})
    assert [(cell.outcome, cell.reason, cell.outlet) for cell in cells] == [
        (ChamberOutcome.LISTED, "gate", "lt"),
        (ChamberOutcome.PASSED, "no_gate", None),
        (ChamberOutcome.ABSTAINED, "low_score", None),
        (ChamberOutcome.UNRESOLVED, "debris", None),
    ]
    assert [cell.classification and cell.classification.predicted for cell in cells] == [
        "LT-HSC",
        "ST-HSC",
        "LT-HSC",
        None,
    ]


def test_the_best_are_picked_by_the_class_that_the_gate_asks_for() -> None:
    any_lt = Outlet(name="lt", gate=ScoreGate(class_name="LT-HSC", min=0.2, top=False))
    scores = {0: (0.45, 0.55, 0.0), 1: (0.25, 0.75, 0.0), 2: (0.6, 0.4, 0.0)}
    cells = run(scores, outlets=(any_lt,), picking=PickingSettings(top=2))
    assert [cell.outcome is ChamberOutcome.LISTED for cell in cells] == [True, False, True]
    assert (cells[1].outcome, cells[1].reason) == (ChamberOutcome.LEFT_OUT, "over_top")


def test_a_gate_on_features_ranks_by_the_best_score() -> None:
    large = Outlet(name="large", gate=RangeGate(kind="range", feature="diameter_um", min=8.0))
    cells = run({0: (0.5, 0.3, 0.2), 1: (0.1, 0.9, 0.0)}, outlets=(large,), picking=PickingSettings(top=1))
    assert [cell.outcome for cell in cells] == [ChamberOutcome.LEFT_OUT, ChamberOutcome.LISTED]


def test_a_gate_that_ranks_sees_the_cells_in_their_order() -> None:
    top = Outlet(name="top", gate=TopPercentGate(kind="top_percent", feature="score:LT-HSC", percent=10, window=10))
    scores = {number: (0.5 + number / 100, 0.5 - number / 100, 0.0) for number in range(12)}
    outcomes = [cell.outcome for cell in run(scores, outlets=(top,))]
    assert (
        outcomes == [ChamberOutcome.PASSED] * 9 + [ChamberOutcome.LISTED] * 3
    )  # once the window is full, each is its top


def test_the_hash_follows_verdicts_and_nothing_that_rounds() -> None:
    cells = run({0: (0.9, 0.05, 0.05), 1: (0.1, 0.8, 0.1)})
    same = [replace(cell, x_um=cell.x_um + 1e-9, sd_um=0.2, seen_ns=7) for cell in cells]
    assert decisions_sha256(same) == decisions_sha256(cells)
    other = [cells[0], replace(cells[1], outcome=ChamberOutcome.ABSTAINED)]
    assert decisions_sha256(other) != decisions_sha256(cells) != decisions_sha256(cells[::-1])


ROW = st.tuples(*[st.floats(0.01, 1.0)] * 3).map(lambda row: tuple(score / sum(row) for score in row))


@given(
    rows=st.lists(ROW | st.sampled_from(["debris", "border", "blurred"]), max_size=30),
    top=st.none() | st.integers(1, 5),
)
def test_the_books_balance_whatever_was_seen(rows: list[tuple[float, ...] | str], top: int | None) -> None:
    scores = {view: row for view, row in enumerate(rows) if isinstance(row, tuple)}
    refused = {view: row for view, row in enumerate(rows) if isinstance(row, str)}
    cells = run(scores, refused, picking=PickingSettings(top=top))
    assert [cell.cell for cell in cells] == list(range(len(rows)))
    books = ChamberBooks(objects=len(rows))
    books.close(cells)
    assert books.violations() == []
    told = books.to_json()["cells"]
    ends = told["listed"] + told["passed"] + told["abstained"]
    assert told["tracked"] == ends + sum(told["left_out"].values()) + sum(told["unresolved"].values())


def test_a_cell_that_fell_out_of_the_books_is_noticed() -> None:
    cells = run({0: (0.9, 0.05, 0.05), 1: (0.1, 0.8, 0.1)})
    books = ChamberBooks(objects=2)
    books.close(cells[:1])
    books.views.detected, books.frames.captured = 3, 1
    assert [text.split(":")[0] for text in books.violations()] == ["frames", "views", "cells"]


def test_evidence_must_cover_every_object() -> None:
    with pytest.raises(KeyError):
        judge_objects(objects(1), Evidence({}, {}, {}), GateSet((LT,), CLASSES), ABSTAIN, CLASSES)
