"""One visited field: its picture segmented, its cells' light in further channels, its objects placed on the stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from hspc_live.core.chamber import GLOW, ChamberFacts, FieldObjects, Floats, Phase, Picture, Visit
from hspc_live.core.crop import CropGeometry
from hspc_live.core.values import Detection
from hspc_live.settings.chamber import PositionSettings
from hspc_live.settings.segment import SegmentSettings
from hspc_live.stages.affine import Affine, apply
from hspc_live.stages.field import FieldSegmenter, Reason
from hspc_live.stages.looks import Look
from hspc_live.stages.revisit import Picture as NewPicture
from hspc_live.stages.stretch import Stretch
from hspc_live.stages.tiling import footprint

TOUCH_UM = 3.0
TOUCH_SHARE = 0.25
"""Objects whose outlines are nearer than that may be outlined otherwise next time: ± that share of their radius."""


class FieldWork:
    """Everything that is done with a picture before it is classified. Not for several threads at once."""

    def __init__(
        self, facts: ChamberFacts, segment: SegmentSettings, position: PositionSettings, geometry: CropGeometry
    ) -> None:
        self._affine = Affine(facts.affine, facts.affine_covariance)
        self.um_per_px = float(abs(np.linalg.det(facts.affine[:, :2])) ** 0.5)
        self._segmenter = FieldSegmenter(segment, self.um_per_px, facts.camera.modality, geometry)
        self._size = np.array([facts.camera.width_px, facts.camera.height_px])
        self._footprint = footprint(self._affine, facts.camera.width_px, facts.camera.height_px)
        self._position = position

    def find(self, visit: Visit) -> FieldObjects:
        """What a visit's pictures show."""
        frame = visit.pictures[0].frame
        found = self._segmenter.field(frame.pixels, frame.index, frame.captured_ns)
        reasons = tuple("" if reason is None else reason.value for reason in found.reasons)
        glow = {picture.channel: _glow(picture, found.labels, found.whole) for picture in visit.pictures[1:]}
        doubts = tuple(doubt.value for doubt in found.doubts)
        return FieldObjects(found.frame, found.whole, reasons, found.labels, glow, doubts)

    def looks(self, visit: Visit, objects: FieldObjects) -> list[Look]:
        """The objects in stage coordinates; places are unsure by centroid and calibration.

        Accepted are those that can be classified; on a second visit all whole cells, for which nothing is cut out.
        """
        fit = objects.whole.tolist() if visit.phase is Phase.REVISIT else [not reason for reason in objects.reasons]
        rows = objects.result.objects
        pixels = np.column_stack([rows["x_um"], rows["y_um"]]) / self.um_per_px
        centroid_px = self._position.centroid_sd_um / self.um_per_px
        places = apply(self._affine, pixels.reshape(-1, 2), centroid_sd_px=centroid_px)
        sds = np.hypot(places.sd, _unsure_by_touch(places.xy, rows["diameter_um"] / 2))
        border = np.minimum(pixels, self._size - 1 - pixels).min(axis=1, initial=np.inf) * self.um_per_px
        captured_ns = visit.pictures[0].frame.captured_ns
        return [
            Look(
                field=visit.number,
                view=view,
                captured_ns=captured_ns,
                x_um=visit.x_um + x,
                y_um=visit.y_um + y,
                sd_um=sd,
                radius_um=diameter / 2,
                border_um=edge,
                sharpness=sharpness,
                accepted=accepted,
                # a piece that the border cuts off may pass for debris, and its middle is not that of its cell
                whole=reason != Reason.BORDER and edge > diameter / 2,
            )
            for view, ((x, y), sd, diameter, edge, sharpness, reason, accepted) in enumerate(
                zip(
                    places.xy.tolist(),
                    sds.tolist(),
                    rows["diameter_um"].tolist(),
                    border.tolist(),
                    rows["sharpness"].tolist(),
                    objects.reasons,
                    fit,
                    strict=True,
                )
            )
        ]

    def straighten(self, stretch: Stretch) -> None:
        """From now on places are without the calibration's error that the overlaps of the scan have told."""
        matrix = self._affine.matrix
        rows = matrix.T @ stretch.covariance @ matrix
        self._affine = Affine((np.eye(2) - stretch.matrix) @ matrix, np.asarray(np.kron(np.eye(2), rows), np.float64))

    def picture(self, visit: Visit, looks: Sequence[Look]) -> NewPicture:
        """A second visit, as `stages.revisit` compares it with the first."""
        shows = self._footprint
        x, y = visit.x_um + shows.centre_x_um, visit.y_um + shows.centre_y_um
        half_x, half_y = shows.width_um / 2, shows.height_um / 2
        captured_ns = visit.pictures[0].frame.captured_ns
        return NewPicture(visit.number, captured_ns, x - half_x, y - half_y, x + half_x, y + half_y, tuple(looks))


def _unsure_by_touch(xy: Floats, radius_um: Floats) -> Floats:
    """± of the middles (n, 2) besides, µm per axis (n,): where objects all but touch, the line between them is a guess,
    and may be drawn elsewhere in the next picture.
    """
    unsure = np.zeros(len(xy))
    pairs = cKDTree(xy).query_pairs(2 * float(radius_um.max(initial=0.0)) + TOUCH_UM, output_type="ndarray")
    gaps = np.hypot(*(xy[pairs[:, 0]] - xy[pairs[:, 1]]).T) - radius_um[pairs].sum(axis=1)
    touching = np.unique(pairs[gaps < TOUCH_UM])
    unsure[touching] = TOUCH_SHARE * radius_um[touching]
    return unsure


def features(objects: FieldObjects, view: int) -> Mapping[str, float]:
    """What was measured on one object, by name: those of `Detection`, and the light in further channels."""
    row = dict(zip(Detection._fields, objects.result.objects[view].tolist(), strict=True))
    del row["reject"]
    return {**row, **{GLOW + channel: float(light[view]) for channel, light in objects.glow.items()}}


def _glow(picture: Picture, labels: NDArray[np.uint16], whole: NDArray[np.bool_]) -> Floats:
    """Mean light of every labelled object above the picture's median, (n,), NaN for what has no label.

    Most of a field is empty, so the median is what medium and stray light give.
    """
    pixels = picture.frame.pixels
    flat = labels.ravel()
    counts = np.bincount(flat, minlength=int(whole.sum()) + 1)
    sums = np.bincount(flat, weights=pixels.ravel(), minlength=len(counts))
    light = np.full(len(whole), np.nan)
    light[whole] = sums[1:] / np.maximum(counts[1:], 1) - float(np.median(pixels))
    return light
