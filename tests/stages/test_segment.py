"""Segmentation, on cells drawn here (not the twin's) and on real recordings."""

import os
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hspc_live.core.crop import CropGeometry
from hspc_live.core.values import OBJECT_DTYPE, Modality, Reject
from hspc_live.settings.segment import SegmentSettings
from hspc_live.stages.background import noise_sd
from hspc_live.stages.exposure import camera_top
from hspc_live.stages.segment import Segmenter, window_origin
from hspc_live.stages.segment_reference import find

UM = 0.25
GEOMETRY = CropGeometry(64, 0.25)
SIZE = (200, 300)  # 50 × 75 µm
DIC, BRIGHTFIELD = Modality.DIC, Modality.BRIGHTFIELD


def light_of(cells, modality=DIC, shape=SIZE, um=UM, shear_deg=45.0, contrast=1.0):
    """Relative light of round cells (x_um, y_um, diameter_um): the derivative of their thickness, or absorption."""
    ys, xs = np.indices(shape, dtype=np.float32) * np.float32(um)
    light = np.ones(shape, np.float32)
    for x, y, diameter in cells:
        thickness = np.sqrt(np.maximum(0.0, (diameter / 2) ** 2 - (xs - x) ** 2 - (ys - y) ** 2)).astype(np.float32)
        if modality is DIC:
            thickness = cv2.GaussianBlur(thickness, (0, 0), 0.25 / um)
            along = np.gradient(thickness, um, axis=1) * np.cos(np.deg2rad(shear_deg))
            shown = 0.2 * (along + np.gradient(thickness, um, axis=0) * np.sin(np.deg2rad(shear_deg)))
        else:
            shown = cv2.GaussianBlur(np.float32(-0.3) * (thickness > 0), (0, 0), 0.2 / um)
        light += contrast * shown.astype(np.float32)
    return light


def shoot(light, noise=1.5, seed=0, dtype=np.uint8, level=120.0, still=None):
    """A frame and its background at the camera: `level` counts of light, `noise` counts of noise."""
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    still = np.ones(light.shape, np.float32) if still is None else still
    frame = np.clip(np.rint(level * light * still + rng.normal(0, noise, light.shape)), 0, top).astype(dtype)
    return frame, np.rint(level * still).astype(dtype)


def run(frame, background, modality=DIC, um=UM, window_px=0, **kwargs):
    segment = Segmenter(SegmentSettings(**kwargs), um, modality, GEOMETRY, window_px)
    return segment(3, 99, frame, background, 7, noise_sd(frame, background))


def reasons(result):
    return [Reject(r).name for r in result.objects["reject"]]


# ---- what is found ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modality", list(Modality))
@pytest.mark.parametrize("um", [0.15, 0.25, 0.34])
@pytest.mark.parametrize("diameter", [6.5, 8.0, 11.0])
def test_a_cell_is_found_once_in_place_and_in_size(modality, um, diameter):
    shape = (round(40 / um), round(40 / um))
    for seed, shear in enumerate((0.0, 30.0, 45.0, 90.0, 135.0)):
        frame, background = shoot(light_of([(20.3, 19.6, diameter)], modality, shape, um, shear), seed=seed)
        result = run(frame, background, modality, um)
        assert reasons(result) == ["ACCEPTED"]
        (cell,) = result.detections()
        assert abs(cell.x_um - 20.3) < 0.25 and abs(cell.y_um - 19.6) < 0.25
        assert abs(cell.diameter_um - diameter) <= 0.4
        assert cell.deformation < 0.04
        assert result.crops.shape == (1, 64, 64) and result.crops.dtype == np.uint8
        assert result.index == 3 and result.captured_ns == 99 and result.background == 7


