"""Phase objects, and their optical path length: what the microscope sees of them.

A globe is a nearly spherical body with an ellipsoid nucleus in it and small blobs, each with a refractive-index
contrast to what is around it. The path length is the integral of that contrast along the light (µm), blurred by the
objective; bodies are integrated in closed form, blobs are Gaussians and stay so under the blur.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.twin.optics import FINE_UM, Image, Optics

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Globe:
    """One body. `centre_um` (3,) is relative to the object's; `outline` are Fourier coefficients (2, 4) of orders 2-5.

    `nucleus` is its centre (3,) relative to the globe's, `nucleus_form` (3, 3) the matrix A of xᵀAx = 1. `blobs` is
    (n, 5): x, y, z (µm from the globe's centre), peak path length (µm), width (standard deviation, µm).
    """

    centre_um: Vector
    radius_um: float
    contrast: float
    outline: Vector
    nucleus: Vector
    nucleus_form: Vector | None
    nucleus_contrast: float
    blobs: Vector


@dataclass(frozen=True, slots=True, eq=False)
class PhaseObject:
    """One thing in the channel. `members` counts LT-HSC, ST-HSC and MPP in it; `diameter_um` is that of a single body,
    or of the circle round a doublet or cluster.
    """

    kind: str
    globes: tuple[Globe, ...]
    diameter_um: float
    members: tuple[int, int, int]


@lru_cache(maxsize=32)
def _grid(size: int) -> tuple[NDArray[np.float32], Image, NDArray[np.float32]]:
    """Axis (size,), squared radius (size, size) and the outline's harmonics (8, size²), all about the middle, in µm."""
    axis = ((np.arange(size) - (size - 1) / 2) * FINE_UM).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    angle = np.arctan2(y, x)
    waves = [f(m * angle).ravel() for f in (np.cos, np.sin) for m in range(2, 6)]
    return axis, (x * x + y * y), np.stack(waves).astype(np.float32)


def path_length(thing: PhaseObject, optics: Optics, defocus_um: float) -> Image:
    """Optical path length (µm) of `thing` against the medium, blurred by the objective, on the fine grid.

    The square float32 map is centred on the object and just large enough for it. `defocus_um` is the height of the
    object's centre over the plane of focus; each blob is blurred by its own distance from that plane.
    """
    width = float(optics.psf_width_um(defocus_um))
    reach = max(float(np.abs(g.centre_um[:2]).max()) + 1.15 * g.radius_um for g in thing.globes) + 3 * width + 0.5
    size = 2 * int(np.ceil(reach / FINE_UM / 4)) * 4 + 1  # few sizes, so that the grids are found in the cache
    total = np.zeros((size, size), np.float32)
    for globe in thing.globes:
        _add_body(total, globe)
    sigma = width / FINE_UM
    reach_px = 2 * int(np.ceil(3 * sigma)) + 1
    total = np.asarray(cv2.GaussianBlur(total, (reach_px, reach_px), sigma, borderType=cv2.BORDER_REPLICATE))
    blobs = [g.blobs + np.array([*g.centre_um, 0.0, 0.0]) for g in thing.globes]
    return _add_blobs(total, np.concatenate(blobs), optics, defocus_um)


def _add_body(total: Image, globe: Globe) -> None:
    """Add body and nucleus, unblurred, to the map; the globe's centre goes to the nearest fine pixel."""
    size = total.shape[0]
    dx, dy = (round(float(c) / FINE_UM) for c in globe.centre_um[:2])
    half = min(int(np.ceil(1.15 * globe.radius_um / FINE_UM / 4)) * 4, (size - 1) // 2 - max(abs(dx), abs(dy)))
    axis, squared, waves = _grid(2 * half + 1)
    edge = (globe.outline.ravel().astype(np.float32) @ waves).reshape(squared.shape)
    edge += 1.0
    edge *= np.float32(globe.radius_um)
    edge *= edge
    # a sphere whose every meridian is stretched to its own radius: the height over the middle stays single-valued
    np.divide(squared, edge, out=edge)
    np.subtract(1.0, edge, out=edge)
    np.maximum(edge, 0.0, out=edge)
    body = np.sqrt(edge, out=edge)
    body *= np.float32(2 * globe.contrast * globe.radius_um)
    if globe.nucleus_form is not None:
        body += np.float32(globe.nucleus_contrast) * _chord(globe.nucleus_form, globe.nucleus, axis)
    x0, y0 = (size - 1) // 2 + dx - half, (size - 1) // 2 + dy - half
    total[y0 : y0 + 2 * half + 1, x0 : x0 + 2 * half + 1] += body


def _chord(form: Vector, centre: Vector, axis: NDArray[np.float32]) -> Image:
    """Length (µm) of a light ray inside the ellipsoid (r - c)ᵀ form (r - c) = 1, for every pixel."""
    across = form[:2, :2] - np.outer(form[:2, 2], form[2, :2]) / form[2, 2]
    x = axis - np.float32(centre[0])
    y = (axis - np.float32(centre[1]))[:, None]
    inside = 1.0 - (
        np.float32(across[0, 0]) * x * x + (np.float32(2 * across[0, 1]) * y) * x + np.float32(across[1, 1]) * y * y
    )
    np.maximum(inside, 0.0, out=inside)
    return np.asarray(np.sqrt(inside) * np.float32(2 / np.sqrt(form[2, 2])), np.float32)


def _add_blobs(total: Image, blobs: Vector, optics: Optics, defocus_um: float) -> Image:
    """Add blurred blobs: a Gaussian stays one under a Gaussian blur, so all of them are one product of matrices."""
    if not len(blobs):
        return total
    axis, _, _ = _grid(total.shape[0])
    blur = optics.psf_width_um(blobs[:, 2] + defocus_um) ** 2
    own = blobs[:, 4] ** 2
    peak = (blobs[:, 3] * own / (own + blur)).astype(np.float32)
    steep = (0.5 / (own + blur)).astype(np.float32)[:, None]
    in_x = np.exp(-steep * (axis - blobs[:, :1].astype(np.float32)) ** 2)
    in_y = np.exp(-steep * (axis - blobs[:, 1:2].astype(np.float32)) ** 2)
    in_y *= peak[:, None]
    total += in_y.T @ in_x
    return total
