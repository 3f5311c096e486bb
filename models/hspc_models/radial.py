"""What a round cell looks like by distance from its middle: light, texture and edges in rings.

In brightfield most of what tells stages of a cell apart is its size and how grainy it is at which depth. Statistics
over rings hold that, and no turn or mirror changes them. `tutor` learns from them, and a network may (`RingReader`).
Everything is a product with a small matrix, so that it runs on whole batches, on any device, as part of a model.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hspc_live.core.crop import normalise
from hspc_live.core.values import Pixels

FEATURES = 64

_RINGS = 10
_BAND_RINGS, _BAND_REACH = 6, 0.9
_WIDTHS = (0.7, 1.4, 2.8)
"""Standard deviations of the Gaussians whose differences part fine from coarse grain, in pixels of a crop of 40."""
_EDGE_WIDTH, _EDGE_REACH = 1.0, 0.95
_FLOOR, _EDGE_FLOOR = 1e-3, 1e-2
_AT_ONCE = 4096
_HIDDEN, _DROPOUT, _TWINS = 128, 0.3, 2


class Rings(nn.Module):
    """The features of pictures of one size: what each ring holds.

    Mean and spread of the light in ten rings; the spread, in six, of what is finer than three bands of grain and of
    these; mean and spread of the steepness in ten. A flat picture has features too. Nothing here is learnt or saved.
    """

    def __init__(self, edge: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.edge = edge

        def keep(name: str, matrix: NDArray[np.float64]) -> None:
            self.register_buffer(name, torch.from_numpy(matrix).to(dtype), persistent=False)

        keep("whole", _rings(edge, _RINGS, 1.0))
        keep("inner", _rings(edge, _BAND_RINGS, _BAND_REACH))
        keep("steep", _rings(edge, _RINGS, _EDGE_REACH))
        keep("soft", gaussian(edge, _EDGE_WIDTH * edge / 40))
        for number, width in enumerate(_WIDTHS):
            keep(f"fine{number}", gaussian(edge, width * edge / 40))
            keep(f"coarse{number}", gaussian(edge, 2 * width * edge / 40))

    def forward(self, pictures: Tensor) -> Tensor:
        """Features (n, 64) of pictures (n, S, S), floating."""
        light = normalise(pictures)
        columns = [*_mean_and_spread(light, self.get_buffer("whole"))]
        inner = self.get_buffer("inner")
        for number in range(len(_WIDTHS)):
            smooth = _both_ways(self.get_buffer(f"fine{number}"), light)
            if number == 0:
                columns.append(_mean_and_spread(light - smooth, inner)[1])
            columns.append(_mean_and_spread(smooth - _both_ways(self.get_buffer(f"coarse{number}"), light), inner)[1])
        smooth = _both_ways(self.get_buffer("soft"), light)
        across = smooth[:, 1:-1, 2:] - smooth[:, 1:-1, :-2]
        down = smooth[:, 2:, 1:-1] - smooth[:, :-2, 1:-1]
        slope = functional.pad((across * across + down * down).sqrt(), (1, 1, 1, 1))
        mean, spread = _mean_and_spread(slope, self.get_buffer("steep"))
        return torch.cat((*columns, torch.log(mean + _EDGE_FLOOR), spread), dim=1)


class RingReader(nn.Module):
    """Two small networks of two hidden layers on the features of pictures: the mean of what they say at 25 places.

    A cell's middle is only found to a pixel or two, so they are shown every picture moved by up to a twentieth of the
    edge each way. `middle` and `spread` are the scale of the features they were fitted on (`tutor` fits them).
    """

    middle: Tensor
    spread: Tensor

    def __init__(self, edge: int, classes: int) -> None:
        super().__init__()
        self.rings = Rings(edge)
        self.register_buffer("middle", torch.zeros(FEATURES))
        self.register_buffer("spread", torch.ones(FEATURES))
        self.twins = nn.ModuleList(_small(classes) for _ in range(_TWINS))

    def read(self, features: Tensor) -> Tensor:
        """Logits (n, classes) of features (positions, n, 64)."""
        scaled = (features - self.middle) / self.spread
        return torch.stack([twin(scaled).mean(dim=0) for twin in self.twins]).mean(dim=0)

    def forward(self, pictures: Tensor) -> Tensor:
        """Logits (n, classes) of normalised pictures (n, S, S), brought to the reader's size where they are smaller."""
        # half precision is not enough for the spreads
        with torch.autocast(pictures.device.type, enabled=False):
            size = (self.rings.edge, self.rings.edge)
            if pictures.shape[-2:] != size:
                pictures = functional.interpolate(pictures.unsqueeze(1), size=size, mode="bilinear").squeeze(1)
            moved = shifted(pictures.float())
            return self.read(self.rings(torch.cat(moved)).view(len(moved), -1, FEATURES))


