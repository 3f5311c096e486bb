"""The books."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_live.core.values import CellOutcome
from hspc_live.stages.ledger import FrameNumbers, Ledger


def filled() -> Ledger:
    ledger = Ledger()
    ledger.frames.captured, ledger.frames.processed = 10, 7
    ledger.frames.dropped["ring_full"] = 2
    ledger.frames.lost["crash"] = 1
    ledger.views.detected, ledger.views.classified = 9, 4
    ledger.views.rejected["debris"] = 3
    ledger.views.skipped["nan"] = 2
    ledger.cells.tracked = 5
    ledger.commands.sent, ledger.commands.fired = 1, 1
    for outcome, reason in [
        (CellOutcome.SORTED, ""),
        (CellOutcome.PASSED, "no_gate"),
        (CellOutcome.ABSTAINED, "low_score"),
        (CellOutcome.ABORTED, "late"),
        (CellOutcome.UNRESOLVED, "run_ended"),
    ]:
        ledger.close_cell(outcome, reason)
    return ledger


def test_balanced_books_have_nothing_to_say() -> None:
    assert filled().balanced() == []
    assert filled().balanced(captured=10) == []


@pytest.mark.parametrize(
    ("book", "entry", "word"),
    [
        ("frames", "processed", "frames: captured 10 is not processed 8 + dropped 2 + lost 1"),
        ("views", "classified", "views: detected 9 is not classified 5 + rejected 3 + skipped 2"),
        ("cells", "passed", "cells: tracked 5 is not"),
        ("commands", "refused", "commands: sent 1 is not fired 1 + refused 1"),
    ],
)
def test_every_entry_that_does_not_add_up_is_said(book: str, entry: str, word: str) -> None:
    ledger = filled()
    part = getattr(ledger, book)
    setattr(part, entry, getattr(part, entry) + 1)
    (violation,) = ledger.balanced()
    assert violation.startswith(word)


def test_a_cell_abstained_on_without_a_reason_is_said() -> None:
    ledger = filled()
    assert ledger.doubts == {"low_score": 1}
    ledger.cells.doubts.clear()
    assert ledger.balanced() == ["cells: abstained 1 is not 0"]


def test_a_frame_that_the_camera_took_and_nobody_booked_is_said() -> None:
    (violation,) = filled().balanced(captured=11)
    assert violation == "frames: captured by the camera 11 is not booked 10"


def test_sorted_cells_without_a_command_are_said() -> None:
    ledger = filled()
    ledger.cells.tracked += 1
    ledger.close_cell(CellOutcome.SORTED, "")
    assert ledger.balanced() == ["cells: sorted 2 is not commands sent 1"]


def test_what_is_under_way_is_counted() -> None:
    ledger = filled()
    ledger.views.detected += 2
    assert ledger.balanced() != []
    ledger.views.open = 2
    assert ledger.balanced() == [] and ledger.open == 2


def test_the_json_is_plain_and_adds_up() -> None:
    books = json.loads(json.dumps(filled().to_json()))
    assert books["frames"] == {"captured": 10, "processed": 7, "dropped": {"ring_full": 2}, "lost": {"crash": 1}}
    assert books["cells"]["aborted"] == {"late": 1} and books["cells"]["unresolved"] == {"run_ended": 1}


def test_the_share_decided_in_time() -> None:
    ledger = Ledger()
    assert ledger.met_fraction is None
    ledger.gated, ledger.late = 3, 1
    assert ledger.met_fraction == 0.75


@given(st.lists(st.integers(0, 40), max_size=80))
def test_frame_numbers_are_booked_once_each_in_any_order(indices: list[int]) -> None:
    numbers, seen = FrameNumbers(), set[int]()
    for index in indices:
        assert numbers.book(index) == (index not in seen)
        seen.add(index)
    assert numbers.last == max(seen, default=-1)