@pytest.mark.parametrize("modality", list(Modality))
def test_diameters_are_unbiased_on_average(modality):
    rng = np.random.default_rng(8)
    off = []
    for seed in range(25):
        diameter = rng.uniform(6.5, 10.5)
        at = rng.uniform(15, 35, 2)
        light = light_of([(*at, diameter)], modality, (200, 200), UM, rng.uniform(0, 180))
        (cell,) = run(*shoot(light, seed=seed), modality).detections()
        off.append(cell.diameter_um - diameter)
    assert abs(np.mean(off)) <= 0.3


def test_every_object_has_its_reason():
    cells = {
        (2.5, 30.0, 8.0): "BORDER",
        (18.0, 8.0, 2.0): "DEBRIS",
        (40.0, 12.0, 8.0): "ACCEPTED",
        (61.0, 25.0, 20.0): "CLUSTER",
        (20.0, 43.5, 8.0): "UNCROPPABLE",
        (20.0, 26.0, 8.0): "ACCEPTED",
    }
    result = run(*shoot(light_of(list(cells))))
    assert len(result.objects) == len(cells)
    for (x, y, _), reason in cells.items():
        off = np.hypot(result.objects["x_um"] - x, result.objects["y_um"] - y)
        assert off.min() < 2.0 and reasons(result)[int(off.argmin())] == reason


def test_another_object_in_the_crop_makes_a_cell_not_unique():
    """The paper's uniqueness check: one cell per crop, and a crop is 16 µm wide."""
    near = run(*shoot(light_of([(30.0, 25.0, 8.0), (40.5, 25.0, 8.0)])))
    assert reasons(near) == ["NOT_UNIQUE", "NOT_UNIQUE"]
    far = run(*shoot(light_of([(25.0, 25.0, 8.0), (42.0, 25.0, 8.0)])))
    assert reasons(far) == ["ACCEPTED", "ACCEPTED"]
    for away in (5.5, 7.0, 8.5):  # so near, debris may be taken for a part of the cell: then that is no cell either
        debris = run(*shoot(light_of([(30.0, 25.0, 8.0), (30.0 + away, 25.0, 3.0)])))
        assert "ACCEPTED" not in reasons(debris)


def test_saturated_and_blurred_cells_are_no_views():
    frame, background = shoot(light_of([(37.0, 25.0, 8.0)], contrast=4.0), level=200)
    assert reasons(run(frame, background)) == ["SATURATED"]
    sharp = light_of([(37.0, 25.0, 8.0)], contrast=1.5)
    blurred = cv2.GaussianBlur(sharp, (0, 0), 2.0 / UM)
    assert reasons(run(*shoot(sharp))) == ["ACCEPTED"]
    assert reasons(run(*shoot(blurred, noise=0.7), max_diameter_um=30)) == ["BLURRED"]
    assert "BLURRED" not in reasons(run(*shoot(blurred, noise=0.7), max_diameter_um=30, min_sharpness=0))


def test_sharpness_falls_with_blur_and_ignores_gain():
    light = light_of([(37.0, 25.0, 8.0)])
    values = [
        run(*shoot(cv2.GaussianBlur(light, (0, 0), s), noise=0.8), min_sharpness=0).objects["sharpness"][0]
        for s in (0.5, 2, 4)
    ]
    assert values[0] > 1.2 * values[1] > 1.5 * values[2]
    brighter = run(*shoot(light, noise=1.5, level=220)).objects["sharpness"][0]
    assert abs(run(*shoot(light)).objects["sharpness"][0] / brighter - 1) < 0.15


@settings(max_examples=40, deadline=None)
@given(
    angle=st.floats(0, 180),
    overlap=st.floats(0.9, 1.02),
    ratio=st.floats(0.75, 1.33),
    shear=st.floats(0, 180),
    seed=st.integers(0, 9999),
)
def test_touching_cells_are_never_taken_for_one(angle, overlap, ratio, shear, seed):
    first, second = 8.0, 8.0 * ratio
    step = overlap * (first + second) / 2 / 2
    dx, dy = step * np.cos(np.deg2rad(angle)), step * np.sin(np.deg2rad(angle))
    pair = [(37.0 - dx, 25.0 - dy, first), (37.0 + dx, 25.0 + dy, second)]
    assert "ACCEPTED" not in reasons(run(*shoot(light_of(pair, shear_deg=shear), seed=seed)))