def _small(classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(FEATURES, _HIDDEN), nn.GELU(), nn.Dropout(_DROPOUT),
        nn.Linear(_HIDDEN, _HIDDEN), nn.GELU(), nn.Dropout(_DROPOUT),
        nn.Linear(_HIDDEN, classes),
    )  # fmt: skip


def radial_features(images: Pixels) -> NDArray[np.float64]:
    """Features (n, 64) of crops (n, S, S), in double precision."""
    if not len(images):
        return np.empty((0, FEATURES))
    rings = _rings_of(images.shape[1])
    parts = [
        rings(torch.from_numpy(images[start : start + _AT_ONCE].astype(np.float64))).numpy()
        for start in range(0, len(images), _AT_ONCE)
    ]
    return np.concatenate(parts)


def shifted(pictures: Tensor) -> list[Tensor]:
    """Pictures (n, S, S) at 25 places: moved by whole pixels, up to a twentieth of the edge each way, edge mirrored."""
    edge = pictures.shape[-1]
    most = max(1, round(edge / 20))
    steps = [round(most * share) for share in (-1, -0.5, 0, 0.5, 1)]
    padded = functional.pad(pictures.unsqueeze(1), (most,) * 4, mode="reflect").squeeze(1)
    return [
        padded[:, most + down : most + down + edge, most + across : most + across + edge]
        for down in steps
        for across in steps
    ]


@lru_cache(maxsize=4)
def _rings_of(edge: int) -> Rings:
    return Rings(edge, torch.float64)


def _rings(edge: int, n: int, reach: float) -> NDArray[np.float64]:
    """Weights (edge · edge, n) whose products with a picture are means over rings of equal width, out to `reach`."""
    axis = np.arange(edge) - (edge - 1) / 2
    radius = np.hypot(axis[:, None], axis[None, :]).ravel() / (edge / 2)
    ends = np.linspace(0, reach, n + 1)
    inside = ((radius[:, None] >= ends[:-1]) & (radius[:, None] < ends[1:])).astype(np.float64)
    return np.asarray(inside / np.maximum(inside.sum(axis=0), 1))


def gaussian(edge: int, sd: float) -> NDArray[np.float64]:
    """The matrix (edge, edge) that blurs a column by a Gaussian of `sd` pixels."""
    return np.asarray(cv2.GaussianBlur(np.eye(edge), (1, 2 * round(4 * sd) + 1), sigmaX=0, sigmaY=sd))


def _both_ways(matrix: Tensor, pictures: Tensor) -> Tensor:
    return matrix @ pictures @ matrix.T


def _mean_and_spread(pictures: Tensor, rings: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, and logarithm of the standard deviation, of pictures (n, S, S) in each ring; (n, rings) each."""
    flat = pictures.flatten(1)
    mean = flat @ rings
    variance = ((flat * flat) @ rings - mean * mean).clamp_min(0)
    return mean, torch.log(variance.sqrt() + _FLOOR)
