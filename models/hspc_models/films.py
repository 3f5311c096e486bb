"""Films of the digital twin, taken through the real background and segmentation, and labelled with the truth.

What comes out is what the classifier meets live: centres as segmentation finds them, backgrounds as estimated from the
frames, and the strangers that pass as cells.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from hspc_live.core.crop import CropGeometry
from hspc_live.core.values import Pixels, Reject
from hspc_live.settings.segment import BackgroundSettings, SegmentSettings
from hspc_live.settings.twin import TwinFlowSettings
from hspc_live.stages.background import Background
from hspc_live.stages.segment import Segmenter
from hspc_live.twin.flow import FlowTwin, mid_exposure_ns
from hspc_live.twin.truth import match
from hspc_models.dataset import LabelledCrops

_SETTLING_FRAMES = 50
"""The first background is a guess from one frame; what it shows is not representative."""


def film(
    twin: TwinFlowSettings,
    segment: SegmentSettings,
    background: BackgroundSettings,
    geometry: CropGeometry,
    frames: int,
) -> LabelledCrops:
    """Every accepted view in `frames` frames after the background has settled, in order of capture.

    Labels are the twin's kinds, groups the number of the object. Views of nothing true are left out.
    """
    camera = FlowTwin(twin)
    info = camera.info()
    total = frames + _SETTLING_FRAMES
    truth = camera.truth(total, start_ns=0)
    maker = Background(background, (info.height_px, info.width_px), np.dtype(info.dtype))
    segmenter = Segmenter(segment, info.um_per_px, info.modality, geometry)
    snapshot = None
    images: list[Pixels] = []
    objects: list[int] = []
    for index in range(total):
        pixels = camera.render(index)
        captured_ns = mid_exposure_ns(twin, index)
        snapshot = maker.update(pixels, captured_ns) or snapshot
        if snapshot is None or index < _SETTLING_FRAMES:
            continue
        result = segmenter(index, captured_ns, pixels, snapshot.pixels, snapshot.number, snapshot.noise_sd)
        # rejected objects take part in the matching, or their truth would go to a neighbour
        ids = match(truth, index, result.objects["x_um"], result.objects["y_um"])
        accepted = ids[result.objects["reject"] == Reject.ACCEPTED]
        for crop, number in zip(result.crops, accepted.tolist(), strict=True):
            if number >= 0:
                images.append(crop)
                objects.append(number)
    groups = np.asarray(objects, np.int64)
    size = geometry.size_px
    return LabelledCrops(
        cast("Pixels", np.stack(images) if images else np.empty((0, size, size), np.dtype(info.dtype))),
        truth.objects["kind"][groups].astype(np.int64),
        truth.kinds,
        groups,
        geometry.um_per_px,
        f"film of the twin, seed {twin.seed}, {frames} frames",
    )
