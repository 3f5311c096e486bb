"""Brightfield segmentation on cells drawn by wave optics (`tools/channel_films.py`), which no constant was set on."""

import importlib.util
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from hspc_live.core.crop import CropGeometry
from hspc_live.core.values import Modality
from hspc_live.settings.load import load
from hspc_live.settings.shipped import shipped_config
from hspc_live.stages.background import noise_sd
from hspc_live.stages.segment import Segmenter
from hspc_live.stages.segment_reference import find

SHIPPED = load(shipped_config("replay_rtdc")).segment
UM = 0.14


@pytest.fixture(scope="module")
def channel_films():
    """The generator, from the clone: nothing in the packages imports tools."""
    path = Path(__file__).parents[2] / "tools" / "channel_films.py"
    spec = importlib.util.spec_from_file_location("channel_films", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["channel_films"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["channel_films"]


def objects_of(pixels, background, um):
    segment = Segmenter(SHIPPED, um, Modality.BRIGHTFIELD, CropGeometry())
    return segment(0, 0, pixels, background, 1, noise_sd(pixels, background)).objects


def test_cells_in_a_channel_are_found_once_through_many_microscopes(channel_films):
    """At least 95 % of the outlined objects of each microscope's film have a detection of their own over them."""
    rows = hits = 0
    for seed, lens in enumerate(channel_films.LENSES):
        for shot in channel_films.film(lens, 3, 40 + seed):
            found = objects_of(shot.pixels, shot.background, lens.um_per_px)
            for mask in shot.masks:
                y, x = np.argwhere(mask).mean(axis=0) * lens.um_per_px
                away = np.hypot(found["x_um"] - x, found["y_um"] - y)
                rows += 1
                hits += int((away < 2.5).sum() == 1)
    assert rows > 60
    assert hits / rows >= 0.95


def ring_round_a_core():
    """A dark body within a thin bright ring that is open at one end, as a lens of 100 x shows a cell near focus."""
    light = np.full((160, 320), 140.0)
    cv2.ellipse(light, (160, 80), (47, 32), 0, 20, 340, 200, 4)
    cv2.ellipse(light, (160, 80), (45, 30), 0, 0, 360, 80, -1)
    light = cv2.GaussianBlur(light, (0, 0), 0.8) + np.random.default_rng(3).normal(0, 1.5, light.shape)
    return np.clip(np.rint(light), 0, 255).astype(np.uint8), np.full((160, 320), 140, np.uint8)


def test_a_cell_within_its_bright_ring_is_one_object():
    pixels, background = ring_round_a_core()
    found = objects_of(pixels, background, UM)
    assert len(found) == 1
    assert np.hypot(found["x_um"][0] - 160 * UM, found["y_um"][0] - 80 * UM) < 0.5
    slow = find(pixels, background, noise_sd(pixels, background), SHIPPED, UM, Modality.BRIGHTFIELD, CropGeometry())
    assert len(slow) == 1 and abs(slow[0].detection.x_um - found["x_um"][0]) < 0.1
