"""Classes that do not differ are not told apart, and the verdict says so; classes that do, are."""

from __future__ import annotations

import numpy as np
import pytest

from hspc_models.metrics import softmax
from hspc_models.separate import pairs_apart, permutation_p, separability

MPPS = ("MPP2", "MPP3", "MPP4")


def test_no_difference_is_called_none():
    rng = np.random.default_rng(1)
    refused = 0
    for seed in range(100):
        labels = rng.choice(3, 150, p=(0.1, 0.3, 0.6))
        predicted = rng.choice(3, 150, p=(0.05, 0.15, 0.8))  # biased, but blind
        refused += not separability(labels, predicted, MPPS, permutations=100, seed=seed).separable
    assert refused >= 93


def test_mice_are_not_taken_for_classes():
    # every mouse is of one class, and looks like itself: the classes do not differ
    rng = np.random.default_rng(2)
    refused = fooled = 0
    for seed in range(40):
        mice = np.repeat(np.arange(12), 40)
        labels = (np.arange(12) % 3)[mice]
        looks = rng.dirichlet(np.ones(3), 12)
        predicted = (rng.random((480, 1)) > looks[mice].cumsum(axis=1)).sum(axis=1).clip(0, 2)
        refused += not separability(labels, predicted, MPPS, mice, permutations=100, seed=seed).separable
        fooled += separability(labels, predicted, MPPS, permutations=100, seed=seed).separable
    assert refused >= 36
    assert fooled > 10


def test_a_difference_is_found_and_said():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 400)
    predicted = np.where(rng.random(400) < 0.3, labels, rng.integers(0, 3, 400))
    verdict = separability(labels, predicted, MPPS)
    assert verdict.separable and verdict.p < 0.01
    assert verdict.words.startswith("can separate MPP2, MPP3, MPP4: balanced accuracy 0.")
    within = separability(labels, predicted, MPPS, np.arange(400) % 5)
    assert within.separable and "within 5 groups" in within.words


def test_the_two_that_look_alike_are_named():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, 600)
    looks = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0, 1.0, 1.0]])  # MPP3 and MPP4 are one
    scores = softmax(looks[labels] + rng.normal(size=(600, 3)))
    assert separability(labels, scores.argmax(axis=1), MPPS).separable
    found = {verdict.classes: verdict.separable for verdict in pairs_apart(scores, labels, MPPS, permutations=400)}
    assert found == {("MPP2", "MPP3"): True, ("MPP2", "MPP4"): True, ("MPP3", "MPP4"): False}


def test_a_constant_score_separates_nothing():
    labels = np.repeat([0, 1, 2], 50)
    assert not any(verdict.separable for verdict in pairs_apart(np.full((150, 3), 1 / 3), labels, MPPS))
    verdict = separability(labels, np.zeros(150, int), MPPS, permutations=100)
    assert verdict.p == 1 and verdict.words.startswith("cannot separate")


def test_p_is_the_share_of_relabellings_that_do_as_well():
    # two cells of each class, all right: of the 6 ways to label them one is as good
    p, what = permutation_p(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), permutations=6000)
    assert p == pytest.approx(1 / 6, abs=0.02)
    assert what == "labels of cells permuted"


def test_two_mice_a_class_can_prove_nothing():
    mice = np.repeat(np.arange(4), 100)
    labels = (np.arange(4) // 2)[mice]
    verdict = separability(labels, labels, ("young", "aged"), mice)
    assert not verdict.separable and verdict.p > 0.05 and "4 whole groups" in verdict.words


def test_one_class_is_nothing_to_separate():
    verdict = separability(np.zeros(9, int), np.zeros(9, int), ("young", "aged"))
    assert not verdict.separable and verdict.p == 1
    assert verdict.to_json()["classes"] == ["young", "aged"]
