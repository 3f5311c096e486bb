"""From optical path length to light: the microscope of the twin.

A cell is a phase object: it delays the light by an optical path length (µm, thickness × refractive-index contrast),
known here on a fine square grid. The objective blurs the field; for weak phases that is a blur of the phase itself, so
the point spread acts on the path length, and widens with defocus like a Gaussian beam (Saleh & Teich, Fundamentals of
Photonics, ch. 3: σ(z) = σ0·sqrt(1 + (z/z_R)²), z_R = 4π·n·σ0²/λ). Two contrasts:

- DIC: I/I0 = sin²((bias + Δφ)/2) + extinction, Δφ the phase difference of two points one shear apart (Preza, Snyder
  & Conchello 1999, J. Opt. Soc. Am. A 16:2185; Arnison et al. 2004, J. Microsc. 214:7).
- Brightfield: the transport-of-intensity equation to first order, I/I0 = 1 - z·∇²(path length) (Teague 1983, J. Opt.
  Soc. Am. 73:1434), times the absorption of the cell's matter.

Everything is returned relative to the empty field, so that it can be multiplied into any illumination.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.values import Modality
from hspc_live.settings.twin import TwinScene

FINE_UM = 0.125  # pitch of the grid on which path lengths live; half of a usual camera pixel
WAVELENGTH_UM = 0.55
MEDIUM_INDEX = 1.337
EXTINCTION = 0.02  # light that crossed polarisers let through: keeps dark flanks from being black

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Optics:
    """The imaging side of the settings. Lengths in µm; angles in degrees, clockwise from +x as y points down."""

    modality: Modality
    shear_axis_deg: float
    shear_um: float
    bias_rad: float
    psf_sigma_um: float
    brightfield_defocus_um: float
    absorption_per_um: float
    um_per_px: float

    @classmethod
    def of(cls, settings: TwinScene) -> Optics:
        """The optics that `settings` describe."""
        return cls(
            Modality(settings.modality),
            settings.shear_axis_deg,
            settings.shear_um,
            settings.bias_rad,
            settings.psf_sigma_um,
            settings.brightfield_defocus_um,
            settings.absorption_per_um,
            settings.um_per_px,
        )

    def psf_width_um(self, defocus_um: Any) -> Any:
        """Standard deviation (µm) of the point spread at `defocus_um` (scalar or array) from focus."""
        rayleigh = 4 * np.pi * MEDIUM_INDEX * self.psf_sigma_um**2 / WAVELENGTH_UM
        return self.psf_sigma_um * np.sqrt(1.0 + (np.asarray(defocus_um) / rayleigh) ** 2)

    def contrast(self, path_um: Image, defocus_um: float, motion_um: float = 0.0) -> Image:
        """Light relative to the empty field (1 = empty) on the fine grid, averaged over a camera pixel.

        `path_um` is the blurred path length on the fine grid; `motion_um` how far the object moves along +x while the
        shutter is open.
        """
        match self.modality:
            case Modality.DIC:
                light = self._dic(path_um)
            case Modality.BRIGHTFIELD:
                light = self._brightfield(path_um, defocus_um)
        return self.over_pixels(light, motion_um)

    def over_pixels(self, light: Image, motion_um: float = 0.0) -> Image:
        """`light` on the fine grid averaged over a camera pixel, and over a way of `motion_um` along +x."""
        pixel = _box(self.um_per_px / FINE_UM)
        along = np.convolve(pixel, _box(motion_um / FINE_UM)).astype(np.float32)
        return as_image(cv2.sepFilter2D(light, cv2.CV_32F, along, pixel, borderType=cv2.BORDER_REPLICATE))

    def _dic(self, path_um: Image) -> Image:
        angle = np.deg2rad(self.shear_axis_deg)
        half = self.shear_um / FINE_UM / 2
        difference = shifted(path_um, half * np.cos(angle), half * np.sin(angle))
        difference -= shifted(path_um, -half * np.cos(angle), -half * np.sin(angle))
        difference *= np.float32(np.pi / WAVELENGTH_UM)  # half the phase, as the sine wants it
        difference += np.float32(self.bias_rad / 2)
        light = np.sin(difference, out=difference)
        light *= light
        light += np.float32(EXTINCTION)
        light /= np.float32(np.sin(self.bias_rad / 2) ** 2 + EXTINCTION)
        return light

    def _brightfield(self, path_um: Image, defocus_um: float) -> Image:
        # First order in z holds near focus only; farther out the widening point spread takes the contrast away anyway.
        z = float(np.clip(self.brightfield_defocus_um + defocus_um, -4.0, 4.0))
        curvature = cv2.Laplacian(path_um, cv2.CV_32F, ksize=1) * np.float32(1 / FINE_UM**2)
        light = np.maximum(1.0 - np.float32(z) * curvature, np.float32(0.05))
        light *= np.exp(np.float32(-self.absorption_per_um) * path_um)
        return as_image(light)


def place(contrast: Image, x_px: float, y_px: float, um_per_px: float, empty: float = 1.0) -> tuple[Image, int, int]:
    """Bring a fine-grid picture to camera pixels, its centre at the sub-pixel position (x_px, y_px).

    Returns the patch (`empty` beyond the picture: 1 for a contrast, 0 for emitted light) and the frame's pixel (x0, y0)
    that its corner covers; it may lie outside.
    """
    scale = um_per_px / FINE_UM
    size = contrast.shape[0]
    half = int(np.ceil(size / scale / 2)) + 1
    x0, y0 = int(np.floor(x_px)) - half, int(np.floor(y_px)) - half
    middle = (size - 1) / 2
    matrix = np.array(
        [[scale, 0.0, middle - (x_px - x0) * scale], [0.0, scale, middle - (y_px - y0) * scale]], dtype=np.float64
    )
    patch = cv2.warpAffine(
        contrast,
        matrix,
        (2 * half + 1, 2 * half + 1),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(empty,),
    )
    return as_image(patch), x0, y0


def multiply(light: Image, patch: Image, x0: int, y0: int) -> None:
    """Multiply the part of `patch` that lies inside the frame into `light`, its corner at (x0, y0)."""
    here, there = _overlap(light, patch, x0, y0)
    light[here] *= patch[there]


def add(light: Image, patch: Image, x0: int, y0: int) -> None:
    """Add the part of `patch` that lies inside the frame to `light`, its corner at (x0, y0)."""
    here, there = _overlap(light, patch, x0, y0)
    light[here] += patch[there]


def _overlap(light: Image, patch: Image, x0: int, y0: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a patch with its corner at (x0, y0) meets the frame: the part of the frame, and that of the patch."""
    height, width = light.shape
    left, top = max(0, x0), max(0, y0)
    right, bottom = max(left, min(width, x0 + patch.shape[1])), max(top, min(height, y0 + patch.shape[0]))
    here = slice(top, bottom), slice(left, right)
    return here, (slice(top - y0, bottom - y0), slice(left - x0, right - x0))


def shifted(image: Image, dx: float, dy: float) -> Image:
    """`image` sampled at (x + dx, y + dy), bilinear."""
    matrix = np.array([[1.0, 0.0, dx], [0.0, 1.0, dy]], dtype=np.float64)
    out = cv2.warpAffine(
        image,
        matrix,
        (image.shape[1], image.shape[0]),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return as_image(out)


def as_image(array: NDArray[Any]) -> Image:
    """What OpenCV returns, as the float32 it is (its type hints say: any number)."""
    return array.astype(np.float32, copy=False)


def _box(length: float) -> NDArray[np.float32]:
    """An odd averaging kernel as wide as `length` samples, the ends weighted by what of them is covered."""
    reach = int(np.ceil(max(0.0, (length - 1) / 2)))
    at = np.arange(-reach, reach + 1)
    weight = np.clip(length / 2 - (np.abs(at) - 0.5), 0.0, 1.0) if length > 1 else (at == 0).astype(float)
    kernel: NDArray[np.float32] = (weight / weight.sum()).astype(np.float32)
    return kernel