def test_touching_cells_are_parted_where_settings_say_so():
    pair = shoot(light_of([(33.1, 25.0, 8.0), (40.9, 25.0, 8.0)]))
    parted = run(*pair)
    assert reasons(parted) == ["NOT_UNIQUE", "NOT_UNIQUE"]
    assert np.allclose(parted.objects["x_um"], [33.1, 40.9], atol=0.4)
    assert np.allclose(parted.objects["diameter_um"], 8.0, atol=0.6)
    assert reasons(run(*pair, split_touching=False)) == ["CLUSTER"]


# ---- invariants ------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(dx=st.integers(-30, 30), dy=st.integers(-12, 12), modality=st.sampled_from(list(Modality)))
def test_a_shifted_scene_gives_shifted_objects(dx, dy, modality):
    cells = [(25.0, 25.0, 8.0), (44.0, 24.0, 7.0), (36.0, 36.0, 2.5)]
    frame, background = shoot(light_of(cells, modality))
    there = run(np.roll(frame, (dy, dx), (0, 1)), background, modality)
    here = run(frame, background, modality)
    assert len(here.objects) == len(there.objects) == 3
    assert np.allclose(there.objects["x_um"] - here.objects["x_um"], dx * UM, atol=0.05)
    assert np.allclose(there.objects["y_um"] - here.objects["y_um"], dy * UM, atol=0.05)
    assert np.allclose(there.objects["diameter_um"], here.objects["diameter_um"], atol=0.1)


@settings(max_examples=25, deadline=None)
@given(flicker=st.floats(0.9, 1.1), scale=st.floats(2.0, 200.0), seed=st.integers(0, 99))
def test_light_and_gain_do_not_change_what_is_found(flicker, scale, seed):
    """A lamp that flickers against the background, and a 16-bit camera of any gain, see the same cells as 8 bits do."""
    light = light_of([(20.0, 25.0, 8.0), (44.0, 24.0, 9.0)])
    still = np.linspace(0.9, 1.1, SIZE[1], dtype=np.float32) * np.ones(SIZE, np.float32)
    plain = run(*shoot(light, seed=seed, still=still))
    frame, _ = shoot(light * flicker, seed=seed, still=still)
    flickering = run(frame, shoot(light, still=still)[1])
    wide = run(*shoot(light, seed=seed, still=still, dtype=np.uint16, level=120 * scale, noise=1.5 * scale))
    assert wide.crops.dtype == np.uint16
    for other in (flickering, wide):
        assert reasons(other) == reasons(plain) == ["ACCEPTED", "ACCEPTED"]
        assert np.allclose(other.objects["x_um"], plain.objects["x_um"], atol=0.1)
        assert np.allclose(other.objects["diameter_um"], plain.objects["diameter_um"], atol=0.25)


