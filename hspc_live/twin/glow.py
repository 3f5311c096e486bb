"""The second channel: light that a marker in the cytoplasm gives off, and the field it is seen in.

Emission is proportional to the thickness of the cell along the light, so it is a path length of the same globes as in
transmitted light, with electrons for a refractive index. The objective blurs it in the same way; a share of it is
spread widely by layers out of focus.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from hspc_live.settings.chamber_twin import Expression, TwinChamberSettings
from hspc_live.twin.cells import CLASSES
from hspc_live.twin.field import GLOW, full_scale, generator
from hspc_live.twin.optics import FINE_UM, Image, Optics
from hspc_live.twin.phase import PhaseObject, path_length

_HAZE_UM = 1.6


class Shine(NamedTuple):
    """Light of one globe: electrons a pixel at its middle at the nominal exposure, and whether it has the marker."""

    electrons: float
    marked: bool


def expressions(settings: TwinChamberSettings) -> dict[str, Expression]:
    """How each class expresses the marker."""
    marker = settings.fluorescence
    return dict(zip(CLASSES, (marker.lt_hsc, marker.st_hsc, marker.mpp), strict=True))


def shine(settings: TwinChamberSettings, number: int, thing: PhaseObject) -> tuple[Shine, ...]:
    """How each of the object's globes glows. Object `number` has a generator of its own.

    What is no cell (debris, beads) gives off nothing; dead cells only their autofluorescence, and much of it.
    """
    marker, rules = settings.fluorescence, expressions(settings)
    if thing.kind == "dead":
        return (Shine(5 * marker.autofluorescence_e, False),) * len(thing.globes)
    names = [name for name, count in zip(CLASSES, thing.members, strict=True) for _ in range(count)]
    rng = generator(settings.seed, GLOW, number)
    glow = []
    for name in names:
        rule = rules[name]
        marked, high = rng.random() < rule.share, rng.random() < rule.high_share
        own = rule.median_e * np.exp(rule.spread * rng.standard_normal()) * (rule.high_factor if high else 1.0)
        auto = marker.autofluorescence_e * np.exp(0.3 * rng.standard_normal())
        glow.append(Shine(float(auto + (own if marked else 0.0)), bool(marked)))
    return tuple(glow) if names else (Shine(0.0, False),) * len(thing.globes)


def emission(
    thing: PhaseObject, glow: tuple[Shine, ...], optics: Optics, defocus_um: float, haze: float
) -> Image | None:
    """Electrons a camera pixel on the fine grid, centred on the object; None where nothing glows."""
    if not any(one.electrons for one in glow):
        return None
    bodies = tuple(
        replace(globe, contrast=one.electrons / (2 * globe.radius_um), nucleus_form=None, blobs=np.zeros((0, 5)))
        for globe, one in zip(thing.globes, glow, strict=True)
    )
    sharp = path_length(replace(thing, globes=bodies), optics, defocus_um)
    margin = int(3 * _HAZE_UM / FINE_UM)
    roomy = cv2.copyMakeBorder(sharp, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=(0.0,))
    wide = cv2.GaussianBlur(roomy, (0, 0), _HAZE_UM / FINE_UM)
    return optics.over_pixels(np.asarray((1 - haze) * roomy + haze * wide, np.float32))


def dark_field(settings: TwinChamberSettings) -> tuple[Image, Image]:
    """Relative excitation and background light in counts at the nominal exposure, each (height, width) float32."""
    marker = settings.fluorescence
    x = np.linspace(-0.5, 0.5, settings.width_px, dtype=np.float32)
    y = np.linspace(-0.5, 0.5, settings.height_px, dtype=np.float32)[:, None]
    excitation = 1 - np.float32(marker.illumination_slope) * ((x - np.float32(0.1)) ** 2 + y * y) * np.float32(2)
    return excitation, excitation * np.float32(marker.background_e * counts_per_electron(settings))


def counts_per_electron(settings: TwinChamberSettings) -> float:
    """The camera's gain."""
    return full_scale(settings) / settings.full_well_e
