"""A strip of film for benchmarks: frames with a fixed number of single cells, somewhere along the channel.

Every cell is whole, in focus and clear of its neighbours, so cells a second is a figure about the pipeline and not
about the chance of cells to meet. The optics, the field and the noise are those of the flow channel.
"""

from __future__ import annotations

import numpy as np

from hspc_live.core.errors import SettingsError
from hspc_live.core.values import Pixels
from hspc_live.settings.twin import TwinFlowSettings
from hspc_live.twin.cells import CLASSES, draw
from hspc_live.twin.field import SAMPLE, Sensor, empty_field, generator
from hspc_live.twin.flow import class_shares
from hspc_live.twin.optics import Optics, multiply, place
from hspc_live.twin.phase import path_length

CLEAR_UM = 8.7  # half a crop and a little more: so far from a border a cell can be cropped whole
LEAST_SPACING_UM = 15.0  # half a crop and the largest cell's radius, and a little more: so near, another cell stays out


def film_strip(settings: TwinFlowSettings, frames: int, cells: int) -> list[Pixels]:
    """`frames` frames (height, width) with `cells` cells each, other cells at other places in every frame.

    Raises SettingsError if the cells would come too near to each other to be cropped alone.
    """
    width_um = settings.width_px * settings.um_per_px
    # what is left of the length is shared out at random: cells that kept to their places would become background
    spare_um = width_um - 2 * CLEAR_UM - (cells - 1) * LEAST_SPACING_UM
    if spare_um < 0:
        raise SettingsError(
            f"camera.cells: {cells} cells do not fit {width_um:.0f} µm of channel; they must lie "
            f"{LEAST_SPACING_UM:g} µm from each other and {CLEAR_UM:g} µm from the ends for each to be cropped alone"
        )
    across_um = max(0.0, settings.height_px * settings.um_per_px / 2 - CLEAR_UM)
    optics = Optics.of(settings)
    field = empty_field(settings)
    sensor = Sensor(settings, field.shape)
    scale = settings.um_per_px
    strip: list[Pixels] = []
    for index in range(frames):
        rng = generator(settings.seed, SAMPLE, index)
        light = field.copy()
        for number, share in enumerate(np.sort(rng.uniform(size=cells)).tolist()):
            thing = draw(CLASSES[int(rng.integers(len(CLASSES)))], rng, settings.texture, class_shares(settings))
            picture = optics.contrast(path_length(thing, optics, 0.0), 0.0, 0.0)
            x_um = CLEAR_UM + number * LEAST_SPACING_UM + share * spare_um
            y_um = settings.height_px * scale / 2 + float(rng.uniform(-across_um, across_um))
            multiply(light, *place(picture, x_um / scale, y_um / scale, scale))
        strip.append(sensor.expose(light, rng))
    return strip
