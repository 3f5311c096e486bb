"""Cells in still fields: found whatever the shear, the light and the scale; debris, clumps and border told apart."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from globes import granular_globes
from hspc_live.core.crop import CropGeometry, cut
from hspc_live.core.values import Modality, Reject
from hspc_live.settings.segment import SegmentSettings
from hspc_live.stages.field import FieldSegmenter, Reason
from hspc_live.stages.symmetry import Told, modality_of, told_by

UM = 0.25
DIC, BRIGHTFIELD = Modality.DIC, Modality.BRIGHTFIELD
GEOMETRY = CropGeometry()
CELLS = [(80, 90, 18), (220, 80, 22), (330, 210, 16), (100, 250, 20), (250, 300, 24)]  # x, y, radius in px


def scene(cells, shape=(400, 420), shear_deg=45.0, modality=DIC, noise=1.5, contrast=40.0, seed=0, base=110.0):
    """Light of smooth textured globes on an even field, float32, before the camera."""
    rng = np.random.default_rng(seed)
    path = cv2.GaussianBlur(granular_globes(cells, shape, 0.35, rng), (0, 0), 1.0)
    if modality is DIC:
        angle = np.deg2rad(shear_deg)
        shown = 6 * (np.cos(angle) * np.gradient(path, axis=1) + np.sin(angle) * np.gradient(path, axis=0))
    else:
        shown = -0.8 * np.minimum(path, 1.0)
    return base + contrast * shown + rng.normal(0, noise, shape)


def camera(light, dtype=np.uint8):
    return np.clip(np.rint(light), 0, np.iinfo(dtype).max).astype(dtype)


def segment(pixels, um=UM, modality=DIC, **kwargs):
    return FieldSegmenter(SegmentSettings(**{"max_diameter_um": 16.0, **kwargs}), um, modality, GEOMETRY).field(pixels)


def assert_found(result, cells, tolerance_px=3.0, scale=1.0, um=UM):
    """Each cell once, at its place and of its size; nothing else among the whole cells."""
    rows = result.frame.objects[result.whole]
    assert len(rows) == len(cells)
    for x, y, radius in cells:
        near = np.hypot(rows["x_um"] / um - x * scale, rows["y_um"] / um - y * scale)
        assert near.min() < tolerance_px * scale
        assert rows["diameter_um"][near.argmin()] == pytest.approx(2 * radius * scale * um, rel=0.2)


@pytest.mark.parametrize("shear_deg", [0.0, 45.0, 90.0, 135.0, 180.0, 290.0])
def test_every_cell_is_found_at_any_shear_direction(shear_deg):
    assert_found(segment(camera(scene(CELLS, shear_deg=shear_deg))), CELLS)


def test_brightfield_is_no_other_case():
    assert_found(segment(camera(scene(CELLS, modality=BRIGHTFIELD)), modality=BRIGHTFIELD), CELLS)


def test_uneven_light_weak_contrast_and_sixteen_bits_change_nothing():
    light = scene(CELLS)
    rows, columns = light.shape
    uneven = light * np.linspace(0.7, 1.3, columns) * (1.1 - np.linspace(-0.5, 0.5, rows)[:, None] ** 2)
    assert_found(segment(camera(uneven)), CELLS)
    assert_found(segment(camera(scene(CELLS, contrast=25.0))), CELLS)
    assert_found(segment(camera(light * 200, np.uint16)), CELLS)


@pytest.mark.parametrize("scale", [0.75, 1.5])
def test_lengths_are_in_micrometres(scale):
    light = scene(CELLS).astype(np.float32)
    other = cv2.resize(light, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    assert_found(segment(camera(other), um=UM / scale), CELLS, scale=scale, um=UM / scale)


def test_an_odd_number_of_rows_and_columns_is_no_trouble():
    pixels = camera(scene(CELLS))[:-1, :-1]
    result = segment(np.ascontiguousarray(pixels))
    assert result.labels.shape == pixels.shape
    assert_found(result, CELLS)


def turned(picture, quarter, mirrored):
    """Mirrored left to right if asked, then turned by quarters; `turned_cells` does the same to places."""
    return np.ascontiguousarray(np.rot90(picture[:, ::-1] if mirrored else picture, quarter))


def turned_cells(cells, shape, quarter, mirrored):
    height, width = shape
    moved = [(width - 1 - x if mirrored else x, y, radius) for x, y, radius in cells]
    for _ in range(quarter):
        moved = [(y, width - 1 - x, radius) for x, y, radius in moved]
        height, width = width, height
    return moved


@given(quarter=st.integers(0, 3), mirrored=st.booleans(), seed=st.integers(0, 500))
@example(quarter=1, mirrored=False, seed=8)  # a bay between the two flanks of the largest cell
@example(quarter=1, mirrored=True, seed=20)
@settings(max_examples=12, deadline=None)
def test_turning_the_picture_turns_the_result(quarter, mirrored, seed):
    pixels = camera(scene(CELLS, seed=seed))
    here, there = segment(pixels), segment(turned(pixels, quarter, mirrored))
    assert_found(here, CELLS)
    assert_found(there, turned_cells(CELLS, pixels.shape, quarter, mirrored))
    # block borders of the background and the sampling of discs do not turn with it
    ours, theirs = (np.sort(r.frame.objects["area_um2"][r.whole]) for r in (here, there))
    assert np.median(np.abs(ours / theirs - 1.0)) < 0.1


@pytest.mark.parametrize(("seed", "quarter"), [(1020, 0), (1020, 3), (8, 1), (8, 3)])
def test_a_cell_whose_flanks_a_bay_parts_is_one_cell(seed, quarter):
    pixels = camera(scene(CELLS, seed=seed))
    result = segment(turned(pixels, quarter, mirrored=False))
    assert_found(result, turned_cells(CELLS, pixels.shape, quarter, mirrored=False))
    assert Reason.DEBRIS not in result.reasons


def test_turning_the_picture_keeps_every_area():
    pixels = camera(scene(CELLS, seed=1))
    here, there = segment(pixels), segment(np.ascontiguousarray(np.rot90(pixels)))
    ours, theirs = (np.sort(r.frame.objects["area_um2"][r.whole]) for r in (here, there))
    np.testing.assert_allclose(ours, theirs, rtol=0.1)


def test_labels_number_the_whole_cells_in_their_order():
    result = segment(camera(scene(CELLS)))
    rows = result.frame.objects[result.whole]
    assert result.labels.dtype == np.uint16
    assert set(np.unique(result.labels)) == set(range(len(CELLS) + 1))
    for number, row in enumerate(rows, start=1):
        assert (result.labels == number).sum() * UM**2 == pytest.approx(row["area_um2"])
        ys, xs = np.nonzero(result.labels == number)
        assert (xs.mean() * UM, ys.mean() * UM) == pytest.approx((row["x_um"], row["y_um"]))


def test_crops_are_those_of_the_one_crop_geometry():
    pixels = camera(scene(CELLS))
    result = segment(pixels)
    taken = result.frame.objects[[reason is None for reason in result.reasons]]
    assert len(result.frame.crops) == len(taken) > 0
    for crop, row in zip(result.frame.crops, taken, strict=True):
        flat = np.full_like(pixels, 110)
        expected = cut(pixels, flat, row["x_um"] / UM, row["y_um"] / UM, UM, GEOMETRY)
        assert np.abs(crop.astype(int) - expected.astype(int)).max() <= 4  # the field is estimated to that much


def test_the_same_picture_gives_the_same_result_whatever_came_before():
    pixels, other = camera(scene(CELLS)), camera(scene(CELLS[:2], seed=5))
    stage = FieldSegmenter(SegmentSettings(max_diameter_um=16), UM, DIC, GEOMETRY)
    first = stage.field(pixels)
    stage.field(other)
    again = stage.field(pixels)
    assert np.array_equal(first.labels, again.labels)
    assert np.array_equal(first.frame.crops, again.frame.crops)


def test_touching_cells_are_parted_and_neither_is_accepted():
    result = segment(camera(scene([(150, 150, 20), (188, 150, 20), (320, 320, 20)])))
    assert int(result.whole.sum()) == 3
    assert sorted(map(str, result.reasons)) == ["None", "not_unique", "not_unique"]


def test_a_cell_larger_than_the_range_is_found_and_not_accepted():
    result = segment(camera(scene(CELLS)), max_diameter_um=10.0)
    assert_found(result, CELLS)
    rows = result.frame.objects[result.whole]
    for row, reason in zip(rows, result.reasons, strict=True):
        assert (reason is Reason.TOO_LARGE) == (row["diameter_um"] > 10.0)
        assert (row["reject"] == Reject.CLUSTER) == (reason is Reason.TOO_LARGE)


def test_a_cell_cut_by_the_border_is_no_whole_cell():
    result = segment(camera(scene([(3, 200, 20), (200, 200, 20)])))
    assert sorted(map(str, result.reasons)) == ["None", "border"]
    assert result.labels.max() == 1


def test_a_whole_cell_too_near_the_border_is_found_but_cannot_be_cropped():
    result = segment(camera(scene([(26, 200, 18), (200, 200, 20)])))
    assert sorted(map(str, result.reasons)) == ["None", "uncroppable"]
    assert result.labels.max() == 2


def test_a_cell_out_of_focus_is_blurred_found_and_not_accepted():
    sharp, soft = CELLS[1:], CELLS[:1]
    blurred = cv2.GaussianBlur(scene(soft, noise=0, base=0, contrast=150.0).astype(np.float32), (0, 0), 4.0)
    result = segment(camera(scene(sharp) + blurred))
    assert int(result.whole.sum()) == len(CELLS)
    assert result.reasons == (Reason.BLURRED, *4 * (None,))  # ordered by x: the soft one first
    assert result.frame.objects["reject"][0] == Reject.BLURRED
    assert segment(camera(scene(sharp) + blurred), min_sharpness=0.0).reasons == 5 * (None,)


@pytest.mark.parametrize(("dtype", "factor"), [(np.uint8, 1), (np.uint16, 257)])
def test_a_cell_that_glares_is_saturated_found_and_not_accepted(dtype, factor):
    light = (scene(CELLS[1:]) + scene(CELLS[:1], noise=0, base=0, contrast=200.0)) * factor
    result = segment(camera(light, dtype))
    assert int(result.whole.sum()) == len(CELLS)
    assert result.reasons == (Reason.SATURATED, *4 * (None,))
    assert result.frame.objects["reject"][0] == Reject.SATURATED
    assert segment(camera(light, dtype), max_saturated=1.0).reasons == 5 * (None,)


def test_dust_that_only_darkens_is_debris_in_dic():
    light = scene(CELLS)
    ys, xs = np.indices(light.shape)
    light -= 60 * np.exp(-((xs - 330) ** 2 + (ys - 80) ** 2) / 12**2)  # of a cell's size, soft
    result = segment(camera(light))
    assert int(result.whole.sum()) == len(CELLS)
    assert Reason.DEBRIS in result.reasons


def test_faint_remains_and_small_things_are_no_cells():
    light = (
        scene(CELLS) + scene([(330, 90, 18)], contrast=4.0, noise=0, base=0) + scene([(180, 190, 5)], noise=0, base=0)
    )
    result = segment(camera(light))
    assert_found(result, CELLS)
    assert result.reasons.count(Reason.DEBRIS) >= 1


@pytest.mark.parametrize(("value", "alarm"), [(0, "black"), (255, "saturated"), (77, "flat")])
def test_pictures_of_nothing_say_so(value, alarm):
    result = segment(np.full((300, 300), value, np.uint8))
    assert result.frame.alarms == (alarm,)
    assert len(result.frame.objects) == 0 and not result.labels.any()


def test_an_empty_field_of_noise_holds_no_cell():
    result = segment(camera(scene([])))
    assert not result.whole.any()


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (17, 2)])
def test_tiny_pictures_do_no_harm(shape):
    pixels = np.random.default_rng(0).integers(90, 120, shape).astype(np.uint8)
    assert segment(pixels).labels.shape == shape


def test_objects_beyond_the_cap_are_counted():
    result = segment(camera(scene(CELLS)), max_objects=3)
    assert int(result.whole.sum()) == 3
    assert result.frame.over_cap == 2


@pytest.mark.parametrize("modality", [DIC, BRIGHTFIELD])
@pytest.mark.parametrize("shear_deg", [0.0, 120.0])
def test_the_contrast_is_told_from_the_cells(modality, shear_deg):
    pixels = camera(scene(CELLS, modality=modality, shear_deg=shear_deg))
    assert told_by(pixels, segment(pixels)) == Told(modality, True)


@pytest.mark.parametrize("shear_deg", [0.0, 70.0, 200.0])
@pytest.mark.parametrize("shadows", [1, 4])
def test_one_cell_outweighs_soft_shadows_around_it(shear_deg, shadows):
    light = scene([(200, 200, 20)], shear_deg=shear_deg)
    ys, xs = np.indices(light.shape)
    for x, y in [(80, 90), (330, 100), (90, 320), (330, 320)][:shadows]:
        light -= 70 * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / 20**2)
    pixels = camera(light)
    assert told_by(pixels, segment(pixels)) == Told(DIC, True)


def test_an_empty_field_or_one_of_dust_alone_tells_nothing_for_sure():
    light = scene([])
    pixels = camera(light)
    assert told_by(pixels, segment(pixels)) == Told(DIC, False)
    ys, xs = np.indices(light.shape)
    pixels = camera(light - 60 * np.exp(-((xs - 200) ** 2 + (ys - 180) ** 2) / 20**2))
    assert not told_by(pixels, segment(pixels)).sure


def test_windows_of_real_dic_frames_are_dic_or_not_sure():
    folder = os.environ.get("HSPC_REAL_DATA")
    if folder is None:
        pytest.skip("HSPC_REAL_DATA is not set")
    said = []
    for number in (22, 25, 29, 33, 38, 40):
        pixels = cv2.imread(str(Path(folder) / f"dic/cho{number}.png"), cv2.IMREAD_UNCHANGED)
        half_y, half_x = (n // 2 for n in pixels.shape)
        for y, x in ((0, 0), (0, half_x), (half_y, 0), (half_y, half_x)):
            window = np.ascontiguousarray(pixels[y : y + half_y, x : x + half_x])
            said.append(told_by(window, segment(window)))
    assert sum(one == Told(DIC, True) for one in said) >= 22
    assert Told(BRIGHTFIELD, True) not in said


def test_real_dic_frames():
    folder = os.environ.get("HSPC_REAL_DATA")
    if folder is None:
        pytest.skip("HSPC_REAL_DATA is not set")
    found = cells = false = 0
    ious = []
    for number in (21, 27, 33, 40):
        pixels = cv2.imread(str(Path(folder) / f"dic/cho{number}.png"), cv2.IMREAD_UNCHANGED)
        truth = cv2.imread(str(Path(folder) / f"dic/cho{number}_cells.png"), cv2.IMREAD_UNCHANGED)
        result = segment(pixels)
        assert modality_of(pixels, result) is DIC
        labels, unjudged = result.labels, truth == 65535
        inner = np.zeros(truth.shape, bool)
        inner[6:-6, 6:-6] = True
        hit = set()
        for number_there in np.unique(truth[(truth > 0) & ~unjudged]):
            mask = truth == number_there
            if (mask & ~inner).any():
                continue
            cells += 1
            shared = np.bincount(labels[mask], minlength=1)
            shared[0] = 0
            best = int(shared.argmax())
            iou = shared[best] / ((labels == best).sum() + mask.sum() - shared[best]) if shared[best] else 0.0
            if iou >= 0.5:
                found, hit = found + 1, hit | {best}
                ious.append(iou)
        for number_here in range(1, int(labels.max()) + 1):
            mask = labels == number_here
            outside = (mask & ~inner).any() or unjudged[mask].mean() > 0.3
            touches_cut = np.isin(truth[mask], np.unique(truth[~inner & (truth > 0)])).mean() > 0.5
            false += number_here not in hit and not outside and not touches_cut
    assert cells >= 50
    assert found / cells >= 0.95
    assert false <= 2
    assert np.mean(ious) >= 0.84
