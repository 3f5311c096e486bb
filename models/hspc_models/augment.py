"""Augmentation of crops, batched, on tensors: what may change in a picture of a cell without changing the cell.

The paper turns, mirrors and brightens. Which of these are harmless depends on the microscope: in brightfield a turned
cell is a picture that could have been taken; in DIC the shear gives every picture a light and a dark side, and a turned
or mirrored crop shows optics that the microscope does not have. So every kind is a setting; off by default are those
that turn the shear. Brightness is changed after `core.crop.normalise`, which would cancel it.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from hspc_live.settings.base import Section
from hspc_models.network import symmetry
from hspc_models.radial import gaussian


class AugmentSettings(Section):
    """Strengths; each crop draws its own up to these. 0 (or `none`, `false`) turns one off."""

    turn: Literal["none", "quarter", "any"] = Field("none", description="any angle, or quarters; turns DIC's shear")
    flip: bool = Field(False, description="mirror half of the crops; turns DIC's shear")
    scale: float = Field(0.0, ge=0, lt=0.5, description="enlarge or shrink by a factor up to exp(scale)")
    resampled: float = Field(
        0.7, ge=0, le=1, description="share of the crops that any angle and scale are for: resampling smooths noise"
    )
    shift_px: int = Field(2, ge=0)
    slope: float = Field(0.2, ge=0, description="of the light across the crop, in its standard deviations")
    brightness: float = Field(0.0, ge=0, description="added to the whole crop, in its standard deviations")
    contrast: float = Field(0.0, ge=0, lt=1, description="relative change of the contrast")
    focus: float = Field(
        0.0, ge=0, le=1, description="up to so far towards a picture blurred by 0.7 px of 40, or away from it: sharper"
    )
    noise: float = Field(0.1, ge=0, description="in the crop's standard deviations")


def augment(pictures: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """Augmented copies of normalised pictures (n, 1, S, S), on the device of `generator`, which must be theirs.

    All randomness comes from `generator`, so a seed repeats a training run.
    """
    if settings.turn != "none" or settings.flip:
        pictures = _symmetries(pictures, settings, generator)
    if settings.turn == "any" or settings.scale:
        pictures = _resampled(pictures, settings, generator)
    if settings.shift_px:
        pictures = _shift(pictures, settings.shift_px, generator)
    if settings.focus:
        pictures = _refocused(pictures, settings.focus, generator)
    if settings.slope:
        pictures = pictures + _slopes(pictures, settings.slope, generator)
    if settings.contrast:
        pictures = pictures * (1 + _between(pictures, settings.contrast, generator))
    if settings.brightness:
        pictures = pictures + _between(pictures, settings.brightness, generator)
    if settings.noise:
        sd = torch.rand((len(pictures), 1, 1, 1), generator=generator, device=generator.device) * settings.noise
        pictures = pictures + sd * torch.randn(pictures.shape, generator=generator, device=generator.device)
    return pictures


def _symmetries(pictures: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """Each picture in one of the positions that the settings allow."""
    turns = (0,) if settings.turn == "none" else (0, 1, 2, 3)
    allowed = [turn + mirrored for turn in turns for mirrored in ((0, 4) if settings.flip else (0,))]
    choice = torch.randint(0, len(allowed), (len(pictures),), generator=generator, device=generator.device)
    moved = torch.empty_like(pictures)
    for index, which in enumerate(allowed):
        chosen = choice == index
        moved[chosen] = symmetry(pictures[chosen], which)
    return moved


def _resampled(pictures: Tensor, settings: AugmentSettings, generator: torch.Generator) -> Tensor:
    """A share of the pictures turned within ± 45° (`_symmetries` does the rest) and scaled about their middle."""
    n, device = len(pictures), generator.device
    chosen = torch.rand(n, generator=generator, device=device) < settings.resampled
    reach = math.pi / 4 if settings.turn == "any" else 0.0
    angle, size = (torch.rand((2, n), generator=generator, device=device) * 2 - 1) * torch.tensor(
        [[reach], [settings.scale]], device=device
    )
    cos, sin = torch.cos(angle) * torch.exp(size), torch.sin(angle) * torch.exp(size)
    zero = torch.zeros_like(cos)
    maps = torch.stack((torch.stack((cos, -sin, zero), 1), torch.stack((sin, cos, zero), 1)), 1)[chosen]
    if not len(maps):
        return pictures
    grid = functional.affine_grid(maps, list(pictures[chosen].shape), align_corners=False)
    pictures = pictures.clone()
    pictures[chosen] = functional.grid_sample(
        pictures[chosen], grid, mode="bicubic", padding_mode="reflection", align_corners=False
    )
    return pictures


def _shift(pictures: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Each picture moved by whole pixels, up to `most` each way; the edge is mirrored, as in `core.crop`."""
    n, _, height, width = pictures.shape
    device = generator.device
    padded = functional.pad(pictures, (most,) * 4, mode="reflect")[:, 0]
    corner = torch.randint(0, 2 * most + 1, (2, n, 1, 1), generator=generator, device=device)
    rows = corner[0] + torch.arange(height, device=device).view(1, height, 1)
    columns = corner[1] + torch.arange(width, device=device).view(1, 1, width)
    return padded[torch.arange(n, device=device).view(n, 1, 1), rows, columns].unsqueeze(1)


def _refocused(pictures: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """Each picture a little softer or sharper: another optic, or another height of the focus."""
    edge = pictures.shape[-1]
    matrix = torch.from_numpy(gaussian(edge, 0.7 * edge / 40)).to(pictures)
    return pictures + _between(pictures, most, generator) * (matrix @ pictures @ matrix.T - pictures)


def _slopes(pictures: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """A plane of light for each picture (n, 1, S, S)."""
    n, _, height, width = pictures.shape
    strength = (torch.rand((n, 2, 1, 1, 1), generator=generator, device=generator.device) * 2 - 1) * most
    across = torch.linspace(-1, 1, width, device=generator.device).view(1, 1, 1, width)
    down = torch.linspace(-1, 1, height, device=generator.device).view(1, 1, height, 1)
    return strength[:, 0] * across + strength[:, 1] * down


def _between(pictures: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """A number for each picture (n, 1, 1, 1), between -most and most."""
    drawn = torch.rand((len(pictures), 1, 1, 1), generator=generator, device=generator.device)
    return (drawn * 2 - 1) * most