@settings(max_examples=40, deadline=None)
@given(
    cells=st.lists(st.tuples(st.floats(-2, 77), st.floats(-2, 52), st.floats(1, 14)), max_size=6),
    shape=st.sampled_from([SIZE, (80, 320), (50, 60), (66, 300)]),
    window=st.sampled_from([0, 40, 80]),
    modality=st.sampled_from(list(Modality)),
)
def test_results_always_hang_together(cells, shape, window, modality):
    frame, background = shoot(light_of(cells, modality, shape))
    result = run(frame, background, modality, window_px=window)
    objects = result.objects
    accepted = objects["reject"] == 0
    assert objects.dtype == OBJECT_DTYPE and len(result.crops) == accepted.sum()
    assert all(np.isfinite(objects[name]).all() for name in OBJECT_DTYPE.names)
    assert [tuple(at) for at in objects[["x_um", "y_um"]].tolist()] == sorted(objects[["x_um", "y_um"]].tolist())
    for row in objects[accepted]:  # no accepted crop leaves the frame
        assert 32 - 0.5 <= row["x_um"] / UM <= shape[1] - 0.5 - 32 + 1e-9
        assert 32 - 0.5 <= row["y_um"] / UM <= shape[0] - 0.5 - 32 + 1e-9
    if window == 0:
        assert result.windows.shape == result.masks.shape == (0, 0, 0)
        return
    assert result.windows.shape == result.masks.shape == (len(objects), min(window, shape[0]), min(window, shape[1]))
    for row, cut_out, mask in zip(objects, result.windows, result.masks, strict=True):
        x0, y0 = window_origin(row["x_um"] / UM, row["y_um"] / UM, shape, window)
        np.testing.assert_array_equal(cut_out, frame[y0 : y0 + mask.shape[0], x0 : x0 + mask.shape[1]])
        inside = row["x0_px"] >= x0 and row["y0_px"] >= y0
        inside = inside and row["x1_px"] <= x0 + mask.shape[1] and row["y1_px"] <= y0 + mask.shape[0]
        if inside:
            assert abs(mask.sum() * UM**2 - row["area_um2"]) < 1e-6
            assert abs(cut_out[mask > 0].mean() - row["brightness"]) < 1e-6


# ---- bad frames ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "dtype", "alarm"),
    [(0, np.uint8, "black"), (255, np.uint8, "saturated"), (77, np.uint8, "flat"), (4095, np.uint16, "saturated")],
)
def test_a_frame_that_shows_nothing_is_said_and_yields_nothing(level, dtype, alarm):
    still = np.full(SIZE, 100, dtype)
    result = run(np.full(SIZE, level, dtype), still, window_px=80)
    assert result.alarms == (alarm,) and len(result.objects) == len(result.crops) == len(result.windows) == 0


def test_a_good_frame_raises_no_alarm_and_a_background_of_another_shape_is_refused():
    frame, background = shoot(light_of([]))
    assert run(frame, background).alarms == ()
    segment = Segmenter(SegmentSettings(), UM, DIC, GEOMETRY)
    with pytest.raises(ValueError, match="its background"):
        segment(0, 0, frame, background[:-1], 1, 1.0)
    with pytest.raises(ValueError, match="its background"):
        segment(0, 0, frame, background.astype(np.uint16), 1, 1.0)


def test_saturation_of_a_12_bit_camera_is_seen_in_16_bits():
    assert [camera_top(h, np.dtype(np.uint16)) for h in (200, 1000, 4000, 4095, 4096, 65535)] == [
        255, 1023, 4095, 4095, 16383, 65535,
    ]  # fmt: skip


def test_ten_thousand_objects_cost_a_bounded_time_and_are_counted():
    frame = np.full((1400, 1500), 100, np.uint8)
    ys, xs = np.indices((100, 100)) * 14 + 5
    for y, x in zip(ys.ravel().tolist(), xs.ravel().tolist(), strict=True):
        frame[y : y + 4, x : x + 4] = 60
    background = np.full_like(frame, 100)
    cv2.circle(frame, (1450, 500), 16, 40, -1)
    segment = Segmenter(SegmentSettings(max_objects=50), UM, BRIGHTFIELD, GEOMETRY)
    segment(0, 0, frame, background, 1, 1.0)
    began = time.perf_counter()
    result = segment(0, 0, frame, background, 1, 1.0)
    assert time.perf_counter() - began < 1.0
    assert len(result.objects) == 50 and result.over_cap == 10_001 - 50
    assert result.objects["diameter_um"].max() > 7  # the cell does not lose its place to specks


# ---- the reference ---------------------------------------------------------------------------------------------------


