"""Outlines in crops: of the cell in the middle, in DIC and brightfield, on ground that is neither white nor even."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from hspc_live.core.crop import CropGeometry
from hspc_live.core.values import Modality
from hspc_live.settings.segment import SegmentSettings
from hspc_live.settings.twin import TwinFlowSettings
from hspc_live.twin.samples import sample_crops
from hspc_models.dataset import LabelledCrops
from hspc_models.fitting import fitted
from hspc_models.outlines import cell_masks


@pytest.mark.parametrize(("um_per_px", "size"), [(0.25, 64), (0.35, 46), (0.5, 32)])
def test_an_outline_has_the_cells_size_at_every_scale(um_per_px, size):
    """Resampling makes neighbouring pixels alike, and leaves so little noise that the faintest fringe stands out."""
    cells = sample_crops(TwinFlowSettings(seed=5), 36, 5)
    crops = LabelledCrops(cells.crops, cells.labels, cells.kinds, cells.cells, 0.25, "twin")
    images = fitted(crops, CropGeometry(size, um_per_px))[0].images
    masks = cell_masks(images, um_per_px, Modality.DIC, SegmentSettings())
    assert masks.any(axis=(1, 2)).mean() > 0.95
    found = masks.any(axis=(1, 2))
    across = 2 * np.sqrt(masks[found].sum(axis=(1, 2)) / np.pi) * um_per_px
    off = across / cells.diameters_um[found] - 1
    assert np.abs(np.median(off)) < 0.05 and (np.abs(off) < 0.15).mean() > 0.9


def test_a_neighbour_is_no_part_of_it():
    """One that reaches in at a corner stays out; one so near that both are one object leaves no outline."""
    crops = sample_crops(TwinFlowSettings(seed=6), 12, 6).crops
    alone = cell_masks(crops, 0.25, Modality.DIC, SegmentSettings())
    cornered, crowded = crops.copy(), crops.copy()
    cornered[:, :7, :7] = np.roll(crops, 1, 0)[:, 22:29, 40:47]
    crowded[:, :, -4:] = np.roll(crops, 1, 0)[:, :, 30:34]
    beside = cell_masks(cornered, 0.25, Modality.DIC, SegmentSettings())
    assert alone.any(axis=(1, 2)).all()
    assert not beside[:, :7, :7].any() and beside.any(axis=(1, 2)).sum() >= 10
    touched = cell_masks(crowded, 0.25, Modality.DIC, SegmentSettings())
    assert not touched[:, :, -4:].any()


def test_an_empty_crop_has_none():
    rng = np.random.default_rng(1)
    empty = rng.normal(128, 2, (3, 64, 64)).astype(np.uint8)
    assert not cell_masks(empty, 0.25, Modality.DIC, SegmentSettings()).any()
    assert not cell_masks(np.full((1, 40, 40), 9, np.uint8), 0.5, Modality.BRIGHTFIELD, SegmentSettings()).any()


@pytest.mark.skipif("HSPC_REAL_DATA" not in os.environ, reason="HSPC_REAL_DATA: where the real crops lie")
def test_real_cells_that_nearly_fill_their_crops():
    archive = np.load(Path(os.environ["HSPC_REAL_DATA"]) / "crops" / "jurkat_phases.npz")
    images = archive["image"][::40]
    masks = cell_masks(images, 0.5, Modality.BRIGHTFIELD, SegmentSettings())
    assert masks.any(axis=(1, 2)).mean() > 0.95
    rim = np.ones((40, 40), bool)
    rim[1:-1, 1:-1] = False
    assert (masks & rim).sum(axis=(1, 2)).mean() < 3  # nothing but a cell reaches to the edge
