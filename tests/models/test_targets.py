"""What the network is asked for, and how often each class is shown."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from hspc_models.dataset import LabelledCrops
from hspc_models.targets import mixed, oversampled, soft_targets


def crops(*names: str) -> LabelledCrops:
    n = len(names)
    return LabelledCrops(np.zeros((n, 8, 8), np.uint8), np.arange(n), names, np.arange(n), 0.25, "x")


def test_strangers_are_to_score_every_class_alike():
    targets = soft_targets(crops("a", "dead", "b"), ("b", "a"), smoothing=0.2)
    np.testing.assert_allclose(targets, [[0.1, 0.9], [0.5, 0.5], [0.9, 0.1]], atol=1e-6)


def test_a_stage_may_be_its_neighbour_and_no_other():
    targets = soft_targets(crops("G1", "S", "G2", "dead"), ("G1", "S", "G2"), 0.2, "neighbours")
    third = 1 / 3
    expected = [[0.9, 0.1, 0.0], [0.1, 0.8, 0.1], [0.0, 0.1, 0.9], [third, third, third]]
    np.testing.assert_allclose(targets, expected, atol=1e-6)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 10))
def test_every_class_is_shown_as_often_as_the_commonest(labels, seed):
    labels = np.asarray(labels, np.int64)
    counts = np.bincount(labels, minlength=5)
    rows = oversampled(labels, 3, np.random.default_rng(seed))
    shown = np.bincount(labels[rows], minlength=5)
    most = counts[:3].max()
    assert [n for n in shown[:3].tolist() if n] == [most] * int((counts[:3] > 0).sum())
    assert shown[3:].tolist() == counts[3:].tolist()  # strangers are no class
    assert set(rows.tolist()) == set(range(len(labels)))  # nobody is left out
    times = np.bincount(rows, minlength=len(labels))
    for label in range(3):
        mine = times[labels == label]
        assert not len(mine) or mine.max() - mine.min() <= 1  # and nobody is shown much more often than the next


def test_mixed_crops_have_mixed_targets():
    pictures = torch.arange(4.0).view(4, 1, 1, 1)
    blended, targets = mixed(pictures, torch.eye(4), 0.5, np.random.default_rng(1))
    torch.testing.assert_close(targets.sum(1), torch.ones(4))
    torch.testing.assert_close(blended[:, 0, 0, 0], targets @ torch.arange(4.0))
    assert 0 < targets[0, 3] < 1
