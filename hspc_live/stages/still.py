"""The empty field behind one still image: its illumination and its noise, taken from the image itself.

A chamber's field is seen once, so there is no film to take a background from. The image is cut into blocks; those that
show no more than noise are empty, and what they show, averaged over their surroundings, is the illumination. Slow
shading, vignetting and the large soft rings of dust far from focus go with it. Cells never enter, so they pull nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.crop import Light, mid_grey
from hspc_live.core.values import Pixels

COARSE_UM = 0.5  # objects are looked for at this scale: about the resolution of the optics
BLOCK_UM = 8.0  # of the order of a cell: smaller blocks would lie inside large flat cells and pass for empty
FEWEST = 8  # blocks across a picture; smaller ones in a small picture, and its illumination even
AROUND = (5, 11, 23, 47)  # blocks across which the empty ones are averaged; wider only where nearer there is none
STRETCH_PX = 32
CALMEST = 0.87  # the calmest fifth of stretches of white noise, in their mean
LEAST_NOISE = 0.1  # counts; a picture without noise still comes in whole counts


@dataclass(frozen=True, slots=True, eq=False)
class Still:
    """One image without its illumination.

    `coarse` is the image less its empty field around 0, float32, averaged over `step` × `step` camera pixels (its last
    row and column repeat the image's edge where that does not fill them); `noise_sd` is its noise. `light` (height,
    width) float32 is the same at full scale around `grey`, mid-grey, as crops are cut from (`core.crop.light_of`); it
    is made only where it is asked for (`shown`), and undefined elsewhere: `made` is 1 at the coarse pixels where it is.
    `field` is the illumination at coarse scale, `mean` its mean. All in counts.
    """

    coarse: Light
    step: int
    noise_sd: float
    light: Light
    grey: int
    pixels: Pixels
    field: Light
    mean: float
    made: NDArray[np.uint8]

    def lamp(self, x: int, y: int) -> float:
        """The illumination at a coarse pixel as a share of its mean, at least a quarter; 1 where all is black."""
        return max(0.25, float(self.field[y, x]) / self.mean) if self.mean > 0 else 1.0

    def amplitude(self, light: Light, here: tuple[slice, slice], into: Light) -> None:
        """The same as `light`, around 0 at coarse scale, in the square root of the picture, in a box: roots of counts.

        The brightness of DIC goes with the square of what the slope of a cell does to the light, so near extinction a
        flank that glares stands against one that can be no darker than black. In the root the two are alike.
        """
        lamp = np.maximum(self.field[here], 0)
        root = light[here] + lamp
        np.maximum(root, 0, out=root)
        np.sqrt(root, out=root)
        np.subtract(root, np.sqrt(lamp, out=lamp), out=into)

    def shown(self, x0: int, y0: int, x1: int, y1: int) -> Light:
        """`light` made in a box of coarse pixels, half-open, and returned; what lies beyond the image is left out."""
        rows, columns = self.coarse.shape
        x0, y0, x1, y1 = max(0, x0), max(0, y0), min(columns, x1), min(rows, y1)
        step = self.step
        here = np.s_[y0 * step : y1 * step, x0 * step : x1 * step]
        light, made = self.light[here], self.made[y0:y1, x0:x1]
        if cv2.countNonZero(made) < made.size:
            made.fill(1)
            # and the pixels around it, which its outermost are interpolated with
            left, top = max(0, x0 - 1), max(0, y0 - 1)
            field = self.field[top : y1 + 1, left : x1 + 1] - np.float32(self.grey)
            if step > 1:
                size = (field.shape[1] * step, field.shape[0] * step)
                field = cast("Light", cv2.resize(field, size, interpolation=cv2.INTER_LINEAR))
            field = field[(y0 - top) * step :, (x0 - left) * step :]
            cv2.subtract(self.pixels[here], field[: light.shape[0], : light.shape[1]], light, dtype=cv2.CV_32F)
        return light


class Memory:
    """Arrays kept from image to image: fetching memory anew costs as much as filling it."""

    def __init__(self) -> None:
        self._kept: dict[str, Light] = {}

    def of(self, name: str, shape: tuple[int, ...]) -> Light:
        """The float32 array of that name and `shape`, contents undefined."""
        kept = self._kept.get(name)
        if kept is None or kept.shape != shape:
            kept = self._kept[name] = np.empty(shape, np.float32)
        return kept


def still_of(pixels: Pixels, um_per_px: float, memory: Memory) -> Still:
    """Part one image (height, width), uint8 or uint16, into what is in the field and the empty field.

    The result lies in `memory` and holds until the next call with the same.
    """
    step = max(1, round(COARSE_UM / um_per_px))
    height, width = pixels.shape
    more = (-height % step, -width % step)
    whole = cv2.copyMakeBorder(pixels, 0, more[0], 0, more[1], cv2.BORDER_REPLICATE) if any(more) else pixels
    size = (whole.shape[1] // step, whole.shape[0] // step)
    small = cast("Pixels", cv2.resize(whole, size, interpolation=cv2.INTER_AREA))
    noise = noise_sd(small)
    blocks = empty_field(small, max(2, round(BLOCK_UM / um_per_px / step)), noise)
    field, coarse = memory.of("field", small.shape), memory.of("coarse", small.shape)
    cv2.resize(blocks, size, field, interpolation=cv2.INTER_LINEAR)
    cv2.subtract(small, field, coarse, dtype=cv2.CV_32F)
    light, made = memory.of("light", pixels.shape), np.zeros(small.shape, np.uint8)
    return Still(coarse, step, noise, light, mid_grey(pixels.dtype), pixels, field, float(blocks.mean()), made)


def noise_sd(light: Pixels | Light) -> float:
    """Standard deviation of the noise of `light` (height, width), in its counts, at least `LEAST_NOISE`.

    From second differences along stretches of some rows: the calmest fifth of the stretches, where no cells lie, tell.
    """
    rows = light[:: max(1, light.shape[0] // 64)].astype(np.float32)
    if rows.shape[1] < 3:
        return LEAST_NOISE
    change = rows[:, 1:-1] + rows[:, 1:-1]
    change -= rows[:, :-2]
    change -= rows[:, 2:]
    np.abs(change, out=change)
    length = min(STRETCH_PX, change.shape[1])
    one = np.full(length, 1 / length, np.float32)
    stretches = change[:, : change.shape[1] // length * length].reshape(-1, length) @ one
    calm = float(np.partition(stretches, len(stretches) // 5)[len(stretches) // 5])
    return max(LEAST_NOISE, calm / CALMEST * math.sqrt(np.pi / 2 / 6))


def empty_field(seen: Pixels | Light, edge: int, noise: float) -> Light:
    """The illumination of `seen`, one value for each block of about `edge` pixels, float32."""
    height, width = seen.shape
    small = min(height, width) < FEWEST * edge
    edge = min(edge, max(4, min(height, width) // FEWEST))
    blocks = (max(1, round(width / edge)), max(1, round(height / edge)))
    every_second = seen[::2].astype(np.float32)  # enough for a mean over a block
    mean = _block_mean(every_second, blocks)
    every_second *= every_second
    squared = _block_mean(every_second, blocks)
    spread = np.sqrt(np.maximum(squared - mean * mean, 0.0))
    # where the illumination is steep, every block shows more than noise: the calmest fifth tell how much
    calm = max(2.0 * noise, 1.5 * float(np.partition(spread, spread.size // 5, axis=None)[spread.size // 5]))
    empty = (spread <= calm).astype(np.float32)
    if not empty.any():
        return np.full_like(mean, float(np.median(mean)))
    if small:  # one cell may fill most of it: too little is empty to tell a slope from
        return np.full_like(mean, float(np.median(mean[empty > 0])))
    # slope and vignette first: an average of surroundings that end at the image's border would be off there
    waves = _quadratic(*mean.shape)
    weighted = waves * empty.ravel()
    surface = np.linalg.lstsq(weighted @ waves.T, weighted @ mean.ravel(), rcond=1e-6)[0] @ waves
    field = surface.reshape(mean.shape).astype(np.float32)
    rest = (mean - field) * empty
    local, unknown = np.zeros_like(mean), np.ones(mean.shape, bool)
    for across in AROUND:
        weight = cv2.blur(empty, (across, across), borderType=cv2.BORDER_CONSTANT)
        near = cv2.blur(rest, (across, across), borderType=cv2.BORDER_CONSTANT)
        known = weight > 0.5 / across**2
        np.divide(near, weight, out=local, where=known & unknown)
        unknown &= ~known
        if not unknown.any():
            break
    return field + local


@lru_cache(maxsize=8)
def _quadratic(rows: int, columns: int) -> NDArray[np.float64]:
    """1, x, y, x², xy, y² on a grid, x and y from -1 to 1: (6, rows · columns)."""
    y, x = (axis.ravel() for axis in np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij"))
    return np.stack((np.ones_like(x), x, y, x * x, x * y, y * y))


def _block_mean(image: Light, blocks: tuple[int, int]) -> Light:
    # halving is quick, so most of the way goes by that; the up to three pixels beyond it are left out
    height, width = image.shape
    if min(height, width) >= 4:
        image = image[: height // 4 * 4, : width // 4 * 4]
        for part in (2, 4):
            size = (width // 4 * 4 // part, height // 4 * 4 // part)
            image = cast("Light", cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    return cast("Light", cv2.resize(image, blocks, interpolation=cv2.INTER_AREA))
