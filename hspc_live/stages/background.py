"""Background: the picture without cells, as numbered snapshots made from the frames alone.

A snapshot is the per-pixel median of frames spread over the recent past, taken with a min/max selection network, tile
by tile, so that no frame waits long for it. The first frame already yields one, estimated from that frame's own rows
and columns; it is replaced as soon as frames have come in. Snapshots depend only on the frames, their times and the
settings, never on the time of day or on how fast frames are fed: replay makes the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import cv2
import numpy as np

from hspc_live.core.clock import NS_PER_S
from hspc_live.core.values import Pixels
from hspc_live.settings.segment import BackgroundSettings

_EARLY = (3, 5, 9)  # samples after which an early snapshot is made, before the full number has come
_EARLY_SPACING = 100  # early samples are every_s / this apart: a cell must have moved on, but nobody wants to wait
_TILE_PIXELS = 16384  # pixels whose median is taken per frame: bounds what one frame can cost
_SIGMA_PER_MAD = 1.4826
_CLIP = 3.0
_MIN_NOISE = 0.3  # one count of quantisation alone has a standard deviation of 1/sqrt(12)


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """One background: `pixels` (height, width) in the camera's dtype.

    `noise_sd` is the standard deviation, in counts, of white pixel noise that would explain what is left of a frame
    after subtraction and a 3 × 3 mean (cells left out: deviations beyond three times the median one), which is what
    segmentation thresholds.
    """

    number: int
    pixels: Pixels
    noise_sd: float


class Background:
    """Makes snapshots of frames of one `shape` (height, width) and `dtype`. Feed it every frame in capture order."""

    def __init__(self, settings: BackgroundSettings, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        self._settings = settings
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._samples = np.empty((settings.frames, *shape), self._dtype)
        self._taken = 0
        self._spacing_ns = int(settings.every_s * NS_PER_S) // settings.frames
        self._early_ns = min(self._spacing_ns, int(settings.every_s * NS_PER_S) // _EARLY_SPACING)
        self._last_sample_ns: int | None = None
        self._last_frame_ns: int | None = None
        self._rows = max(1, _TILE_PIXELS // shape[1])
        self._work: Pixels | None = None  # the snapshot under way
        self._row = 0
        self._fresh = 0  # samples taken since the last snapshot was begun
        self._recorded: Pixels | None = None
        self._number = 0

    def update(self, pixels: Pixels, captured_ns: int, recorded: Pixels | None = None) -> Snapshot | None:
        """Take in one frame; returns a snapshot when a new one is ready (always on the first frame).

        `recorded` is the background that a recording carries for this frame, if any; with `use_recorded` it is the
        snapshot, numbered anew whenever its content changes. Raises ValueError for another shape or dtype.
        """
        if pixels.shape != self._shape or pixels.dtype != self._dtype:
            raise ValueError(f"frame is {pixels.shape} {pixels.dtype}, background is {self._shape} {self._dtype}")
        if recorded is not None and self._settings.use_recorded:
            return self._take_recorded(recorded, pixels)
        self._sample(pixels, captured_ns)
        if self._number == 0:
            return self._snapshot(spatial_estimate(pixels), pixels)
        if self._work is None and self._due():
            self._work = np.empty(self._shape, self._dtype)
            self._row = 0
            self._fresh = 0
            if self._taken <= _EARLY[-1]:  # a median of few is cheap, and the spatial estimate should not live long
                return self._advance(pixels, self._shape[0])
        return self._advance(pixels, self._rows) if self._work is not None else None

    def _take_recorded(self, recorded: Pixels, pixels: Pixels) -> Snapshot | None:
        if recorded.shape != self._shape or recorded.dtype != self._dtype:
            raise ValueError(
                f"recorded background is {recorded.shape} {recorded.dtype}, frames are {self._shape} {self._dtype}"
            )
        if self._recorded is not None and np.array_equal(recorded, self._recorded):
            return None
        self._recorded = recorded.copy()
        return self._snapshot(self._recorded, pixels)

    def _sample(self, pixels: Pixels, captured_ns: int) -> None:
        """Keep the frame if enough time has passed since the last kept one. A median under way keeps its samples."""
        backwards = self._last_frame_ns is not None and captured_ns < self._last_frame_ns
        self._last_frame_ns = captured_ns
        if self._work is not None:
            return
        spacing = self._early_ns if self._taken < _EARLY[-1] else self._spacing_ns
        if self._last_sample_ns is not None and not backwards:
            if captured_ns - self._last_sample_ns < spacing - spacing // 16:  # frame times jitter
                return
        self._samples[self._taken % len(self._samples)] = pixels
        self._last_sample_ns = captured_ns
        self._taken += 1
        self._fresh += 1

    def _due(self) -> bool:
        if self._fresh == 0:
            return False
        if self._taken < len(self._samples):
            return self._taken in _EARLY
        return self._fresh >= len(self._samples) or self._taken == len(self._samples)

    def _advance(self, pixels: Pixels, count: int) -> Snapshot | None:
        """One tile of `count` rows further; the snapshot once the last tile is done."""
        work = self._work
        assert work is not None
        rows = slice(self._row, self._row + count)
        work[rows] = median(self._samples[: self._taken, rows])
        self._row += count
        if self._row < self._shape[0]:
            return None
        self._work = None
        return self._snapshot(work, pixels)

    def _snapshot(self, background: Pixels, pixels: Pixels) -> Snapshot:
        self._number += 1
        return Snapshot(self._number, background, noise_sd(pixels, background))


def spatial_estimate(pixels: Pixels) -> Pixels:
    """A background from one frame alone: median of each row plus median of each column of what is left.

    Channel walls along x and an illumination that is a sum of a profile in x and one in y go; cells, being small, stay
    out of the medians. Dirt on the optics stays in the frame until a median over time replaces this estimate.
    """
    rest = pixels.astype(np.float32)
    rows = np.median(rest, axis=1, keepdims=True)
    columns = np.median(rest - rows, axis=0, keepdims=True)
    columns = cv2.blur(columns, (9, 1), borderType=cv2.BORDER_REPLICATE)
    top = np.iinfo(pixels.dtype).max
    return cast("Pixels", np.clip(np.rint(rows + columns), 0, top).astype(pixels.dtype))


def noise_sd(pixels: Pixels, background: Pixels) -> float:
    """The noise of `pixels` - `background` as `Snapshot` defines it, ≥ 0.3 counts, from every third row and column."""
    rest = cv2.subtract(pixels, background, dtype=cv2.CV_32F)
    rest = cv2.boxFilter(rest, -1, (3, 3))[::3, ::3]
    distance = np.abs(rest - np.median(rest))
    near = distance[distance <= _CLIP * _SIGMA_PER_MAD * np.median(distance) + 1e-3]
    # a normal distribution clipped at three standard deviations keeps 0.9866 of its own
    return max(_MIN_NOISE, 3.0 * float(np.sqrt(np.mean(near * near))) / 0.9866)


def median(stack: Pixels) -> Pixels:
    """The lower median over the first axis of `stack` (n, height, width), exact.

    Runs Knuth's merge exchange (The Art of Computer Programming 3, algorithm 5.2.2M), stripped of the comparators that
    the middle does not depend on, with whole tiles as elements: OpenCV's vectorised min and max do the comparing.
    """
    tiles: list[Any] = [np.ascontiguousarray(tile) for tile in stack]
    for low, high in _network(len(tiles)):
        smaller = cv2.min(tiles[low], tiles[high])
        tiles[high] = cv2.max(tiles[low], tiles[high])
        tiles[low] = smaller
    return cast("Pixels", tiles[(len(tiles) - 1) // 2])


@cache
def _network(n: int) -> tuple[tuple[int, int], ...]:
    """Comparators (low, high) that put the lower median of n elements in its place."""
    comparators = []
    top = 1 << max(0, (n - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            comparators += [(i, i + d) for i in range(n - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    needed = {(n - 1) // 2}
    kept = []
    for low, high in reversed(comparators):
        if low in needed or high in needed:
            needed |= {low, high}
            kept.append((low, high))
    return tuple(reversed(kept))
