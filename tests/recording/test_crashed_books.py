"""The books of a run that crashed: whatever had been captured or tracked and was not booked is lost or unresolved."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hspc_live.recording.inspect import crashed_books

COUNT = st.integers(0, 1000)
REASONS = st.dictionaries(st.sampled_from(["camera", "late", "no_result_in_time"]), COUNT)


@given(st.integers(0, 3000), COUNT, REASONS, REASONS, COUNT, COUNT, REASONS)
def test_the_books_balance_whatever_was_under_way(recorded, processed, dropped, lost, open_cells, ended, aborted):
    captured = processed + sum(dropped.values()) + sum(lost.values())
    last = {
        "frames": {"captured": captured, "processed": processed, "dropped": dropped, "lost": lost},
        "cells": {
            "tracked": ended + sum(aborted.values()) + open_cells,
            "sorted": ended,
            "passed": 0,
            "abstained": 0,
            "aborted": aborted,
            "unresolved": {},
        },
        "commands": {"sent": 3, "fired": 1, "refused": 0, "unacknowledged": 2},
    }
    books = crashed_books(last, recorded)
    frames, cells = books["frames"], books["cells"]
    assert frames["captured"] == max(captured, recorded)
    assert frames["captured"] == processed + sum(dropped.values()) + sum(frames["lost"].values())
    assert frames["lost"].get("crash", 0) == max(0, recorded - captured)
    assert cells["unresolved"].get("crash", 0) == open_cells
    assert books["commands"] == last["commands"]


def test_a_run_that_crashed_before_its_first_ledger_lost_every_frame():
    assert crashed_books(None, 7)["frames"] == {"captured": 7, "processed": 0, "dropped": {}, "lost": {"crash": 7}}
