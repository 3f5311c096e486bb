"""The picture of a still field: outlines of every kind, and words for what they mean."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from hspc_live.core.crop import CropGeometry
from hspc_live.core.values import Modality
from hspc_live.report import field_overlay
from hspc_live.report.field_overlay import ACCEPTED_COLOUR, WORDS, draw_field
from hspc_live.settings.segment import SegmentSettings
from hspc_live.stages.field import FieldSegmenter, Reason


def field(cells, shape=(300, 400)):
    ys, xs = np.indices(shape, dtype=np.float32)
    rng = np.random.default_rng(0)
    depth = np.zeros(shape, np.float32)
    for x, y, radius in cells:
        depth += np.sqrt(np.maximum(1 - ((xs - x) ** 2 + (ys - y) ** 2) / radius**2, 0)) * radius / 20
    depth = cv2.GaussianBlur(depth, (0, 0), 1)
    light = 110 + 300 * (np.gradient(depth, axis=0) + np.gradient(depth, axis=1)) + rng.normal(0, 1.2, shape)
    pixels = np.clip(np.rint(light), 0, 255).astype(np.uint8)
    segmenter = FieldSegmenter(SegmentSettings(max_diameter_um=12), 0.25, Modality.DIC, CropGeometry())
    return pixels, segmenter.field(pixels)


def shows(picture, colour):
    """Pixels of about this colour."""
    return int((np.abs(picture.astype(float) - 255 * np.array(to_rgb(colour))[::-1]).max(axis=2) < 30).sum())


def test_accepted_found_and_rejected_are_told_apart(tmp_path, monkeypatch):
    pixels, result = field([(90, 100, 18), (230, 90, 30), (2, 200, 20), (250, 220, 18)])
    assert {None, Reason.TOO_LARGE, Reason.BORDER} <= set(result.reasons)
    said = []
    monkeypatch.setattr(field_overlay.style, "heading", lambda figure, title, source: said.extend((title, source)))
    path = draw_field(pixels, result, 0.25, "a field", tmp_path / "a.png", ["MPP 0.91"])
    picture = cv2.imread(str(path))
    assert shows(picture, ACCEPTED_COLOUR) > 100
    assert shows(picture, "#E69F00") > 100
    assert said == ["3 cells found, 2 accepted", "a field   ·   400 × 300 pixels of 0.25 µm"]


def test_an_empty_picture_is_drawn_too(tmp_path):
    pixels, result = field([])
    assert draw_field(pixels, result, 0.25, "nothing", tmp_path / "a.png").stat().st_size > 0


def test_every_reason_has_words():
    assert set(WORDS) == set(Reason)


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    pixels, result = field([])
    with pytest.raises(OSError, match="missing"):
        draw_field(pixels, result, 0.25, "nothing", tmp_path / "missing" / "a.png")
