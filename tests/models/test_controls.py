"""Controls see what they should: size where size differs, the background only where filming differed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from hspc_live.core.errors import RecordingError
from hspc_live.core.values import Modality
from hspc_models.controls import BACKGROUND, HOG, NETWORK, SIZE, run_controls
from hspc_models.dataset import LabelledCrops

EDGE = 48


def cells(radii, levels, n=60, seed=0):
    """Dark, grainy discs of two classes in turn, of radius `radii[class]` px on a ground of `levels[class]` counts."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = np.empty((n, EDGE, EDGE), np.uint8)
    for image, label in zip(images, labels, strict=True):
        picture = np.full((EDGE, EDGE), levels[label], np.float32)
        middle = tuple((EDGE / 2 + rng.uniform(-1, 1, 2)).round().astype(int).tolist())
        cv2.circle(picture, middle, int(radii[label] + rng.integers(-1, 2)), float(levels[label] - 50), cv2.FILLED)
        inside = picture < levels[label] - 25
        grain = cv2.GaussianBlur(rng.normal(0, 60, picture.shape).astype(np.float32), (0, 0), 1.5)
        picture = cv2.GaussianBlur(picture + inside * grain, (0, 0), 0.8) + rng.normal(0, 2, picture.shape)
        image[:] = np.clip(picture, 0, 255)
    return LabelledCrops(images, labels, ("a", "b"), np.zeros(n, np.int64), 0.4, "discs", ("one",))


def found(crops, units=None):
    rng = np.random.default_rng(1)
    controls = run_controls(crops, rng.integers(0, 2, len(crops)), Modality.BRIGHTFIELD, units)
    return controls, {control.name: control.figures.balanced_accuracy.value for control in controls.all}


def test_size_tells_small_from_large_and_the_background_does_not():
    controls, accuracy = found(cells((8, 12), (150, 150)))
    assert controls.outlined > 0.95 and controls.by == "random"
    assert accuracy[SIZE] > 0.9
    assert accuracy[BACKGROUND] < 0.7 and not controls.of(BACKGROUND).verdict.p <= 0.01
    assert list(accuracy) == [NETWORK, SIZE, BACKGROUND, HOG]


def test_classes_filmed_at_different_light_are_given_away_by_the_background():
    controls, accuracy = found(cells((10, 10), (150, 160)))
    assert accuracy[BACKGROUND] > 0.95 and controls.of(BACKGROUND).verdict.separable
    assert accuracy[SIZE] < 0.75


def test_groups_are_kept_together_and_said_where_they_cannot_be():
    crops = cells((8, 12), (150, 150))
    several = LabelledCrops(
        crops.images, crops.labels, crops.names, np.arange(60) // 15, 0.4, "discs", ("w", "x", "y", "z")
    )
    controls, _ = found(several, several.groups)
    assert (controls.by, controls.folds) == ("group", 3)
    one_each = LabelledCrops(crops.images, crops.labels, crops.names, crops.labels, 0.4, "discs", ("w", "x"))
    controls, _ = found(one_each, one_each.groups)
    assert controls.by == "random" and any("not by group" in remark for remark in controls.remarks)


def test_too_few_cells_are_refused():
    with pytest.raises(RecordingError, match="discs"):
        found(cells((8, 12), (150, 150)).take(np.array([0, 1])))
