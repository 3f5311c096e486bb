"""Fluorescence by predicted class: the brightest are found, the unmeasured have no part, the tests are SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hspc_models.glow import all_of_one, brightest, glow_at, ranking, top_count

CLASSES = ("LT-HSC", "ST-HSC")


def scores_of(columns, best=0.9):
    scores = np.full((len(columns), 2), 1 - best)
    scores[np.arange(len(columns)), columns] = best
    return scores


def test_each_class_at_a_threshold():
    rng = np.random.default_rng(1)
    columns = np.arange(80) % 2
    values = np.where(columns == 0, rng.normal(300, 40, 80), rng.normal(100, 40, 80))
    values[:4] = np.nan
    scores = scores_of(columns)
    scores[70:] = 0.5
    found = glow_at(values, scores, 0.7, CLASSES)
    assert [one.n for one in found.classes] == [33, 33]
    first, second = values[4:70][columns[4:70] == 0], values[4:70][columns[4:70] == 1]
    assert found.classes[0].quartiles[1] == pytest.approx(np.median(first))
    assert found.tests.anova[1] == pytest.approx(stats.f_oneway(first, second).pvalue)
    assert found.tests.tests[0].p == pytest.approx(stats.ttest_ind(first, second).pvalue)
    assert found.tests.tests[0].stars == "***" and found.rank_p < 0.001


def test_a_class_without_cells_is_described_and_not_tested():
    found = glow_at(np.arange(5.0), scores_of(np.zeros(5, int)), 0.3, CLASSES)
    assert found.tests is None and found.classes[1].n == 0 and found.to_json()["t_tests"] == []
    assert glow_at(np.ones(4), scores_of(np.array([0, 1, 0, 1])), 0.3, CLASSES).rank_p is None


def test_the_brightest_share_is_named():
    values = np.arange(200.0)
    columns = np.ones(200, int)
    columns[-12:] = 0
    columns[50:60] = 0
    run = all_of_one(values, columns, CLASSES)
    assert (run.name, run.n, run.percent) == ("LT-HSC", 12, 6.0) and 0.7 < run.purity.low < 1
    top = brightest(values, columns, CLASSES, 3.0)
    assert top.n == 6 and top.at_least == 194 and top.shares["LT-HSC"].rate == 1
    assert brightest(values, columns, CLASSES, 100.0).shares["LT-HSC"].rate == pytest.approx(22 / 200)


def test_cells_that_were_not_measured_are_in_no_list():
    values = np.array([np.nan, 5.0, np.inf, 7.0, 7.0])
    assert ranking(values).tolist() == [3, 4, 1]
    with pytest.raises(ValueError, match="no cell"):
        brightest(values[:1], np.zeros(1, int), CLASSES, 3.0)


@given(st.integers(1, 5000), st.floats(0.001, 100))
def test_the_top_per_cent_is_never_empty_and_never_more_than_all(n, percent):
    assert 1 <= top_count(n, percent) <= n
    assert abs(top_count(n, percent) - n * percent / 100) <= 1
