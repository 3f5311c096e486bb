"""Where the cell lies in a crop: its outline by the segmentation of the live path, against the crop's own corners."""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.crop import CropGeometry, Light
from hspc_live.core.values import Modality, Pixels
from hspc_live.settings.segment import SegmentSettings
from hspc_live.stages.foreground import Scale
from hspc_live.stages.segment import Segmenter
from hspc_live.stages.still import noise_sd

Masks = NDArray[np.bool_]

_CENTRAL: Final = 0.25  # a crop's cell has its centre within this share of the edge from the middle
_CORNER: Final = 6  # a corner's share of the edge, 1 in so many: what a disc that fills the crop leaves free
_AROUND_UM: Final = 3.0  # empty ground put around a crop, or gaps to its edge would be bridged
_FAINT: Final = (
    0.05  # of what a cell shows at most: what shows less is light that it bends, however little noise there is
)
_MAD_SD: Final = 1.4826  # standard deviations in a median absolute deviation


def cell_masks(images: Pixels, um_per_px: float, modality: Modality, settings: SegmentSettings) -> Masks:
    """The outline of the cell that each crop (n, S, S) is about: (n, S, S) bool, all False where none was found.

    The cell is the object nearest the middle. A neighbour that reaches into the crop is no part of it; one so near that
    the two cannot be told apart leaves an object too deformed for a cell, and so no outline.
    """
    edge = images.shape[-1]
    around = math.ceil(_AROUND_UM / um_per_px)
    geometry = CropGeometry(size_px=edge, um_per_px=um_per_px)
    segment = Segmenter(settings, um_per_px, modality, geometry, window_px=edge + 2 * around)
    smooth = Scale.of(um_per_px, modality).smooth_px
    masks = np.zeros(images.shape, bool)
    for mask, image in zip(masks, images, strict=True):
        ground, noise, strongest = _empty(image.astype(np.float32), smooth)
        noise = max(noise, _FAINT * strongest * smooth / settings.noise_factor)
        wide = np.pad(image, around, constant_values=round(ground))
        result = segment(0, 0, wide, np.full_like(wide, round(ground)), 0, noise)
        middle = (wide.shape[0] - 1) / 2 * um_per_px
        away = [math.hypot(row["x_um"] - middle, row["y_um"] - middle) for row in result.objects]
        if not away or min(away) > _CENTRAL * edge * um_per_px:
            continue
        nearest = int(np.argmin(away))
        if result.objects[nearest]["deformation"] <= settings.max_deformation:
            mask[:] = result.masks[nearest][around : around + edge, around : around + edge] > 0
    return masks


def _empty(light: Light, smooth_px: int) -> tuple[float, float, float]:
    """Grey and noise of the empty field, from the corners, which a round cell leaves free; how much the crop shows.

    Resampling and the illumination's slope leave neighbouring pixels alike, so that a mean over some of them varies
    more than that of white noise, which the segmentation reckons with: the noise stated is that of white noise whose
    mean varies as much. Medians, as a neighbour may reach into a corner.
    """
    smooth = cv2.boxFilter(light, -1, (smooth_px, smooth_px), borderType=cv2.BORDER_REFLECT_101)
    size = max(smooth_px, light.shape[0] // _CORNER)
    ends = (slice(None, size), slice(-size, None))
    corners = np.stack([smooth[rows, columns] for rows in ends for columns in ends])
    ground = np.median(corners, axis=(1, 2))
    spread = _MAD_SD * float(np.median(np.abs(corners - ground[:, None, None])))
    grey = float(np.median(ground))
    return grey, max(noise_sd(light), spread * smooth_px), float(np.quantile(np.abs(smooth - grey), 0.99))
