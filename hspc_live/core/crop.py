"""The one crop geometry: how a cell becomes the square picture that every classifier sees.

Segmentation, training, evaluation and every engine use these functions and no others, so a crop made in the lab years
ago and one made live are the same pixels. A crop is `size_px` × `size_px` at the *model's* scale, centred on the
cell, cut from the frame minus its background (the illumination's slope and fixed dirt go, the cell's light stays)
around mid-grey, in the camera's own dtype. Normalisation is separate (`normalise`), because engines do it inside
their own graph.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.values import Pixels

Light = NDArray[np.float32]
Picture = TypeVar("Picture", bound=NDArray[Any])


@dataclass(frozen=True, slots=True)
class CropGeometry:
    """Edge length in pixels and scale of a crop. A model's card carries the one it was trained on."""

    size_px: int = 64
    um_per_px: float = 0.25

    @property
    def width_um(self) -> float:
        """Edge length of the crop in micrometres."""
        return self.size_px * self.um_per_px


def mid_grey(dtype: np.dtype[Any]) -> int:
    """The value a background pixel gets in a crop: half the dtype's range."""
    return int(1 << (8 * dtype.itemsize - 1))


def fits(x_px: float, y_px: float, shape: tuple[int, int], um_per_px: float, geometry: CropGeometry) -> bool:
    """Whether a crop centred on pixel (x_px, y_px) lies wholly inside a frame of `shape` (height, width)."""
    half = geometry.width_um / um_per_px / 2
    height, width = shape
    return half - 0.5 <= x_px <= width - 0.5 - half and half - 0.5 <= y_px <= height - 0.5 - half


def light_of(pixels: Pixels, background: Pixels | None) -> Light:
    """What crops are cut from: `pixels` minus `background` around mid-grey, float32, exact.

    `background` is of the same shape and dtype, or None for a picture that has none (then the raw light stays).
    """
    if background is None:
        return pixels.astype(np.float32)
    light = cv2.addWeighted(pixels, 1.0, background, -1.0, mid_grey(pixels.dtype), dtype=cv2.CV_32F)
    return cast("Light", light)


def cut(
    pixels: Pixels,
    background: Pixels | None,
    x_px: float,
    y_px: float,
    um_per_px: float,
    geometry: CropGeometry,
) -> Pixels:
    """Cut one crop, (S, S) in the dtype of `pixels`.

    `pixels` is a frame (height, width) of scale `um_per_px`, `background` as for `light_of`. Where the crop leaves the
    frame the edge is mirrored; ask `fits` first. Camera pixels are averaged when the model's pixels are larger,
    interpolated bilinearly otherwise.
    """
    x0, y0, size = _reach(x_px, y_px, um_per_px, geometry)
    still = None if background is None else _window(background, x0, y0, size)
    light = light_of(_window(pixels, x0, y0, size), still)
    (crop,) = cut_all(light, [(x_px - x0, y_px - y0)], um_per_px, geometry, pixels.dtype)
    return cast("Pixels", crop)


def cut_all(
    light: Light,
    centres: Sequence[tuple[float, float]],
    um_per_px: float,
    geometry: CropGeometry,
    dtype: np.dtype[Any],
) -> Pixels:
    """The crops around all `centres` (x, y) of one frame's light: (n, S, S) in `dtype`, each as `cut` makes it."""
    scale = geometry.um_per_px / um_per_px
    edge = geometry.size_px
    crops = np.empty((len(centres), edge, edge), np.float32)
    if not centres:
        return cast("Pixels", crops.astype(dtype))
    # crop pixel (i, j) has its centre at x_px + (j - (S - 1) / 2) * scale
    first = -(edge - 1) / 2 * scale
    for crop, (x_px, y_px) in zip(crops, centres, strict=True):
        x0, y0, size = _reach(x_px, y_px, um_per_px, geometry)
        patch = _window(light, x0, y0, size)
        if scale > 1.0:  # minification: a small Gaussian first, or fine texture would alias
            patch = cast("Light", cv2.GaussianBlur(patch, (0, 0), 0.5 * (scale * scale - 1.0) ** 0.5 + 1e-3))
        cv2.warpAffine(
            patch,
            np.array([[scale, 0.0, x_px - x0 + first], [0.0, scale, y_px - y0 + first]], dtype=np.float64),
            (edge, edge),
            dst=crop,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
    # OpenCV's change of type rounds and clips in one step, for all crops at once
    depth = cv2.CV_8U if dtype == np.uint8 else cv2.CV_16U
    flat = crops.reshape(-1, edge)
    return cast("Pixels", cv2.addWeighted(flat, 1.0, flat, 0.0, 0.0, dtype=depth).reshape(crops.shape))


def _reach(x_px: float, y_px: float, um_per_px: float, geometry: CropGeometry) -> tuple[int, int, int]:
    """The camera pixels that a crop is made of: their upper left corner (x0, y0) and the size of the square."""
    margin = math.ceil(geometry.width_um / um_per_px / 2) + 2
    return math.floor(x_px) - margin, math.floor(y_px) - margin, 2 * margin + 1


def _window(image: Picture, x0: int, y0: int, size: int) -> Picture:
    """A size × size cut-out with its corner at (x0, y0); outside the image the edge is mirrored."""
    height, width = image.shape
    if x0 >= 0 and y0 >= 0 and x0 + size <= width and y0 + size <= height:
        return cast("Picture", image[y0 : y0 + size, x0 : x0 + size])
    xs = _mirror(np.arange(x0, x0 + size), width)
    ys = _mirror(np.arange(y0, y0 + size), height)
    return cast("Picture", image[np.ix_(ys, xs)])


def _mirror(index: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    """Indices reflected at 0 and length - 1 (without repeating the edge)."""
    if length == 1:
        return np.zeros_like(index)
    period = 2 * (length - 1)
    folded = np.abs(index) % period
    return cast("NDArray[np.intp]", np.where(folded >= length, period - folded, folded))


def normalise(crops: Any) -> Any:
    """Each crop to mean 0 and standard deviation 1, over its last two axes; float in, float out.

    Written with operations that NumPy arrays and torch tensors share, so that an engine's graph and the training set
    run this very function. A flat crop becomes zeros. Gain and offset of the camera cancel.
    """
    centred = crops - crops.mean(axis=(-2, -1), keepdims=True)
    variance = (centred * centred).mean(axis=(-2, -1), keepdims=True)
    return centred / (variance + 1e-3) ** 0.5
