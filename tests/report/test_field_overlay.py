"""The picture of a still field: outlines of every kind, words for what they mean, and nothing written over anything."""

from __future__ import annotations

from itertools import combinations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from hspc_live.core.crop import CropGeometry
from hspc_live.core.values import OBJECT_DTYPE, FrameResult, Modality
from hspc_live.report import style
from hspc_live.report.field_overlay import ACCEPTED_COLOUR, REJECTED_COLOUR, WORDS, draw_field, field_figure
from hspc_live.report.labels import FreePlaces
from hspc_live.settings.segment import SegmentSettings
from hspc_live.stages.field import NO_CELL, FieldResult, FieldSegmenter, Reason


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


def made_up(reasons, shape=(300, 400)):
    """A field of square things in a row, one for each of `reasons`."""
    objects = np.zeros(len(reasons), OBJECT_DTYPE)
    labels = np.zeros(shape, np.uint16)
    for row, reason in enumerate(reasons):
        x0, y0 = 5 + 55 * (row % 7), 20 + 90 * (row // 7)
        objects[row]["x0_px"], objects[row]["y0_px"] = x0, y0
        objects[row]["x1_px"], objects[row]["y1_px"] = x0 + 30, y0 + 30
        if reason not in NO_CELL:
            labels[y0 : y0 + 30, x0 : x0 + 30] = labels.max() + 1
    none = np.empty((0, 0, 0), "u1")
    whole = np.array([reason not in NO_CELL for reason in reasons], bool)
    frame = FrameResult(0, 0, objects, none, none, none, 0)
    return np.full(shape, 110, np.uint8), FieldResult(frame, whole, tuple(reasons), labels)


def shows(picture, colour):
    """Pixels of about this colour."""
    return int((np.abs(picture.astype(float) - 255 * np.array(to_rgb(colour))[::-1]).max(axis=2) < 30).sum())


def legend_of(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_accepted_found_and_rejected_are_told_apart(tmp_path):
    pixels, result = field([(90, 100, 18), (230, 90, 30), (2, 200, 20), (250, 220, 18)])
    assert {None, Reason.TOO_LARGE, Reason.BORDER} <= set(result.reasons)
    figure = field_figure(pixels, result, 0.25, "a field", ["MPP 0.91"])
    said = [text.get_text() for text in figure.texts]
    assert said[:2] == ["3 cells found, 2 accepted", "a field   ·   400 × 300 pixels of 0.25 µm"]
    assert {"single cell: 2", "too large: 1", "cut by the edge: 1"} <= set(legend_of(figure))
    picture = cv2.imread(str(draw_field(pixels, result, 0.25, "a field", tmp_path / "a.png", ["MPP 0.91"])))
    assert shows(picture, ACCEPTED_COLOUR) > 100


def test_the_colours_of_classes_are_for_accepted_cells_alone(tmp_path):
    """A biologist must not take a rejected cell for one of a class."""
    pixels, result = made_up(list(Reason))
    figure = field_figure(pixels, result, 0.25, "rejects")
    [axes] = figure.axes
    drawn = [line.get_color() for line in axes.lines] + [patch.get_edgecolor() for patch in axes.patches]
    bar = to_rgb(style.INK)  # the scale bar
    assert {to_rgb(colour) for colour in drawn} - {bar} == {to_rgb(REJECTED_COLOUR)}
    red, green, blue = to_rgb(REJECTED_COLOUR)
    assert red == green == blue


def test_every_kind_of_line_on_the_picture_is_in_the_legend(tmp_path):
    """Also the white outlines: the legend's ground is dark, and its lines are those of the picture."""
    reasons = [None, None, *Reason]
    pixels, result = made_up(reasons)
    key = {"MPP: 1": "#009E73", "not sure enough: 1": "#FFFFFF"}
    figure = field_figure(pixels, result, 0.25, "all", ["MPP 0.9", "LT-HSC 0.4?"], list(key.values()), key)
    said = legend_of(figure)
    assert set(key) <= set(said)
    assert {f"{words}: 1" for words in WORDS.values()} <= set(said)
    lines = {
        (to_rgb(line.get_color()), str(line.get_linestyle()), str(line._dash_pattern))
        for line in figure.axes[0].lines
        if line.get_marker() in ("None", None, "") and to_rgb(line.get_color()) != to_rgb(style.INK)
    }
    assert len(lines) == len(key) + len(set(Reason) - NO_CELL)  # one kind of line for each
    assert sum(figure.legends[0].get_frame().get_facecolor()[:3]) < 1.0


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from([None, *Reason]), min_size=1, max_size=21), st.integers(0, 40))
def test_no_label_covers_another_or_leaves_the_picture(reasons, extra):
    pixels, result = made_up(reasons)
    names = [f"ST-HSC 0.97{'x' * extra}"] * reasons.count(None)
    figure = field_figure(pixels, result, 0.25, "crowded", names)
    figure.canvas.draw()
    [axes] = figure.axes
    frame = axes.get_window_extent()
    written = [text for text in axes.texts if "µm" not in text.get_text()]
    boxes = [text.get_window_extent() for text in written]
    for box in boxes:
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
    for one, other in combinations(boxes, 2):
        assert not one.overlaps(other)
    unsaid = len([reason for reason in reasons if reason is not Reason.DEBRIS]) - len(written)
    said = [text.get_text() for text in figure.texts if "no room" in text.get_text()]
    assert bool(said) is (unsaid > 0) and all(str(unsaid) in text for text in said)


def test_where_nothing_is_free_there_is_no_place():
    free = FreePlaces(100, 100, [(0.0, 0.0, 100.0, 100.0)])
    assert free.find(20, 10, (40, 40, 60, 60), 2, 2) is None
    free = FreePlaces(100, 100, [(40.0, 40.0, 60.0, 60.0)])
    assert free.find(20, 10, (40, 40, 60, 60), 2, 2) == (40, 62)
    assert free.find(20, 10, (40, 40, 60, 60), 2, 2) == (40, 28)


def test_a_mosaic_of_a_hundred_million_pixels_is_drawn_from_as_many_as_can_be_seen():
    """And its outlines still lie on its cells."""
    pixels, result = made_up([None, Reason.NOT_UNIQUE])
    wide = cv2.copyMakeBorder(pixels, 0, 700, 0, 9600, cv2.BORDER_REPLICATE)
    labels = cv2.copyMakeBorder(result.labels, 0, 700, 0, 9600, cv2.BORDER_CONSTANT)
    [axes] = field_figure(wide, FieldResult(result.frame, result.whole, result.reasons, labels), 0.25, "wide").axes
    [image] = axes.images
    assert image.get_array().shape[1] < 5000 and image.get_extent() == [-0.5, 9999.5, 999.5, -0.5]
    assert axes.get_xlim() == (-0.5, 9999.5)
    assert [line.get_xdata().min() for line in axes.lines[:2]] == [5, 60]


def test_an_empty_picture_is_drawn_too(tmp_path):
    pixels, result = field([])
    assert draw_field(pixels, result, 0.25, "nothing", tmp_path / "a.png").stat().st_size > 0


def test_every_reason_has_words():
    assert set(WORDS) == set(Reason)


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    pixels, result = field([])
    with pytest.raises(OSError, match="missing"):
        draw_field(pixels, result, 0.25, "nothing", tmp_path / "missing" / "a.png")
