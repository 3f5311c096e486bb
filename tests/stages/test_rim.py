"""The drawn edge lies where the body ends: whatever the direction of shear, the contrast and the scale."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from hspc_live.core.crop import CropGeometry
from hspc_live.core.values import Modality
from hspc_live.settings.segment import SegmentSettings
from hspc_live.stages.field import FieldSegmenter

UM = 0.25


def globes(shear_deg, radius_um=6.0, um=UM, contrast=25.0, noise=1.0):
    """Nine smooth phase objects in DIC as a camera sees them, and their radius in pixels."""
    n, r = round(150 / um), radius_um / um
    ys, xs = np.indices((n, n), dtype=np.float32)
    path = np.zeros((n, n), np.float32)
    for i in range(9):
        x, y = n * (0.2 + 0.3 * (i % 3)) + 1.7 * i, n * (0.2 + 0.3 * (i // 3)) - 1.3 * i
        inside = np.maximum(1 - ((xs - x) ** 2 + (ys - y) ** 2) / r**2, 0)
        path += np.sqrt(inside) * r
    a = math.radians(shear_deg)
    step = 0.3 / um / 2
    turn = np.float32([[1, 0, step * math.cos(a)], [0, 1, step * math.sin(a)]])
    back = np.float32([[1, 0, -step * math.cos(a)], [0, 1, -step * math.sin(a)]])
    rise = cv2.warpAffine(path, turn, (n, n)) - cv2.warpAffine(path, back, (n, n))
    seen = cv2.GaussianBlur(rise, (0, 0), 0.2 / um) * contrast / (2 * step)
    light = 110 + seen + np.random.default_rng(1).normal(0, noise, (n, n))
    return np.clip(np.rint(light), 0, 255).astype(np.uint8), r


def measured(pixels, um=UM):
    settings = SegmentSettings(max_diameter_um=16.0)
    return FieldSegmenter(settings, um, Modality.DIC, CropGeometry()).field(pixels)


@pytest.mark.parametrize("shear_deg", [0.0, 45.0, 90.0, 135.0])
def test_diameters_are_true_in_any_shear_direction(shear_deg):
    pixels, radius = globes(shear_deg)
    result = measured(pixels)
    rows = result.frame.objects[result.whole]
    assert len(rows) == 9
    ratio = rows["diameter_um"] / (2 * radius * UM)
    assert abs(float(np.mean(ratio)) - 1) < 0.03
    assert float(np.max(rows["deformation"])) < 0.02  # no ears, no bites along the shear axis


@pytest.mark.parametrize(("contrast", "noise"), [(10.0, 1.0), (25.0, 3.0), (40.0, 1.0)])
def test_contrast_and_noise_do_not_move_the_edge(contrast, noise):
    pixels, radius = globes(30.0, contrast=contrast, noise=noise)
    result = measured(pixels)
    rows = result.frame.objects[result.whole]
    assert len(rows) == 9
    assert abs(float(np.median(rows["diameter_um"])) / (2 * radius * UM) - 1) < 0.04


@pytest.mark.parametrize("um", [0.16, 0.36])
def test_the_scale_does_not_move_the_edge(um):
    pixels, radius = globes(60.0, um=um)
    result = measured(pixels, um)
    rows = result.frame.objects[result.whole]
    assert len(rows) == 9
    assert abs(float(np.median(rows["diameter_um"])) / (2 * radius * um) - 1) < 0.04


def test_a_window_with_one_cell_is_measured_as_in_the_whole_picture():
    pixels, radius = globes(45.0)
    x = y = round(0.2 * pixels.shape[0])
    window = np.ascontiguousarray(pixels[y - 50 : y + 50, x - 50 : x + 50])
    result = measured(window)
    assert int(result.whole.sum()) == 1
    found = result.frame.objects[result.whole][0]
    assert float(found["diameter_um"]) / (2 * radius * UM) == pytest.approx(1, abs=0.05)
