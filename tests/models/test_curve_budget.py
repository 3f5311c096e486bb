"""How long trainings take is learnt from those that are done, and a budget holds whole repeats of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_models.curve_budget import OVERRUN, Budget, Spent, minutes

REPEAT = (1000, 2000, 4000)


def test_the_time_of_a_training_is_a_share_a_crop_and_one_a_start():
    budget = Budget(600, [Spent(1000, 50.0, 30.0), Spent(2000, 50.0, 50.0)])  # 20 and 40 s of training, 10 s beside
    assert budget.cost(5000) == pytest.approx(110)


def test_nothing_is_foreseen_before_the_first_training():
    budget = Budget(60)
    assert not budget.known and budget.allows(1e9, REPEAT, first=True)
    with pytest.raises(ValueError, match="nothing is known"):
        budget.cost(1)


def test_whole_repeats_fit_or_do_not():
    budget = Budget(600, [Spent(1000, 50.0, 20.0)])  # a repeat: 140 s
    assert budget.repeats_that_fit(0, [REPEAT] * 5) == 4
    assert budget.repeats_that_fit(400, [REPEAT] * 5) == 1
    assert budget.repeats_that_fit(500, [REPEAT] * 5) == 0
    assert Budget(None, [Spent(1000, 50.0, 20.0)]).repeats_that_fit(1e9, [REPEAT] * 5) == 5


def test_only_a_first_repeat_may_overrun():
    budget = Budget(600, [Spent(1000, 50.0, 20.0)])
    late = 600 - 140 + 1
    assert not budget.allows(late, REPEAT, first=False) and budget.allows(late, REPEAT, first=True)
    assert not budget.allows(600 * OVERRUN - 139, REPEAT, first=True)


@given(st.floats(1, 7200))
def test_minutes_are_never_fewer_than_the_seconds(seconds):
    number, unit = minutes(seconds).split()
    assert int(number) * {"s": 1, "min": 60}[unit] >= seconds - 0.5
