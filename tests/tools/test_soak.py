"""The soak's own eyes: it sees what is lost, fired twice or late, and its plans are the seed's."""

from __future__ import annotations

import copy

import pytest

from hspc_live.settings.fault_checks import check_faults
from hspc_live.settings.load import load
from hspc_live.settings.shipped import shipped_config
from hspc_live.twin.pulses import Pulse
from tools import soak

BOOKS = {
    "frames": {"captured": 12, "processed": 9, "dropped": {"camera": 2}, "lost": {"no_result_in_time": 1}},
    "cells": {"tracked": 7, "sorted": 2, "passed": 1, "abstained": 1, "aborted": {"late": 1}, "unresolved": {}},
    "commands": {"sent": 2, "fired": 1, "refused": 0, "unacknowledged": 0},
}


def test_what_is_under_way_is_not_lost() -> None:
    assert soak.unbalanced(BOOKS, 2) == []
    assert len(soak.unbalanced(BOOKS, 0)) == 2, "at the end nothing is under way"


@pytest.mark.parametrize(
    ("book", "entry", "said"),
    [("frames", "processed", "frames are lost"), ("cells", "sorted", "cells"), ("commands", "fired", "commands")],
)
def test_what_is_booked_too_much_or_not_at_all_is_seen(book: str, entry: str, said: str) -> None:
    books = copy.deepcopy(BOOKS)
    books[book][entry] += 10
    assert any(said in wrong for wrong in soak.unbalanced(books, 100))


def test_a_second_pulse_for_one_command_is_seen() -> None:
    pulses = tuple(Pulse(number, "left", 0, 1, 0, 1) for number in (0, 1, 1, 2, 1))
    assert soak.doubles(pulses) == 2 and soak.doubles(pulses[:2]) == 0


def test_a_plan_is_the_seed_s_and_fits_the_rig() -> None:
    settings = load(shipped_config("rigs/twin_flow"), soak.SMALL, {})
    for seed in range(5):
        plan = soak.random_plan(seed)
        assert plan == soak.random_plan(seed) != soak.random_plan(seed + 1)
        assert check_faults(plan, settings, live=True, recording=True) == settings
