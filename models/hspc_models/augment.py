"""Augmentation of crops, batched, on tensors: what may change in a picture of a cell without changing the cell.

No rotation and no flip: in DIC the shear gives every picture a light and a dark side, and a turned or mirrored crop
shows optics that the microscope does not have (cells themselves lie in the flow at any angle). A plain change of
brightness or contrast is left out as well, because `core.crop.normalise` cancels it. What remains: where segmentation
put the centre, a slope of the light that the background did not take away, and noise.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from hspc_live.settings.base import Section


class AugmentSettings(Section):
    """Strengths; each crop draws its own up to these. 0 turns one off."""

    shift_px: int = 2
    slope: float = 0.2
    noise: float = 0.1


def augment(pictures: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """Augmented copies of normalised pictures (n, 1, S, S); `slope` and `noise` are in the crop's standard deviations.

    All randomness comes from `generator` (on the CPU), so a seed repeats a training run.
    """
    n, _, height, width = pictures.shape
    if settings.shift_px:
        pictures = _shift(pictures, settings.shift_px, generator)
    if settings.slope:
        strength = (torch.rand((n, 2, 1, 1, 1), generator=generator) * 2 - 1) * settings.slope
        across = torch.linspace(-1, 1, width).view(1, 1, 1, width)
        down = torch.linspace(-1, 1, height).view(1, 1, height, 1)
        pictures = pictures + strength[:, 0] * across + strength[:, 1] * down
    if settings.noise:
        sd = torch.rand((n, 1, 1, 1), generator=generator) * settings.noise
        pictures = pictures + sd * torch.randn(pictures.shape, generator=generator)
    return pictures


def _shift(pictures: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Each picture moved by whole pixels, up to `most` each way; the edge is mirrored, as in `core.crop`."""
    n, _, height, width = pictures.shape
    padded = functional.pad(pictures, (most,) * 4, mode="reflect")[:, 0]
    corner = torch.randint(0, 2 * most + 1, (2, n, 1, 1), generator=generator)
    rows = corner[0] + torch.arange(height).view(1, height, 1)
    columns = corner[1] + torch.arange(width).view(1, 1, width)
    return padded[torch.arange(n).view(n, 1, 1), rows, columns].unsqueeze(1)
