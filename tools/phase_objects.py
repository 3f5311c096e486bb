"""Cells, debris and fibres as phase objects, and their picture by wave optics: what `field_films.py` makes fields of.

A cell is a phase map of any outline: a star-shaped body of Fourier harmonics with nucleus, granules, vacuoles, blebs
and a crenated edge. Its complex field goes through a pupil of finite aperture and defocus for several tilts of the
light, whose intensities add (Abbe; Goodman, Introduction to Fourier Optics, ch. 7). In DIC two sheared copies with a
bias between them interfere (Preza et al. 1999, J. Opt. Soc. Am. A 16:2185), which multiplies the spectrum by
sin(bias / 2 + π f·shear).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

Floats = NDArray[np.float32]
Range = tuple[float, float]
PITCH_UM = 0.14  # light is propagated on a grid at least as fine: below λ / 4 NA
MARGIN_UM = 7.0  # around an object, where its fringes die out
MEDIUM_INDEX = 1.336


@dataclass(frozen=True, slots=True)
class Look:
    """What cells look like; each draws its own values from the ranges."""

    diameter_um: Range = (11.0, 16.0)
    index: Range = (0.018, 0.03)  # refractive index above the medium's
    rough: Range = (0.1, 0.3)  # granules, radians
    harmonics: Range = (0.0, 0.05)  # of the outline: how far from a disc
    crenated: float = 0.3  # share of cells with a spiky or blebbing edge
    vacuoles: int = 0
    lobes: bool = False  # of the nucleus
    flat: Range = (0.55, 0.95)  # height over diameter


@dataclass(slots=True, eq=False)
class Optics:
    """The microscope of one field."""

    um_per_px: float
    dic: bool
    aperture: float
    condenser: float
    wavelength_um: float
    shear_um: tuple[float, float]
    bias: float
    defocus_um: float


@dataclass(slots=True, eq=False)
class Patch:
    """Objects imaged together, on a fine grid: phase (radians), absorption (of the amplitude), owners (0 = none)."""

    x: Floats
    y: Floats
    phase: Floats
    loss: Floats
    owner: NDArray[np.uint8]
    pixels: int  # its edge, in camera pixels
    fine: int  # grid points a camera pixel

    @staticmethod
    def of(across_um: float, um_per_px: float) -> Patch:
        """An empty patch for objects up to `across_um` across."""
        fine = int(np.ceil(um_per_px / PITCH_UM))
        pixels = int(np.ceil((across_um + 2 * MARGIN_UM) / um_per_px / 2)) * 2
        axis = ((np.arange(pixels * fine) + 0.5) / fine - pixels / 2) * um_per_px
        x, y = np.meshgrid(axis.astype(np.float32), axis.astype(np.float32))
        return Patch(x, y, np.zeros_like(x), np.zeros_like(x), np.zeros(x.shape, np.uint8), pixels, fine)


def cells(rng: np.random.Generator, look: Look, size: int, optics: Optics) -> Patch:
    """One cell, or `size` touching ones in a chain."""
    radii = rng.uniform(*look.diameter_um, size) / 2
    if size > 1:
        radii = radii.mean() + 0.6 * (radii - radii.mean())
    x, y = [0.0], [0.0]
    heading = rng.uniform(0, 2 * np.pi)
    for i in range(1, size):
        apart = (radii[i - 1] + radii[i]) * rng.uniform(0.9, 1.0)
        x.append(x[-1] + apart * np.cos(heading))
        y.append(y[-1] + apart * np.sin(heading))
        heading += rng.uniform(-0.9, 0.9)
    xs, ys = np.array(x) - np.mean(x), np.array(y) - np.mean(y)
    patch = Patch.of(2 * float((np.hypot(xs, ys) + 1.25 * radii).max()), optics.um_per_px)
    nearest = np.full(patch.x.shape, np.inf, np.float32)
    for i in range(size):  # where two would overlap they press against each other, along a chord
        dx, dy = patch.x - np.float32(xs[i]), patch.y - np.float32(ys[i])
        phase, inside = _body(rng, look, dx, dy, float(radii[i]), optics.wavelength_um)
        power = dx * dx + dy * dy - radii[i] ** 2
        mine = inside & (power < nearest)
        nearest[mine] = power[mine]
        patch.phase[mine] = phase[mine]
        patch.owner[mine] = i + 1
    return patch


def _body(
    rng: np.random.Generator, look: Look, x: Floats, y: Floats, radius: float, wavelength: float
) -> tuple[Floats, NDArray[np.bool_]]:
    """Phase and outline of one cell around (0, 0) of the grids `x`, `y` (µm)."""
    distance, angle = np.hypot(x, y), np.arctan2(y, x)
    reach = np.ones_like(x)
    bent = rng.uniform(*look.harmonics)
    for k in range(2, 6):
        reach += np.float32(rng.normal(0, bent * 1.6 / k)) * np.cos(k * angle + np.float32(rng.uniform(0, 6.28)))
    spiky = rng.random() < look.crenated
    if spiky:
        for k in range(9, 30, 3):
            wave = np.cos(k * angle + np.float32(rng.uniform(0, 6.28)))
            reach += np.float32(rng.normal(0, 0.012)) * wave * np.clip(3 * distance / radius - 2, 0, 1)
    rho = np.minimum(distance / (radius * np.clip(reach, 0.5, 1.4)), 1.0)
    inside = rho < 1
    height = 2 * radius * rng.uniform(*look.flat)
    body = np.maximum(1 - rho**2, 0) ** np.float32(rng.uniform(0.45, 0.75))
    thick = (height * body).astype(np.float32)
    if spiky:  # blebs and microvilli, part of the cell's outline
        for _ in range(int(rng.integers(8, 30))):
            size, at = 0.35 + rng.gamma(1.5, 0.25), rng.uniform(0, 6.28)
            off = radius * rng.uniform(0.7, 1.0)
            near = size**2 - (x - off * np.cos(at)) ** 2 - (y - off * np.sin(at)) ** 2
            thick = np.maximum(thick, 0) + 1.6 * np.sqrt(np.maximum(near, 0)).astype(np.float32)
            inside |= near > 0
    turn = np.float32(2 * np.pi * rng.uniform(*look.index) / wavelength)
    phase = turn * thick
    soft = np.sqrt(body)
    for _ in range(int(rng.integers(2, 5)) if look.lobes else 1):  # nucleus
        size = radius * (rng.uniform(0.25, 0.4) if look.lobes else rng.uniform(0.45, 0.65))
        off, at = rng.uniform(0, 0.85) * (radius - size), rng.uniform(0, 6.28)
        far = ((x - off * np.cos(at)) ** 2 + (1 + rng.uniform(0, 0.5)) * (y - off * np.sin(at)) ** 2) / size**2
        dent = rng.choice([-0.12, 0.08, 0.15]) * phase.max()
        phase += np.float32(dent) * np.sqrt(np.maximum(1 - far, 0)).astype(np.float32) * soft
    step = float(x[0, 1] - x[0, 0])
    rough = rng.uniform(*look.rough)
    grain = np.zeros_like(phase)
    for size, share in ((0.25, 0.5), (0.5, 0.8), (1.2, 0.6)):  # granules, organelles, folds
        texture = cv2.GaussianBlur(rng.standard_normal(x.shape, np.float32), (0, 0), size / step)
        grain += np.float32(share / texture.std()) * texture
    phase += np.float32(rough) * grain * soft
    for _ in range(rng.poisson(look.vacuoles)):
        size, off, at = rng.uniform(0.6, 2.5), radius * np.sqrt(rng.uniform(0, 0.5)), rng.uniform(0, 6.28)
        near = size**2 - (x - off * np.cos(at)) ** 2 - (y - off * np.sin(at)) ** 2
        phase -= turn * np.float32(rng.choice([1.2, -1.5])) * np.sqrt(np.maximum(near, 0)).astype(np.float32)
    return phase.astype(np.float32), inside


def debris(rng: np.random.Generator, optics: Optics) -> Patch:
    """A dark speck, a shard, or a vesicle below the size of any cell."""
    patch = Patch.of(12.0, optics.um_per_px)
    angle, distance = np.arctan2(patch.y, patch.x), np.hypot(patch.x, patch.y)
    match str(rng.choice(["speck", "speck", "shard", "vesicle", "vesicle"])):
        case "speck":
            reach = rng.uniform(0.5, 2.4) * (1 + sum(
                rng.normal(0, 0.3 / k) * np.cos(k * angle + rng.uniform(0, 6.28)) for k in range(2, 6)))  # fmt: skip
            near = np.clip((reach - distance) / 0.4, 0, 1)
            patch.loss += (rng.uniform(0.4, 2.0) * near).astype(np.float32)
            patch.phase += (rng.uniform(0, 1.0) * near).astype(np.float32)
        case "shard":
            turn, long = rng.uniform(0, np.pi), rng.uniform(2, 6)
            along, across = (patch.x * np.cos(turn + a) + patch.y * np.sin(turn + a) for a in (0.0, np.pi / 2))
            shape = (np.abs(along) < long / 2) & (np.abs(across + 0.2 * along) < long / rng.uniform(4, 8))
            patch.phase += (rng.uniform(0.8, 2.5) * (1 + 0.2 * across) * shape).astype(np.float32)
        case _:
            size = rng.uniform(0.3, 1.5)
            near = np.sqrt(np.maximum(size**2 - distance**2, 0))
            patch.phase += (rng.uniform(0.2, 0.8) * near).astype(np.float32)
    return patch


def fibre(rng: np.random.Generator, optics: Optics) -> Patch:
    """A bent thread of 20 to 60 µm."""
    patch = Patch.of(60.0, optics.um_per_px)
    turn, bend = rng.uniform(0, 6.28), rng.normal(0, 0.012)
    along, across = (patch.x * np.cos(turn + a) + patch.y * np.sin(turn + a) for a in (0.0, np.pi / 2))
    long, wide = rng.uniform(20, 60), rng.uniform(0.5, 1.4)
    off = across - bend * along**2 - rng.uniform(0, 1.5) * np.sin(along / rng.uniform(4, 9))
    near = np.sqrt(np.maximum(wide**2 - off**2, 0)) * (np.abs(along) < long / 2)
    patch.phase += (rng.uniform(0.3, 1.2) * near).astype(np.float32)
    patch.loss += (rng.uniform(0, 0.4) * near).astype(np.float32)
    return patch


def imaged(patch: Patch, optics: Optics, defocus_um: float) -> Floats:
    """Light relative to the empty field, on the patch's grid."""
    n = len(patch.phase)
    f = fft.fftfreq(n, optics.um_per_px / patch.fine).astype(np.float32)
    fx, fy = f[None, :], f[:, None]
    spectrum = fft.fft2(np.exp(1j * patch.phase - patch.loss).astype(np.complex64))
    empty = 1.0
    if optics.dic:
        spectrum *= np.sin(optics.bias / 2 + np.pi * (fx * optics.shear_um[0] + fy * optics.shear_um[1]))
        empty = float(np.sin(optics.bias / 2)) ** 2
    tilts = [(0.0, 0.0), *((0.5, a) for a in np.arange(4) * 1.571), *((1.0, a + 0.4) for a in np.arange(7) * 0.8976)]
    total, cut = np.zeros((n, n), np.float32), (optics.aperture / optics.wavelength_um) ** 2
    z = optics.defocus_um + defocus_um
    for share, angle in tilts:  # a tilted plane wave shifts the pupil over the object's spectrum
        slant = share * optics.condenser * optics.aperture / optics.wavelength_um
        squared = (fx + slant * np.float32(np.cos(angle))) ** 2 + (fy + slant * np.float32(np.sin(angle))) ** 2
        axial = np.sqrt(np.maximum((MEDIUM_INDEX / optics.wavelength_um) ** 2 - squared, 0))
        pupil = np.where(squared <= cut, np.exp(np.complex64(2j * np.pi * z) * axial), 0)
        total += np.abs(fft.ifft2(spectrum * pupil)) ** 2
    ratio = total / np.float32(len(tilts) * empty)
    rim = np.minimum(np.minimum(patch.x - patch.x[0, 0], patch.x[0, -1] - patch.x),
                     np.minimum(patch.y - patch.y[0, 0], patch.y[-1, 0] - patch.y))  # fmt: skip
    return np.asarray(1 + (ratio - 1) * np.minimum(rim / 2.0, 1.0), np.float32)
