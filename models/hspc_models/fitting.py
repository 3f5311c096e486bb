"""Crops of another size or scale than a model's: brought to its geometry, or refused, and said which."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from hspc_live.core.crop import CropGeometry, cut
from hspc_live.core.errors import RecordingError
from hspc_live.core.values import Pixels
from hspc_models.dataset import LabelledCrops

_SAME_SCALE = 0.01
_LEAST_SEEN = 0.75
"""Share of the model's crop that the given ones must show; the rest is mirrored, and more would be made up."""


def fitted(crops: LabelledCrops, geometry: CropGeometry) -> tuple[LabelledCrops, str]:
    """The crops as the model wants them, and what was done to them in words (nothing: empty).

    Crops whose scale is known are resampled to the model's; those whose scale is not are taken to have it. Then the
    middle is cut out, or the edge mirrored. Raises RecordingError where too little of the cell's surroundings is seen.
    """
    size = crops.images.shape[1]
    scale = crops.um_per_px if crops.scaled else geometry.um_per_px
    same = abs(scale / geometry.um_per_px - 1) <= _SAME_SCALE
    if same and size == geometry.size_px:
        return replace(crops, um_per_px=geometry.um_per_px), ""
    seen = size * scale / geometry.width_um
    want = f"{geometry.size_px} × {geometry.size_px} px of {geometry.um_per_px:g} µm"
    has = f"{size} × {size} px of {f'{scale:g} µm' if crops.scaled else 'unknown scale'}"
    if seen < _LEAST_SEEN:
        raise RecordingError(
            f"{crops.provenance}: crops are {has}, which shows {seen:.0%} of the model's {want}; cut them larger, or "
            "train with a smaller crop_px"
        )
    middle = (size - 1) / 2
    if same and (size - geometry.size_px) % 2:
        middle += 0.5  # whole pixels: half a pixel beside the middle harms less than smoothing
    images = [cut(image, None, middle, middle, 1.0 if same else scale, _at(geometry, same)) for image in crops.images]
    done = "cut to the middle" if same else "resampled"
    text = f"crops of {has} {done if seen >= 1 else done + ' and mirrored at the edge'}: {want}"
    return replace(crops, images=cast("Pixels", np.stack(images)), um_per_px=geometry.um_per_px), text


def _at(geometry: CropGeometry, same: bool) -> CropGeometry:
    """The geometry in pixels where the scale is the same: nothing is to be interpolated then."""
    return CropGeometry(geometry.size_px, 1.0) if same else geometry
