"""Which contrast an image was made with, read off its cells.

DIC shows the slope of the light path: what is bright on one flank of a cell is dark on the other, so a cell turned by
half a turn is its own negative. Brightfield shows rings: turned, they are themselves. A cell is turned about each place
near its middle, and how much it is like itself at best is held against how much it is like its negative at best; size,
texture, shear direction, gain and offset play no part. Dust looks alike in both, so where there are cells only they
count, each by the fine detail it shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from hspc_live.core.values import Modality, Pixels
from hspc_live.stages.field import FieldResult, Reason

SURE = 0.2  # symmetry, either way: cells of real and made DIC fields lie below -0.28, of brightfield above 0.22
FEWEST = 5  # objects of one size that tell where none of them is a cell in DIC: dark all through, they may absorb
ABOUT = 0.12  # of a box's edge: how far from its middle the place lies that a cell is turned about
RIM_PX = 3


@dataclass(frozen=True, slots=True)
class Told:
    """The contrast that an image was probably made with, and whether the image leaves no doubt of it."""

    modality: Modality
    sure: bool


def told_by(pixels: Pixels, result: FieldResult) -> Told:
    """The contrast of an image (height, width), `result` having been made of it as DIC; DIC where nothing tells."""
    value, told = _symmetry(pixels, result)
    modality = Modality.BRIGHTFIELD if value > 0 else Modality.DIC
    return Told(modality, told and abs(value) > SURE)


def modality_of(pixels: Pixels, result: FieldResult) -> Modality:
    """DIC or brightfield; DIC where nothing tells."""
    return told_by(pixels, result).modality


def _symmetry(pixels: Pixels, result: FieldResult) -> tuple[float, bool]:
    """About -1 (each cell its own negative) to 1.6 (itself), and whether enough objects speak for it."""
    cells = bool(result.whole.any())
    rows = result.frame.objects
    if cells:
        rows = rows[result.whole]
    else:
        rows = rows[np.array([reason is not Reason.BORDER for reason in result.reasons], bool)]
        rows = rows[rows["diameter_um"] > rows["diameter_um"].max(initial=0.0) / 2]
    if not len(rows):
        return 0.0, False
    grey = np.float32(np.median(pixels[::4, ::4]))
    values, weights = np.empty(len(rows)), np.empty(len(rows))
    for i, row in enumerate(rows):
        x0, y0, x1, y1 = (int(row[name]) for name in ("x0_px", "y0_px", "x1_px", "y1_px"))
        box = pixels[max(0, y0 - RIM_PX) : y1 + RIM_PX, max(0, x0 - RIM_PX) : x1 + RIM_PX]
        seen = cv2.blur(box.astype(np.float32), (3, 3))
        wide = max(3, min(seen.shape) // 3 | 1)
        weights[i] = np.linalg.norm(seen - cv2.blur(seen, (wide, wide)))  # a soft shadow has none of this
        values[i] = _like_itself(seen - grey)
    total = float(weights.sum())
    mean = float(values @ weights) / total if total > 0 else 0.0
    return mean, cells or len(rows) >= FEWEST


def _like_itself(seen: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> float:
    """The highest correlation of an object with itself turned about a place near its middle, and the lowest, added."""
    height, width = seen.shape
    spectrum = np.fft.rfft2(seen, (2 * height, 2 * width))
    turned = np.fft.irfft2(spectrum * spectrum, (2 * height, 2 * width))  # at (y, x): turned about (y / 2, x / 2)
    high, wide = max(1, round(2 * ABOUT * height)), max(1, round(2 * ABOUT * width))
    near = turned[max(0, height - 1 - high) : height + high, max(0, width - 1 - wide) : width + wide]
    energy = float((seen * seen).sum())
    return float(near.max() + near.min()) / energy if energy > 0 else 0.0
