"""Copies of a picture are found however they were altered, and cells that look alike are not taken for copies."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from hspc_live.core.crop import CropGeometry
from hspc_live.settings.segment import BackgroundSettings, SegmentSettings
from hspc_live.settings.twin import TwinFlowSettings
from hspc_live.twin.samples import sample_crops
from hspc_models.duplicates import find_duplicates
from hspc_models.films import film


@pytest.fixture(scope="module")
def cells():
    made = sample_crops(TwinFlowSettings(seed=3), 400, 3, position_sd_um=0.25, geometry=CropGeometry())
    return made.crops


@pytest.fixture(scope="module")
def real():
    folder = os.environ.get("HSPC_REAL_DATA")
    if folder is None:
        pytest.skip("HSPC_REAL_DATA is not set")
    with np.load(Path(folder) / "crops" / "jurkat_phases.npz") as archive:
        return archive["image"]


def altered(picture, rng, shift=(0.0, 0.0), noise=0.0):
    size = len(picture)
    move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    moved = cv2.warpAffine(
        picture.astype(np.float32), move, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
    )
    turned = np.rot90(moved, rng.integers(4))
    turned = turned[::-1] if rng.integers(2) else turned
    made = 0.7 * turned + 20 + rng.normal(0, 1, turned.shape) * noise * turned.std()
    return np.clip(np.rint(made), 0, np.iinfo(picture.dtype).max).astype(picture.dtype)


@pytest.mark.parametrize(("shift", "noise"), [((0, 0), 0.0), ((1, -1), 0.02), ((0.5, 0.5), 0.0), ((2.5, 1.0), 0.02)])
def test_altered_copies_are_found(cells, shift, noise):
    rng = np.random.default_rng(1)
    rows = rng.choice(len(cells), 40, replace=False)
    copies = np.stack([altered(cells[row], rng, shift, noise) for row in rows])
    found = find_duplicates(np.concatenate((cells, copies)))
    assert np.mean(found.units[rows] == found.units[len(cells) :]) >= 0.95
    assert all(len(rows) == 2 for rows in found.near) and found.exact == ()


def test_different_cells_of_the_twin_are_no_copies(cells):
    found = find_duplicates(cells)
    assert found.exact == () and found.near == () and len(set(found.units)) == len(cells)


def test_different_real_cells_are_no_copies_but_altered_ones_are(real):
    rng = np.random.default_rng(2)
    rows = rng.choice(len(real), 100, replace=False)
    copies = np.stack([altered(real[row], rng, (0.5, 0.5)) for row in rows])
    found = find_duplicates(np.concatenate((real, copies)))
    assert len(np.unique(found.units[: len(real)])) == len(real)
    assert np.mean(found.units[rows] == found.units[len(real) :]) >= 0.95


def test_equal_pixels_are_exact_copies(cells):
    found = find_duplicates(np.concatenate((cells[:70], cells[5:7], cells[5:6])))
    assert found.exact == ((5, 70, 72), (6, 71)) and found.near == ()
    assert found.units.tolist() == [*range(70), 5, 6, 5]


def test_many_copies_of_one_picture_are_one_unit(cells):
    rng = np.random.default_rng(3)
    copies = np.stack([altered(cells[0], rng, (0.3 * (i % 3), 0.2), 0.01) for i in range(200)])
    found = find_duplicates(np.concatenate((copies, cells[1:20])))
    assert len(set(found.units[:200])) == 1 and len(set(found.units)) == 20


def test_crops_without_contrast_and_tiny_ones_are_compared_by_pixel_only():
    grey = np.stack([np.full((32, 32), level, np.uint8) for level in (7, 7, 8)])
    found = find_duplicates(grey)
    assert found.exact == ((0, 1),) and found.near == ()
    small = np.random.default_rng(0).integers(0, 255, (3, 16, 16)).astype(np.uint8)
    small[2] = small[0][::-1]
    assert find_duplicates(small).units.tolist() == [0, 1, 2]


def test_one_crop_and_none():
    assert find_duplicates(np.zeros((1, 32, 32), np.uint8)).units.tolist() == [0]
    assert find_duplicates(np.zeros((0, 32, 32), np.uint8)).units.tolist() == []


def test_the_views_of_a_film_are_joined_by_cell_and_never_across_cells():
    made = film(TwinFlowSettings(seed=11), SegmentSettings(), BackgroundSettings(), CropGeometry(), 150)
    found = find_duplicates(made.images)
    assert len(found.near) > 5
    for rows in found.near:
        assert len(set(made.groups[list(rows)])) == 1
