"""Pictures that occur twice: the same pixels, or the same picture shifted, turned, mirrored, brighter or noisier.

A copy in both halves of a split makes any classifier look better than it is. Copies are told from cells that merely
look alike by the part of the spectrum that single cells do not share: amplitudes are divided by the set's own radial
average (whitened, as in phase correlation: Kuglin & Hines 1975), the longest waves are left out, which say only that
a cell is round and where the light comes from, and so are the shortest, which interpolation between pixels blurs. Of
two such pictures the highest correlation over small shifts and the eight turns of a square decides. As 20,000 crops
make 200 million pairs, amplitudes alone, which no shift alters, first say which pairs are worth that.

Cells without inner detail, such as red blood cells, can look as alike as copies do; then a few pairs too many are
found, and splits keep a few cells together that need not be.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from hspc_live.core.values import Pixels

SAME: Final = 0.96
"""Correlation from which two pictures are copies; shifted by half a pixel they have 0.98. The most alike of 200 million
pairs of different cells of the digital twin have 0.95, and so have those of 1,145 pairs of red blood cells."""
SMALLEST: Final = 32
"""Edge in pixels below which a crop shows too little to tell a copy from another cell: only equal pixels count."""

_EDGE: Final = 48  # larger crops are averaged down to this
_LONGEST: Final = 3  # waves per crop width from which on cells differ
_SHORTEST: Final = 2 / 3  # of the Nyquist frequency: interpolation between pixels blurs what is finer
_ALIKE: Final = 0.8  # correlation of the amplitudes, averaged over the turns, that a copy reaches
_ALIKE_IN_FULL: Final = 0.75  # and of all amplitudes, in the best turn
_AVERAGE: Final = 0.15  # rms difference from the mean log amplitude; cells differ by 0.2 and more
_FEW: Final = 64  # up to this many crops, all pairs are compared: too few to know what they have in common
_ROUNDING: Final = 1e-4  # of the power in the strongest waves
_ROWS: Final = 1024

Spectra = NDArray[np.complex64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Duplicates:
    """What occurs more than once.

    `exact`: rows that show the same pixels. `near`: rows that show one picture in different pixels (their exact copies
    among them). `units` (n,) numbers the pictures from 0: all copies of one have the same number.
    """

    exact: tuple[tuple[int, ...], ...]
    near: tuple[tuple[int, ...], ...]
    units: NDArray[np.int64]


def find_duplicates(images: Pixels) -> Duplicates:
    """Copies among crops (n, S, S). Copies shifted by more than an eighth of the width may be missed.

    A crop without any contrast, or smaller than `SMALLEST`, is a copy only of crops with exactly its pixels.
    """
    n = len(images)
    joined = Joined(n)
    first_of: dict[bytes, int] = {}
    for row in range(n):
        joined.join(row, first_of.setdefault(hashlib.blake2b(images[row].tobytes(), digest_size=16).digest(), row))
    exact = tuple(rows for rows in joined.members() if len(rows) > 1)
    different = np.array(sorted(first_of.values()), np.int64)
    near_of: set[int] = set()
    if len(different) > 1 and images.shape[1] >= SMALLEST:
        for a, b in _alike(images, different, joined):
            near_of |= {a, b}
    near = tuple(rows for rows in joined.members() if near_of.intersection(rows))
    return Duplicates(exact, near, joined.numbers())


class Joined:
    """Rows that belong together (a union-find forest)."""

    def __init__(self, n: int) -> None:
        self._parent = list(range(n))

    def root(self, row: int) -> int:
        """The row that stands for all that belong with `row`: the first of them."""
        parent = self._parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def join(self, a: int, b: int) -> None:
        """From now on a and b, and whatever belongs with them, belong together."""
        low, high = sorted((self.root(a), self.root(b)))
        self._parent[high] = low

    def numbers(self) -> NDArray[np.int64]:
        """(n,) numbers from 0, in order of first appearance."""
        roots = np.array([self.root(row) for row in range(len(self._parent))], np.int64)
        return np.unique(roots, return_inverse=True)[1].astype(np.int64)

    def members(self) -> list[tuple[int, ...]]:
        """The rows of each set, in order."""
        sets: dict[int, list[int]] = {}
        for row in range(len(self._parent)):
            sets.setdefault(self.root(row), []).append(row)
        return [tuple(rows) for rows in sets.values()]


def _alike(images: Pixels, rows: NDArray[np.int64], joined: Joined) -> Iterator[tuple[int, int]]:
    """Pairs of different pixels but the same picture, each joined as it is found; not those already joined."""
    spectra = _Spectra(images)
    for i, others in _candidates(spectra, rows):
        a = int(rows[i])
        for j in others:
            b = int(rows[j])
            if joined.root(a) != joined.root(b) and spectra.correlation(a, b) >= SAME:
                joined.join(a, b)
                yield a, b


class _Spectra:
    """Whitened spectra of crops, by row; made anew at every call, as all at once would not fit into memory."""

    def __init__(self, images: Pixels) -> None:
        self._images = images
        edge = min(images.shape[1], _EDGE)
        y, x = np.mgrid[:edge, :edge] - (edge - 1) / 2
        radius = np.hypot(y, x) / (edge / 2)
        # flat in the middle, a cosine to 0 at the rim: the corners show neighbours, and would break the turns
        self._window = (0.5 + 0.5 * np.cos(np.pi * np.clip((radius - 0.6) / 0.4, 0, 1))).astype(np.float32)
        waves = np.rint(scipy.fft.fftfreq(edge) * edge).astype(np.int64)
        ring = np.rint(np.hypot(waves[:, None], waves)).astype(np.int64)
        self.edge = edge
        self.band = (ring >= _LONGEST) & (ring <= _SHORTEST * edge / 2) & (ring < edge // 2)
        self._weight = np.ones((edge, edge), np.float32)
        self._weight = self._whitening(ring)
        low, high = np.minimum(*np.abs(np.meshgrid(waves, waves))), np.maximum(*np.abs(np.meshgrid(waves, waves)))
        # frequencies that turning and mirroring exchange have the same two numbers
        orbit = np.unique((low * edge + high)[self.band], return_inverse=True)[1]
        sums = np.zeros((len(orbit), int(orbit.max(initial=-1)) + 1), np.float32)
        sums[np.arange(len(orbit)), orbit] = 1.0
        self._mean_of_orbit = sums / np.maximum(sums.sum(0), 1)
        self._reversed = (-np.arange(edge)) % edge

    def of(self, rows: NDArray[np.int64]) -> Spectra:
        """(m, E, E), each of energy 1 (or 0 where a crop has no contrast)."""
        pictures = self._images[rows].astype(np.float32)
        if pictures.shape[1] > self.edge:
            size = (self.edge, self.edge)
            pictures = np.stack([cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures])
        mean = (pictures * self._window).sum((1, 2), keepdims=True) / self._window.sum()
        spectra = scipy.fft.fft2((pictures - mean) * self._window, axes=(1, 2))
        return _of_energy_one(_of_energy_one(spectra) * self._weight)

    def amplitudes(self, rows: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Log amplitudes (m, d) averaged over the eight turns, and in full (m, D)."""
        found = np.abs(self.of(rows))
        floor = np.float32(1e-2 / self.edge)  # amplitudes are near 1 / edge: their energies sum to 1
        flat = found[:, self.band]
        return np.log(flat @ self._mean_of_orbit + floor), np.log(flat + floor)

    def turned(self) -> NDArray[np.int64]:
        """(4, D) orders of the full amplitudes under the turns that amplitudes can tell apart."""
        numbers = np.full((self.edge, self.edge), -1, np.int64)
        numbers[self.band] = np.arange(int(self.band.sum()))
        back = self._reversed
        return np.stack([turn[self.band] for turn in (numbers, numbers.T, numbers[back], numbers.T[back])])

    def correlation(self, a: int, b: int) -> float:
        """The highest over turns and shifts, in steps of half a pixel, of two rows."""
        one, other = self.of(np.array([a, b], np.int64))
        back, edge = self._reversed, self.edge
        turns = [turn for t in (other, other.T) for turn in (t, t[back], t[:, back], t[back][:, back])]
        product = np.conj(one) * np.stack(turns)
        half = edge // 2
        wide = np.zeros((8, 2 * edge, 2 * edge), np.complex64)
        for ys in (slice(None, half), slice(-half, None)):
            for xs in (slice(None, half), slice(-half, None)):
                wide[:, ys, xs] = product[:, ys, xs]
        surface = scipy.fft.ifft2(wide, axes=(1, 2)).real * (4 * edge * edge)
        # one pixel more than asked for: of an even number of pixels, turning the indices shifts by one
        near = np.flatnonzero(np.abs(scipy.fft.fftfreq(2 * edge) * edge) <= edge / 8 + 1)
        turn, y, x = np.unravel_index(surface[:, near][:, :, near].argmax(), (8, len(near), len(near)))
        return _peak(surface[turn], int(near[y]), int(near[x]))

    def _whitening(self, ring: NDArray[np.int64]) -> Floats:
        """One over the mean amplitude of each ring; 0 outside the band."""
        some = np.linspace(0, len(self._images) - 1, min(len(self._images), 2000)).astype(np.int64)
        power = np.zeros(ring.shape, np.float64)
        for part in np.array_split(some, -(-len(some) // _ROWS)):
            power += (np.abs(self.of(part)) ** 2).sum(0)
        rings = np.bincount(ring.ravel(), power.ravel()) / np.maximum(np.bincount(ring.ravel()), 1)
        # what is weaker was made by rounding, not by the cell, e.g. in a picture that was enlarged
        power = np.maximum(rings, max(_ROUNDING * float(rings.max()), 1e-30))
        return np.where(self.band, 1 / np.sqrt(power)[ring], 0).astype(np.float32)


def _peak(surface: NDArray[np.floating], y: int, x: int) -> float:
    """The height of the maximum near (y, x), by a parabola through the neighbours along either axis."""
    top = float(surface[y, x])
    height = top
    for before, after in (
        (surface[y - 1, x], surface[(y + 1) % len(surface), x]),
        (surface[y, x - 1], surface[y, (x + 1) % len(surface)]),
    ):
        if top > max(before, after):  # else the maximum lies beyond the shifts that are looked at
            height += (float(after) - float(before)) ** 2 / (8 * (2 * top - float(before) - float(after)))
    return min(height, 1.0)


def _of_energy_one(spectra: NDArray[np.complexfloating]) -> Spectra:
    energy = np.sqrt((np.abs(spectra) ** 2).sum((1, 2), keepdims=True))
    return np.asarray(spectra / np.maximum(energy, 1e-6), np.complex64)


def _candidates(spectra: _Spectra, rows: NDArray[np.int64]) -> Iterator[tuple[int, Iterable[int]]]:
    """Of each of `rows`, by place, the later ones with similar amplitudes."""
    n = len(rows)
    if n <= _FEW:
        yield from ((i, range(i + 1, n)) for i in range(n))
        return
    parts = [spectra.amplitudes(part) for part in np.array_split(rows, -(-n // _ROWS))]
    coarse, full = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    # Many copies of one picture are the mean that all are compared with, and differ from it in nothing but noise:
    # they are compared with the first of them.
    average = np.flatnonzero(np.sqrt(((coarse - coarse.mean(0)) ** 2).mean(1)) < _AVERAGE)
    if len(average) > 1:
        yield int(average[0]), average[1:].tolist()
    turns = spectra.turned()
    # DIC's shear makes amplitudes differ by direction: a turned copy must be compared with the mean over the turns
    mean = full.mean(0)[turns].mean(0)
    spread = np.sqrt((full**2).mean(0)[turns].mean(0) - mean**2)
    coarse = _of_length_one((coarse - coarse.mean(0)) / (coarse.std(0) + 1e-6))
    full = _of_length_one((full - mean) / (spread + 1e-6))
    for start in range(0, n, _ROWS):
        alike = coarse[start : start + _ROWS] @ coarse[start:].T
        for i, j in _pairs(alike >= _ALIKE):
            found = start + j
            best = np.max([full[found][:, turn] @ full[start + i] for turn in turns], axis=0)
            if len(kept := found[best >= _ALIKE_IN_FULL]):
                yield start + i, kept.tolist()


def _pairs(alike: NDArray[np.bool_]) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Row by row, the columns behind the diagonal that hold."""
    for i in np.flatnonzero(alike.sum(1) > 1).tolist():
        behind = np.flatnonzero(alike[i, i + 1 :]) + i + 1
        if len(behind):
            yield i, behind


def _of_length_one(values: Floats) -> Floats:
    """Rows to mean 0 and length 1: products are correlations."""
    values = values - values.mean(1, keepdims=True)
    return np.asarray(values / (np.linalg.norm(values, axis=1, keepdims=True) + 1e-9), np.float32)
