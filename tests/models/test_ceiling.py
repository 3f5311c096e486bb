"""What several classifiers get wrong alike is believed to be out of reach; the rest is not."""

from __future__ import annotations

import numpy as np
import pytest

from hspc_models.ceiling import believed_ceiling


def test_mistakes_in_common_lower_the_ceiling_and_others_do_not():
    labels = np.repeat([0, 1, 2], 10)
    ours, hog = labels.copy(), labels.copy()
    ours[[0, 10]] = [1, 2]  # the first of them all err about alike
    hog[[0, 20, 21]] = [1, 0, 0]
    found = believed_ceiling(labels, {"network": ours, "hog": hog}, 3)
    assert found.best == "network"
    assert found.reached == pytest.approx(1 - 2 / 30)
    assert found.believed == pytest.approx(1 - 1 / 30)
    assert found.agreement == pytest.approx(27 / 30)
    assert (found.neighbours, found.neighbours_by_chance) == (1.0, 0.75)


def test_labels_drawn_at_random_have_a_ceiling_below_one_classifier_is_not_enough():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 3000)
    labels = np.where(rng.random(3000) < 0.8, truth, rng.integers(0, 3, 3000))  # 13 % of the labels are wrong
    eyes = {name: np.where(rng.random(3000) < 0.9, truth, rng.integers(0, 3, 3000)) for name in "abc"}
    found = believed_ceiling(labels, eyes, 3)
    assert found.reached < 0.83
    assert found.believed == pytest.approx(0.89, abs=0.02)  # what sees the truth reaches 0.867
    with pytest.raises(ValueError, match="two classifiers"):
        believed_ceiling(labels, {"a": eyes["a"]}, 3)
