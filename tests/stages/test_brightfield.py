"""Cells that bend light in brightfield, among dust: found beside black specks, told from shadows, and doubts said."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from globes import granular_globes
from hspc_live.core.crop import CropGeometry
from hspc_live.core.values import Modality
from hspc_live.settings.segment import SegmentSettings
from hspc_live.stages.company import Doubt
from hspc_live.stages.field import FieldSegmenter, Reason
from hspc_live.stages.symmetry import Told, told_by

UM = 0.25
CELLS = [(80, 90, 22), (220, 80, 24), (330, 210, 21), (100, 250, 22), (250, 300, 24)]  # x, y, radius in px
SPECKS = [(150, 160, 8), (330, 90, 9), (60, 340, 7), (180, 340, 8), (330, 330, 9)]


def scene(cells, contrast=5.0, specks=(), shadow=None, shape=(400, 420), noise=0.8, seed=0):
    """Light of granular globes a little out of focus (their path's curvature), black specks and a soft shadow."""
    rng = np.random.default_rng(seed)
    ys, xs = np.indices(shape, dtype=np.float32)
    path = granular_globes(cells, shape, 0.25, rng)
    light = 150 * (1 - contrast * cv2.Laplacian(cv2.GaussianBlur(path, (0, 0), 1.2), cv2.CV_32F))
    for x, y, radius in specks:
        body = cv2.GaussianBlur(((xs - x) ** 2 + (ys - y) ** 2 <= radius**2).astype(np.float32), (0, 0), 1.2)
        light *= 1 - 0.9 * body
    if shadow is not None:
        x, y, radius, depth = shadow
        light *= 1 - depth * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / radius**2)
    return light + rng.normal(0, noise, shape)


def segment(light):
    pixels = np.clip(np.rint(light), 0, 255).astype(np.uint8)
    settings = SegmentSettings(max_diameter_um=18.0)
    return FieldSegmenter(settings, UM, Modality.BRIGHTFIELD, CropGeometry()).field(pixels)


def found(result, cells):
    rows = result.frame.objects[result.whole]
    near = [np.hypot(rows["x_um"] / UM - x, rows["y_um"] / UM - y).min(initial=np.inf) for x, y, _ in cells]
    return sum(distance < 4 for distance in near)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("contrast", [5.0, 1.5, 0.8])
def test_faint_cells_are_found_beside_black_dust_and_the_dust_is_debris(contrast, seed):
    result = segment(scene(CELLS, contrast, SPECKS, seed=seed))
    assert found(result, CELLS) == len(CELLS)
    assert int(result.whole.sum()) == len(CELLS)
    assert result.reasons.count(Reason.DEBRIS) >= len(SPECKS)


@pytest.mark.parametrize("shadow", [(180, 190, 14, 0.12), (180, 190, 9, 0.3)])
def test_a_shadow_among_cells_that_bend_light_is_no_cell(shadow):
    result = segment(scene(CELLS, shadow=shadow))
    assert found(result, CELLS) == int(result.whole.sum()) == len(CELLS)


def test_a_picture_full_of_dust_says_so_and_a_clean_one_nothing():
    assert segment(scene(CELLS)).doubts == ()
    assert Doubt.DIRTY in segment(scene(CELLS[:2], 1.5, [(*place[:2], 12) for place in SPECKS])).doubts


def test_pale_things_as_many_as_cells_are_not_passed_over_in_silence():
    both = scene(CELLS[:3]) + scene(CELLS[3:], contrast=0.9, noise=0) - 150
    result = segment(both)
    assert found(result, CELLS[:3]) == 3
    assert Doubt.FAINT in result.doubts
    assert Doubt.FAINT not in segment(scene(CELLS[:3])).doubts


@pytest.mark.parametrize("contrast", [5.0, 2.0])
def test_rings_and_granules_are_told_from_dic(contrast):
    pixels = np.clip(np.rint(scene(CELLS, contrast)), 0, 255).astype(np.uint8)
    stage = FieldSegmenter(SegmentSettings(max_diameter_um=18.0), UM, Modality.DIC, CropGeometry())
    assert told_by(pixels, stage.field(pixels)) == Told(Modality.BRIGHTFIELD, True)
