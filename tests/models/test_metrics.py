"""Figures are what their definitions say, and their intervals hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_models.metrics import balanced_accuracy, confusion, judge, softmax, wilson

NAMES = ("LT-HSC", "ST-HSC", "MPP")


def test_confusion_and_balanced_accuracy():
    table = confusion(np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 0]), 3)
    assert table.tolist() == [[3, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert balanced_accuracy(table) == pytest.approx((0.75 + 0.5) / 2)  # the absent class does not count
    assert np.isnan(balanced_accuracy(np.zeros((2, 2), np.int64)))


def test_wilson_against_published_values():
    rate = wilson(81, 263)  # Newcombe 1998, Statistics in Medicine 17:857, table I
    assert (rate.low, rate.high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
    assert wilson(0, 20).high == pytest.approx(0.1611, abs=1e-4)


@given(st.integers(0, 5000), st.data())
def test_wilson_holds_its_rate(n, data):
    hits = data.draw(st.integers(0, n))
    rate = wilson(hits, n)
    assert 0 <= rate.low <= rate.rate <= rate.high <= 1


@given(st.floats(-5, 5), st.floats(0.1, 5))
def test_softmax_sums_to_one_and_cools(offset, temperature):
    logits = np.array([[1.0, 0.0, -1.0]]) + offset
    scores = softmax(logits, temperature)
    assert scores.sum() == pytest.approx(1)
    assert scores[0].argmax() == 0
    assert softmax(logits, temperature * 2).max() < scores.max()


def predictions(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, n, p=(0.2, 0.3, 0.5))
    return labels, np.where(rng.random(n) < 0.7, labels, rng.integers(0, 3, n))


def test_figures_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    labels, predicted = predictions(1)
    figures = judge(labels, predicted, NAMES)
    report = metrics.classification_report(labels, predicted, target_names=NAMES, output_dict=True)
    for name, one in figures.classes.items():
        assert one.n == report[name]["support"]
        assert one.consistency.rate == pytest.approx(report[name]["recall"])
        assert one.precision.rate == pytest.approx(report[name]["precision"])
        assert one.f1.value == pytest.approx(report[name]["f1-score"])
    for ours, theirs in ((figures.macro, report["macro avg"]), (figures.weighted, report["weighted avg"])):
        found = (ours.precision.value, ours.recall.value, ours.f1.value)
        assert found == pytest.approx((theirs["precision"], theirs["recall"], theirs["f1-score"]))
    assert figures.accuracy.rate == pytest.approx(report["accuracy"])
    assert figures.balanced_accuracy.value == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 12))
def test_every_interval_holds_its_figure(seed, n, groups):
    labels, predicted = predictions(seed, n)
    figures = judge(labels, predicted, NAMES, np.arange(n) % groups, draws=50)
    estimates = [figures.balanced_accuracy]
    for average in (figures.macro, figures.weighted):
        estimates += [average.precision, average.recall, average.f1]
    for one in estimates:
        assert 0 <= one.low <= one.value + 1e-12 and one.value - 1e-12 <= one.high <= 1
    for one in figures.classes.values():
        assert one.consistency.low <= one.consistency.rate <= one.consistency.high
        assert np.isnan(one.f1.value) == (one.n == one.predicted == 0)


def test_perfection_in_a_few_cells_is_not_certain():
    labels = np.repeat([0, 1, 2], 10)
    figures = judge(labels, labels, NAMES)
    assert figures.balanced_accuracy.value == 1 and 0.7 < figures.balanced_accuracy.low < 0.9
    assert figures.macro.f1.low < 0.95 and figures.classes["MPP"].f1.low < 0.9


def test_intervals_hold_the_truth():
    rng = np.random.default_rng(4)
    held = 0
    for seed in range(100):
        labels = rng.integers(0, 3, 120)
        predicted = np.where(rng.random(120) < 0.8, labels, (labels + 1) % 3)
        found = judge(labels, predicted, NAMES, draws=200, seed=seed)
        held += found.balanced_accuracy.low <= 0.8 <= found.balanced_accuracy.high
    assert 88 <= held <= 100


def test_cells_of_a_few_mice_widen_the_interval():
    rng = np.random.default_rng(2)
    mice = np.repeat(np.arange(6), 100)
    labels = rng.integers(0, 3, 600)
    good = rng.random(600) < np.array([0.95, 0.5, 0.9, 0.6, 0.8, 0.7])[mice]
    predicted = np.where(good, labels, (labels + 1) % 3)
    alone, together = judge(labels, predicted, NAMES), judge(labels, predicted, NAMES, mice)
    width = alone.balanced_accuracy.high - alone.balanced_accuracy.low
    assert together.balanced_accuracy.high - together.balanced_accuracy.low > 3 * width
    assert together.classes["MPP"].consistency.low < alone.classes["MPP"].consistency.low
    assert (together.units, alone.units) == (6, 600)


def test_the_same_seed_gives_the_same_figures_and_json_knows_no_nan():
    labels, predicted = predictions(3)
    predicted[predicted == 0], labels[labels == 0] = 1, 1
    first, second = (judge(labels, predicted, NAMES).to_json() for _ in range(2))
    assert first == second
    assert first["classes"]["LT-HSC"]["f1"]["value"] is None