def agree(frame, background, um, modality):
    """Hot path and reference find the same objects, alike in every number; returns how many."""
    sd = noise_sd(frame, background)
    fast = Segmenter(SegmentSettings(), um, modality, GEOMETRY, 10_000)(0, 0, frame, background, 1, sd)
    slow = find(frame, background, sd, SegmentSettings(), um, modality, GEOMETRY)
    assert len(fast.objects) == len(slow)
    for a, mask, b in zip(fast.detections(), fast.masks, slow, strict=True):
        assert ((mask > 0) ^ b.mask).sum() <= 0.05 * b.mask.sum() + 10
        assert a.reject == b.detection.reject
        assert abs(a.x_um - b.detection.x_um) < 0.1 and abs(a.y_um - b.detection.y_um) < 0.1
        assert abs(a.area_um2 - b.detection.area_um2) < 0.04 * a.area_um2 + 10 * um**2
        assert abs(a.deformation - b.detection.deformation) < 5e-3
        assert abs(a.sharpness - b.detection.sharpness) < 0.01
        assert abs(a.brightness / b.detection.brightness - 1) < 0.01
    return len(slow)


@pytest.mark.parametrize("modality", list(Modality))
def test_the_hot_path_does_what_the_reference_says(modality):
    rng = np.random.default_rng(12)
    count = 0
    for seed in range(8):
        cells = [(rng.uniform(-2, 77), rng.uniform(-2, 52), rng.choice([1.5, 3, 7, 8, 9, 14])) for _ in range(7)]
        light = light_of(cells, modality, shear_deg=rng.uniform(0, 180))
        dtype, scale = ((np.uint8, 1), (np.uint16, 20))[seed % 2]
        count += agree(*shoot(light, seed=seed, dtype=dtype, level=120 * scale, noise=1.5 * scale), UM, modality)
    assert count > 30


# ---- real recordings -------------------------------------------------------------------------------------------------


def recording(name):
    if "HSPC_REAL_DATA" not in os.environ:
        pytest.skip("HSPC_REAL_DATA is unset")
    import h5py
    import hdf5plugin  # noqa: F401 - registers the filters

    with h5py.File(Path(os.environ["HSPC_REAL_DATA"], "streams", f"{name}.rtdc")) as file:
        events = file["events"]
        rows = [
            (i, b, m > 0) for i, b, m in zip(events["image"][:], events["image_bg"][:], events["mask"][:], strict=True)
        ]
        return rows, float(file.attrs["imaging:pixel size"]), events["frame"][:]


RECORDINGS = ("blood_minimal", "blood_crowded", "blood_2024")


def test_cells_of_real_recordings_are_found_once():
    """At least 95 % of the rows with a mask have an object over the mask's centre, each its own; none is split."""
    rows_in_all = hits = twice = 0
    for name in RECORDINGS:
        rows, um, frames = recording(name)
        taken = set()
        for (image, background, mask), frame in zip(rows, frames, strict=True):
            result = run(image, background, BRIGHTFIELD, um)
            ys, xs = np.nonzero(mask)
            over = [
                i
                for i, d in enumerate(result.detections())
                if d.x0_px <= xs.mean() < d.x1_px and d.y0_px <= ys.mean() < d.y1_px
            ]
            inside = [d for d in result.detections() if mask[round(d.y_um / um), round(d.x_um / um)]]
            free = [i for i in over if (frame, i) not in taken]
            rows_in_all += 1
            hits += bool(free)
            taken |= {(frame, i) for i in free[:1]}
            twice += len([d for d in inside if d.diameter_um > 3]) > 1
    assert hits / rows_in_all >= 0.95
    assert twice <= 1  # one row of the crowded file outlines two cells, one behind the other


def test_the_reference_agrees_on_real_frames():
    for name in RECORDINGS:
        rows, um, _ = recording(name)
        assert sum(agree(image, background, um, BRIGHTFIELD) for image, background, _ in rows[::3]) > 5
