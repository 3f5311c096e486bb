"""The empty field and the camera: uneven illumination, dust on the optics, shot and read noise, quantisation.

A frame's noise comes from a generator of its own, so that its pixels do not depend on which frames were rendered before
it. To film fast, each row of a frame is a stretch of one long bank of Gaussian noise, begun at a place drawn for that
row and frame: thirty times quicker than drawing every pixel, and no two frames share their noise.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.values import Pixels
from hspc_live.settings.twin import TwinScene
from hspc_live.twin.optics import Image

# What a random stream is for; with the seed and a number it makes a generator that nothing else shares.
FIELD, ARRIVALS, OBJECT, NOISE, SAMPLE, BANK, SETTLED, SPECK, CREEP, GLOW, SLIP = range(11)
_BANK_SIZE = 1 << 22  # 16 MiB; a row of 1024 pixels begins at one of four million places


def generator(seed: int, purpose: int, number: int) -> np.random.Generator:
    """The random generator for one purpose and number; the same whenever and in whatever order it is asked for."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence((seed & 0xFFFFFFFF, purpose, number))))


def empty_field(settings: TwinScene) -> Image:
    """Light (height, width) float32 of the field without objects, in camera counts: a slope, a vignette and dust."""
    rng = generator(settings.seed, FIELD, 0)
    height, width = settings.height_px, settings.width_px
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32)
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.float32(settings.illumination_slope)
    light: Image = 1 + slope * (np.cos(angle, dtype=np.float32) * x + np.sin(angle, dtype=np.float32) * y)
    light = light * (1 - slope * (x * x + y * y))
    for _ in range(settings.dust):  # far from the plane of focus: dim discs with a soft edge
        spot = np.zeros((height, width), np.float32)
        where = (int(rng.integers(width)), int(rng.integers(height)))
        radius = int(np.clip(rng.lognormal(np.log(4.0), 0.6), 2, 20))
        cv2.circle(spot, where, radius, float(rng.uniform(0.02, 0.12)), -1)
        light *= 1 - cv2.GaussianBlur(spot, (0, 0), 0.35 * radius + 0.8)
    return light * np.float32(settings.illumination * full_scale(settings))


def full_scale(settings: TwinScene) -> int:
    """The camera's largest count."""
    return (1 << settings.bits) - 1


class Sensor:
    """Turns light (camera counts, float32) into what the camera hands over. Buffers are reused: one thread only."""

    def __init__(self, settings: TwinScene, shape: tuple[int, int]) -> None:
        self._top = full_scale(settings)
        self._eight_bits = settings.bits == 8
        gain = self._top / settings.full_well_e  # counts an electron
        # variance in counts² of a signal of s counts: gain · s (shot noise) + (gain · read noise)²
        self._gain = np.float32(gain)
        self._read_variance = np.float32((gain * settings.read_noise_e) ** 2)
        self._rows = np.lib.stride_tricks.sliding_window_view(_bank(settings.seed), shape[1])
        self._spread = np.empty(shape, np.float32)

    def expose(self, light: Image, rng: np.random.Generator) -> Pixels:
        """One picture of `light` with shot noise (Gaussian: right beyond some tens of electrons) and read noise."""
        noise = self._rows[rng.integers(0, len(self._rows), len(light))]
        np.multiply(light, self._gain, out=self._spread)
        self._spread += self._read_variance
        cv2.sqrt(self._spread, self._spread)
        noise *= self._spread
        noise += light
        return self.quantise(noise)

    def quantise(self, light: Image) -> Pixels:
        """Whole counts within the camera's range; `light` is left as it is."""
        np.clip(light, 0, self._top, out=self._spread)
        self._spread += np.float32(0.5)
        return self._spread.astype(np.uint8) if self._eight_bits else self._spread.astype(np.uint16)


@lru_cache(maxsize=2)
def _bank(seed: int) -> NDArray[np.float32]:
    """Standard normal noise, (_BANK_SIZE,) float32, read-only."""
    bank = generator(seed, BANK, 0).standard_normal(_BANK_SIZE, dtype=np.float32)
    bank.flags.writeable = False
    return bank
