"""The empty field behind one image: its illumination and its noise, with cells in the way."""

from __future__ import annotations

import numpy as np
import pytest

from hspc_live.stages.still import Memory, noise_sd, still_of

UM = 0.25


def with_cells(base, rng, count=25):
    light = base.astype(np.float64).copy()
    ys, xs = np.indices(base.shape)
    for x, y in rng.uniform(40, min(base.shape) - 40, (count, 2)):
        light += np.where((xs - x) ** 2 + (ys - y) ** 2 < 22**2, 60 * np.sin((xs - x) / 6), 0)
    return light


@pytest.mark.parametrize("sd", [1.0, 3.0, 8.0])
def test_noise_is_measured_with_cells_in_the_way(sd):
    rng = np.random.default_rng(1)
    light = with_cells(np.full((600, 800), 100.0), rng) + rng.normal(0, sd, (600, 800))
    assert noise_sd(light.astype(np.float32)) == pytest.approx(sd, rel=0.3)


def test_illumination_is_taken_out_and_cells_stay():
    rng = np.random.default_rng(2)
    ys, xs = np.meshgrid(np.linspace(-0.5, 0.5, 600), np.linspace(-0.5, 0.5, 800), indexing="ij")
    field = 110 + 40 * xs - 60 * (xs**2 + ys**2)
    pixels = np.clip(np.rint(with_cells(field, rng) + rng.normal(0, 1, field.shape)), 0, 255).astype(np.uint8)
    still = still_of(pixels, UM, Memory())
    rows, columns = still.coarse.shape
    light = still.shown(0, 0, columns, rows)
    clear = np.abs(with_cells(field, np.random.default_rng(2)) - field) < 1
    left = light[clear] - still.grey
    assert abs(float(left.mean())) < 0.7
    assert float(np.abs(np.median(left.reshape(-1)[: left.size // 8]))) < 1.5  # the dark corner, too
    assert float(np.abs(light[~clear] - still.grey).mean()) > 20


def test_light_is_the_picture_less_its_field_at_any_size():
    rng = np.random.default_rng(3)
    pixels = rng.integers(990, 1010, (301, 403)).astype(np.uint16)
    still = still_of(pixels, UM, Memory())
    rows, columns = still.coarse.shape
    assert still.shown(-5, -5, columns + 9, rows + 9).shape == pixels.shape
    assert float(np.abs(still.light - still.grey).max()) < 15
    assert still.grey == 1 << 15


@pytest.mark.parametrize("um_per_px", [0.5, 0.25, 0.16])  # one, two and three camera pixels to a coarse one
def test_light_is_the_same_whichever_boxes_it_is_made_in(um_per_px):
    rng = np.random.default_rng(4)
    ys, xs = np.indices((301, 403))
    pixels = np.clip(np.rint(90 + xs / 5 - ys / 9 + rng.normal(0, 2, xs.shape)), 0, 255).astype(np.uint8)
    still = still_of(pixels, um_per_px, Memory())
    rows, columns = still.coarse.shape
    whole = still.shown(0, 0, columns, rows).copy()
    for _ in range(5):  # boxes that overlap, so that the edges of some lie in others
        pieces = still_of(pixels, um_per_px, Memory())
        for x, y in zip(rng.integers(-9, columns, 40).tolist(), rng.integers(-9, rows, 40).tolist(), strict=True):
            box = (max(0, x), max(0, y), x + 20, y + 20)
            light = pieces.shown(*box)
            there = whole[box[1] * still.step : box[3] * still.step, box[0] * still.step : box[2] * still.step]
            np.testing.assert_allclose(light, there, atol=1e-4)
