"""Many labelled crops, quickly: single cells under the same optics, light, noise and defocus as in the flow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.crop import CropGeometry, cut
from hspc_live.core.values import Pixels
from hspc_live.settings.twin import TwinFlowSettings
from hspc_live.twin.cells import CLASSES, draw
from hspc_live.twin.field import SAMPLE, Sensor, empty_field, generator
from hspc_live.twin.flow import class_shares
from hspc_live.twin.optics import Image, Optics, multiply, place
from hspc_live.twin.phase import PhaseObject, path_length

GEOMETRY = CropGeometry()


@dataclass(frozen=True, slots=True, eq=False)
class Crops:
    """`crops` (n, S, S) in the camera's dtype; `labels` (n,) indices into `kinds`; `diameters_um` (n,); `cells` (n,)
    numbers that crops of one and the same cell share; `defocus_um` (n,).
    """

    kinds: tuple[str, ...]
    crops: Pixels
    labels: NDArray[np.int64]
    diameters_um: NDArray[np.float64]
    cells: NDArray[np.int64]
    defocus_um: NDArray[np.float64]


def sample_crops(
    settings: TwinFlowSettings,
    n: int,
    seed: int,
    *,
    kinds: tuple[str, ...] = CLASSES,
    looks: int = 1,
    position_sd_um: float = 0.0,
    geometry: CropGeometry = GEOMETRY,
) -> Crops:
    """Film `n` crops of objects of `kinds` in turn (equal shares), `looks` crops of each object at different places.

    Each crop is cut by `core.crop.cut` from a small frame and its true background, at a random place of the field (the
    field is that of `settings.seed`; `seed` draws the cells). `position_sd_um` displaces the crop's centre, as a
    measured position would. Objects far out of focus and neighbours reaching into the crop are left out. Crop i does
    not depend on n.
    """
    um = settings.um_per_px
    margin = int(np.ceil(geometry.width_um / um / 2)) + 6  # what `cut` reads about the centre, and the displacement
    edge = 2 * margin + 1
    roomy = {"width_px": max(settings.width_px, edge), "height_px": max(settings.height_px, edge)}
    field = empty_field(settings.model_copy(update=roomy))
    sensor = Sensor(settings, (edge, edge))
    crops = np.empty((n, geometry.size_px, geometry.size_px), np.uint8 if settings.bits == 8 else np.uint16)
    cells = np.arange(n) // looks
    labels = cells % len(kinds)
    diameters, defocus = np.empty(n), np.empty(n)
    for cell in range(cells[-1] + 1 if n else 0):
        rng = generator(seed, SAMPLE, cell)
        thing = draw(kinds[cell % len(kinds)], rng, settings.texture, class_shares(settings))
        z = settings.focus_sd_um * float(np.clip(rng.standard_normal(), -4, 4))
        picture = _picture(thing, z, settings)
        for i in range(cell * looks, min(n, (cell + 1) * looks)):
            y0, x0 = (int(rng.integers(0, length - edge + 1)) for length in field.shape)
            empty = np.ascontiguousarray(field[y0 : y0 + edge, x0 : x0 + edge])
            x, y = margin + rng.uniform(-0.5, 0.5, 2)
            light = empty.copy()
            multiply(light, *place(picture, x, y, um))
            dx, dy = np.clip(position_sd_um / um * rng.standard_normal(2), -4, 4)
            pixels = sensor.expose(light, rng)
            crops[i] = cut(pixels, sensor.quantise(empty), x + dx, y + dy, um, geometry)
            diameters[i], defocus[i] = thing.diameter_um, z
    return Crops(kinds, crops, labels, diameters, cells, defocus)


def _picture(thing: PhaseObject, defocus_um: float, settings: TwinFlowSettings) -> Image:
    """The object's contrast, moving with the mean velocity."""
    optics = Optics.of(settings)
    motion_um = settings.velocity_um_s * settings.exposure_us * 1e-6
    return optics.contrast(path_length(thing, optics, defocus_um), defocus_um, motion_um)
