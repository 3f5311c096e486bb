"""The law of a learning curve: found where there is one, its intervals kept, and silence where the data do not tell."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hspc_models.curve_fit import Law, accuracies, extrapolate, fit_law, measured_point
from hspc_models.metrics import balanced_accuracy, confusion

SIZES = np.array([190.0, 380.0, 760.0, 1520.0])


def trained(law, rng, repeats=3, cells=400, sd=0.01, sizes=SIZES):
    """Hits (repeats, sizes, cells) of trainings that follow a law: some cells are hard for all of them."""
    hard = rng.random(cells)
    hits = np.zeros((repeats, len(sizes), cells), bool)
    for repeat in range(repeats):
        for place, n in enumerate(sizes.tolist()):
            own = np.where(rng.random(cells) < 0.7, hard, rng.random(cells))
            hits[repeat, place] = own < law.at(n) + rng.normal(0, sd)
    return hits, np.arange(cells) % 3


@given(st.floats(0.5, 1.0), st.floats(-0.3, -0.02), st.floats(0.15, 1.8))
def test_a_law_without_noise_is_found(a, b, c):
    law = Law(a, b, c, 1520.0)
    found = fit_law(SIZES, np.array([law.at(n) for n in SIZES.tolist()]))
    assert found.at(3040) == pytest.approx(law.at(3040), abs=2e-3)


@given(st.lists(st.floats(0, 1), min_size=4, max_size=10))
def test_a_law_never_falls_nor_passes_one(values):
    sizes = np.geomspace(100, 1000, len(values))
    law = fit_law(sizes, np.array(values))
    along = [law.at(n) for n in np.geomspace(100, 100_000, 30).tolist()]
    assert all(later >= earlier - 1e-12 for earlier, later in itertools.pairwise(along))
    assert along[-1] <= 1 + 1e-12


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_accuracy_is_balanced_accuracy(seed):
    rng = np.random.default_rng(seed)
    labels, said = rng.integers(0, 3, 40), rng.integers(0, 3, 40)
    assert accuracies((said == labels)[None], labels)[0] == pytest.approx(balanced_accuracy(confusion(labels, said, 3)))


def test_intervals_hold_the_truth_at_twice_the_data():
    law, rng, held = Law(0.84, -0.06, 0.5, 1520.0), np.random.default_rng(3), 0
    for _ in range(40):
        hits, labels = trained(law, rng)
        found = extrapolate(SIZES, hits, labels, None)
        truth = law.at(3040)
        held += found.at_twice.low <= truth <= found.at_twice.high
        assert found.at_twice.high - found.at_twice.low < 0.2
    assert held >= 36  # in longer simulations 96 to 99 % do


def test_judged_cells_in_groups_widen_the_interval():
    law, rng = Law(0.84, -0.06, 0.5, 1520.0), np.random.default_rng(4)
    hits, labels = trained(law, rng, cells=300)
    groups = np.repeat(np.arange(6), 50)
    hits[:, :, groups == 0] = False  # one mouse is not recognised at all
    alone, grouped = (extrapolate(SIZES, hits, labels, units) for units in (None, groups))
    assert grouped.at_twice.high - grouped.at_twice.low > 1.5 * (alone.at_twice.high - alone.at_twice.low)


def test_groups_that_are_classes_are_not_redrawn_and_that_is_said():
    hits, labels = trained(Law(0.84, -0.06, 0.5, 1520.0), np.random.default_rng(8), cells=300)
    alone, confounded = (extrapolate(SIZES, hits, labels, units) for units in (None, labels))
    width = [found.at_twice.high - found.at_twice.low for found in (alone, confounded)]
    assert width[1] == pytest.approx(width[0], rel=0.2)
    assert any("groups and classes go together" in remark for remark in confounded.remarks)
    assert not any("groups and classes" in remark for remark in alone.remarks)


def test_a_flat_curve_tells_nothing_and_says_so():
    hits, labels = trained(Law(0.6, 0.0, 0.5, 1520.0), np.random.default_rng(5))
    found = extrapolate(SIZES, hits, labels, None)
    assert not found.tells and any("nothing certain was gained" in remark for remark in found.remarks)
    assert not any("exponent" in remark for remark in found.remarks)  # a flat law has none to speak of
    assert found.gain.low <= 0.005


def test_a_steep_curve_tells_and_a_single_repeat_is_remarked():
    law = Law(0.9, -0.2, 0.5, 1520.0)
    hits, labels = trained(law, np.random.default_rng(6), repeats=5, cells=2000, sizes=np.geomspace(152, 1520, 10))
    found = extrapolate(np.geomspace(152, 1520, 10), hits, labels, None)
    assert found.tells and found.gain.low > 0 and found.remarks == ()
    lone = extrapolate(np.geomspace(152, 1520, 10), hits[:1], labels, None)
    assert any("one repeat only" in remark for remark in lone.remarks)


def test_three_sizes_are_too_few():
    hits, labels = trained(Law(0.84, -0.06, 0.5, 1520.0), np.random.default_rng(7), sizes=SIZES[1:])
    assert extrapolate(SIZES[1:], hits, labels, None) is None


def test_the_interval_of_a_mean_is_students():
    point = measured_point(0.5, 100, [0.70, 0.72, 0.74])
    half = 4.302653 * 0.02 / np.sqrt(3)
    assert (point.mean.low, point.mean.high) == pytest.approx((0.72 - half, 0.72 + half))
    assert np.isnan(measured_point(0.5, 100, [0.7]).mean.low)
