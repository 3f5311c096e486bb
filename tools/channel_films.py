"""Made brightfield films of a flow channel, by wave optics: a judge of segmentation that nothing was tuned on.

Unlike the twin (transport of intensity, round cells) a cell here is a thickness map of any shape whose complex field
exp(2πi·Δn·t/λ - a·t/2) passes a pupil of finite aperture and defocus, for several tilts of the illumination; the
intensities add (Abbe's partially coherent imaging; Goodman, Introduction to Fourier Optics, ch. 7). Shapes: ellipsoids
with granules, bullets and teardrops, biconcave discs (Evans and Fung 1972, Microvasc. Res. 4:335), platelets, beads.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
PITCH_UM = 0.13  # of the grid that light is propagated on: finer than λ/4 NA
GRID = 320  # pixels of it: 42 µm, so that a cell's fringes die out before they wrap around
MEDIUM_INDEX = 1.335


@dataclass(frozen=True, slots=True)
class Lens:
    """One microscope and camera. `condenser` is the illumination's aperture, `noise` the camera's, in counts."""

    name: str
    um_per_px: float = 0.2645
    wavelength_um: float = 0.46
    aperture: float = 0.65
    condenser: float = 0.25
    defocus_um: float = 0.0
    defocus_sd_um: float = 1.0
    motion_um: float = 0.4
    level: float = 145.0
    noise: float = 2.0
    shape: tuple[int, int] = (80, 320)


LENSES = (
    Lens("in focus"),
    Lens("2.5 µm above focus", defocus_um=2.5),
    Lens("2.5 µm below focus", defocus_um=-2.5),
    Lens("5 µm above focus", defocus_um=5.0),
    Lens("5 µm below focus", defocus_um=-5.0),
    Lens("nearly coherent light", condenser=0.06, defocus_um=2.0, noise=3.0),
    Lens("40 x 0.75, bright", um_per_px=0.34, aperture=0.75, condenser=0.4, level=185.0, noise=1.5, shape=(96, 256)),
    Lens("20 x 0.4, red light", um_per_px=0.55, wavelength_um=0.63, aperture=0.4, condenser=0.15, defocus_um=2.0),
    Lens("100 x", um_per_px=0.14, aperture=0.9, condenser=0.3, defocus_um=-1.0, shape=(160, 640)),
    Lens("dim, noisy", level=90.0, noise=4.0, defocus_um=1.0),
)


@dataclass(slots=True, eq=False)
class Shot:
    """One frame, its background, and the masks of what is in it (whole objects, clear of the border)."""

    pixels: NDArray[np.uint8]
    background: NDArray[np.uint8]
    masks: list[NDArray[np.bool_]] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)


def film(lens: Lens, frames: int, seed: int) -> list[Shot]:
    """`frames` frames of 1–3 objects each, apart from each other."""
    rng = np.random.default_rng(seed)
    height, width = lens.shape
    still = _channel(lens, rng)
    shots = []
    for _ in range(frames):
        light, shot = still.copy(), Shot(np.empty(0, np.uint8), _count(still + rng.normal(0, 0.3, lens.shape)))
        x_um = rng.uniform(8, 20)
        while x_um < (width * lens.um_per_px) - 8 and len(shot.masks) < 3:
            thickness, contrast, loss, kind = _thing(rng, 0.6 * height * lens.um_per_px)
            at = (x_um / lens.um_per_px, rng.uniform(0.45, 0.55) * height if kind != "platelet" else
                  rng.uniform(0.3, 0.7) * height)  # fmt: skip
            seen = _imaged(thickness, contrast, loss, lens, rng.normal(lens.defocus_um, lens.defocus_sd_um))
            light *= _placed(seen, at, lens, 1.0)
            shot.masks.append(_placed((thickness > 0.05 * thickness.max()).astype(np.float64), at, lens, 0.0) > 0.5)
            shot.kinds.append(kind)
            long = np.ptp(np.nonzero(thickness.any(axis=0))[0]) * PITCH_UM
            x_um += long / 2 + rng.uniform(16, 40)
        kept = [i for i, mask in enumerate(shot.masks) if mask.any() and not _at_border(mask)]
        shot.masks, shot.kinds = [shot.masks[i] for i in kept], [shot.kinds[i] for i in kept]
        shot.pixels = _count(light + rng.normal(0, lens.noise, lens.shape))
        shots.append(shot)
    return shots


def _thing(rng: np.random.Generator, room_um: float) -> tuple[Floats, float, float, str]:
    """Thickness (µm) on the fine grid, index contrast, absorption per µm, kind."""
    axis = (np.arange(GRID) - (GRID - 1) / 2) * PITCH_UM
    x, y = np.meshgrid(axis, axis)
    kind = str(rng.choice(["teardrop", "bullet", "disc", "leucocyte", "bead", "platelet"]))
    match kind:
        case "teardrop" | "bullet":
            long, wide = rng.uniform(9, 18), rng.uniform(3.5, 6.5)
            tail = rng.uniform(0.9, 1.6) if kind == "teardrop" else rng.uniform(0.25, 0.5)
            along = np.clip(rng.choice([-1, 1]) * x / long + 0.5, 1e-6, 1 - 1e-6)
            radius = along**0.5 * (1 - along) ** tail
            radius *= wide / 2 / radius.max() * (np.abs(x) < long / 2)
            return 1.2 * np.sqrt(np.maximum(radius**2 - y**2, 0)), rng.uniform(0.04, 0.065), rng.uniform(0, 0.06), kind
        case "disc":  # a red cell face-on, up to tilted
            tilt = rng.uniform(0.5, 1.0)
            rho = np.minimum((x**2 + (y / tilt) ** 2) / 3.9**2, 1.0)
            return np.sqrt(1 - rho) * (0.81 + 7.83 * rho - 4.39 * rho**2), rng.uniform(0.05, 0.065), 0.04, kind
        case "leucocyte":
            long = rng.uniform(7, min(20, room_um))
            wide = min(long * rng.uniform(0.75, 1.0), room_um)
            body = np.sqrt(np.maximum(1 - (2 * x / long) ** 2 - (2 * y / wide) ** 2, 0))
            grain = cv2.GaussianBlur(rng.normal(0, 1, x.shape), (0, 0), 0.35 / PITCH_UM)
            return wide * body * (1 + 0.12 * grain / grain.std()), rng.uniform(0.02, 0.04), rng.uniform(0, 0.02), kind
        case "bead":
            size = rng.uniform(6, 14)
            return np.sqrt(np.maximum(size**2 - 4 * (x**2 + y**2), 0)), rng.uniform(0.02, 0.08), 0.0, kind
        case _:
            long, wide = rng.uniform(1.5, 3.5), rng.uniform(1.0, 2.2)
            body = np.sqrt(np.maximum(1 - (2 * x / long) ** 2 - (2 * y / wide) ** 2, 0))
            return wide * body, rng.uniform(0.03, 0.05), 0.0, kind


def _imaged(thickness: Floats, contrast: float, loss: float, lens: Lens, defocus_um: float) -> Floats:
    """Light relative to the empty field, on the fine grid."""
    leaves = np.exp((2j * np.pi * contrast / lens.wavelength_um - loss / 2) * thickness)
    f = np.fft.fftfreq(GRID, PITCH_UM)
    total, tilts = np.zeros(thickness.shape), [(0.0, 0.0)]
    tilts += [(0.6, a) for a in np.arange(3) * 2.094] + [(1.0, a + 0.5) for a in np.arange(5) * 1.2566]
    spectrum = np.fft.fft2(leaves)
    step = f[1]
    for share, angle in tilts:  # a tilted plane wave shifts the pupil over the object's spectrum
        reach = share * lens.condenser / lens.wavelength_um
        dx, dy = (round(reach * c / step) * step for c in (np.cos(angle), np.sin(angle)))
        squared = (f[None, :] + dx) ** 2 + (f[:, None] + dy) ** 2
        axial = np.sqrt(np.maximum((MEDIUM_INDEX / lens.wavelength_um) ** 2 - squared, 0))
        pupil = (squared <= (lens.aperture / lens.wavelength_um) ** 2) * np.exp(2j * np.pi * defocus_um * axial)
        total += np.abs(np.fft.ifft2(spectrum * pupil)) ** 2
    return total / len(tilts)


def _placed(seen: Floats, at: tuple[float, float], lens: Lens, empty: float) -> Floats:
    """`seen` on the camera's pixels, its middle at pixel `at` (x, y), averaged over a pixel and the motion."""
    ratio = lens.um_per_px / PITCH_UM
    pixel = max(1, round(ratio))
    smeared = cv2.blur(seen, (max(1, round(ratio + lens.motion_um / PITCH_UM)), pixel))
    middle = (GRID - 1) / 2
    matrix = np.array([[ratio, 0, middle - at[0] * ratio], [0, ratio, middle - at[1] * ratio]])
    height, width = lens.shape
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(smeared, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_CONSTANT,
                       borderValue=(empty,)), np.float64
    )  # fmt: skip


def _channel(lens: Lens, rng: np.random.Generator) -> Floats:
    """The empty field in counts: two walls with their fringes, a slope, a little dust."""
    height, width = lens.shape
    y = np.arange(height)[:, None] * lens.um_per_px
    walls = np.zeros((height, 1))
    for at in (1.8, height * lens.um_per_px - 1.8):
        walls += 0.3 * np.exp(-(((y - at) / 0.5) ** 2)) * np.cos((y - at) * 4.0)
    light = lens.level * (1 - walls) * (1 + 0.06 * rng.uniform(-1, 1) * np.linspace(-1, 1, width))
    for _ in range(4):
        spot = np.zeros(lens.shape)
        cv2.circle(spot, (int(rng.integers(width)), int(rng.integers(height))), int(rng.integers(2, 6)), 1.0, -1)
        light *= 1 - rng.uniform(0.02, 0.08) * cv2.GaussianBlur(spot, (0, 0), 2.0)
    return np.asarray(light, np.float64)


def _at_border(mask: NDArray[np.bool_]) -> bool:
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def _count(light: Floats) -> NDArray[np.uint8]:
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)
