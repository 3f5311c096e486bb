"""Crops from recordings: every view of a flow recording, ours or RT-DC, and every cell of a chamber.

A recording knows what a model said, not what the cells were: crops have a class only where the caller names the sorted
population, a column that holds the truth, or asks for the decisions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import yaml
from numpy.typing import NDArray

from hspc_live.core.chamber import GLOW, FieldObjects
from hspc_live.core.crop import CropGeometry, cut, fits
from hspc_live.core.errors import RecordingError, SettingsError
from hspc_live.core.values import Frame, Pixels
from hspc_live.recording.chamber_reader import open_chamber
from hspc_live.recording.layout import NONE
from hspc_live.recording.own_file import is_chamber
from hspc_live.recording.reader import Recording, open_recording
from hspc_live.recording.recover import Source
from hspc_live.recording.tables import cell_records
from hspc_models.dataset import UNKNOWN, LabelledCrops, Origins
from hspc_models.raw_crops import classes_of

DECISION: Final = "decision"

_UNLABELLED: Final = (
    "{}: no crop has a class; name the sorted population with --label CLASS, or use it for predict only"
)
_DECIDED: Final = "{}: classes are what a model said then, not what the cells were"

Classes = tuple[NDArray[np.int64], tuple[str, ...]]


def read_recording(
    path: Path, label: str | None, names: Mapping[str, str], um_per_px: float | None, geometry: CropGeometry
) -> LabelledCrops:
    """The crops of one recording; it is one group. Those of a flow are cut to `geometry`, those of a chamber were.

    `label` is "decision", a column of `/events`, or the class of the whole recording. Raises RecordingError for a file
    that cannot be read, kept no frames, or shows no cell.
    """
    if not is_chamber(path):
        return _flow(path, label, names, um_per_px, geometry)
    if um_per_px is not None:
        raise SettingsError(f"{path}: its crops have the scale of its model; --um-per-px is not for it")
    return _chamber(path, label)


# ---- flow -----------------------------------------------------------------------------------------------------------


def _flow(
    path: Path, label: str | None, names: Mapping[str, str], um_per_px: float | None, geometry: CropGeometry
) -> LabelledCrops:
    with open_recording(path, um_per_px=um_per_px) as recording:
        recording.check_replayable()
        notes = [f"{path.name}: {warning}" for warning in recording.warnings]
        images, kept, bare = [], [], 0
        backgrounds = _Backgrounds(path, recording)
        um = recording.info.um_per_px
        shape = (recording.info.height_px, recording.info.width_px)
        places = [(row.frame, row.pos_x_um / um, row.pos_y_um / um) for row in recording.rows()]
        cells = _flow_cells(recording, len(places))
        followed = np.ones(len(places), bool) if cells is None else cells != NONE
        for number, (frame, (x_px, y_px)) in enumerate(_frames(recording, places)):
            if not followed[number] or frame is None or not fits(x_px, y_px, shape, um, geometry):
                continue
            background = backgrounds.of(frame)
            bare += background is None
            images.append(cut(frame.pixels, background, x_px, y_px, um, geometry))
            kept.append(number)
        if not images:
            raise RecordingError(f"{path}: none of its {len(places)} rows gives a crop that lies whole in its frame")
        rows = np.array(kept, np.int64)
        labels, classes = _flow_classes(recording, label, names, len(places), notes)
        if strays := int((~followed).sum()):
            notes.append(
                f"{path.name}: {strays} views after a cell was decided left out: whose they are is not recorded, and a "
                "split could part them from their cell"
            )
        if left := int(followed.sum()) - len(rows):
            notes.append(f"{path.name}: {left} of {len(places)} rows left out: crop leaves the frame, or no picture")
        if bare:
            notes.append(f"{path.name}: {bare} crops cut without a background: uneven light stays in them")
        if loss := recording.loss:
            notes.append(f"{path.name}: {loss}")
    return LabelledCrops(
        cast("Pixels", np.stack(images)),
        labels[rows],
        classes,
        np.zeros(len(rows), np.int64),
        geometry.um_per_px,
        path.name,
        (path.stem,),
        origins=Origins((path.name,), np.zeros(len(rows), np.int64), rows),
        cells=None if cells is None else cells[rows],
        notes=tuple(notes),
    )


def _frames(
    recording: Recording, places: list[tuple[int, float, float]]
) -> Iterator[tuple[Frame | None, tuple[float, float]]]:
    """The frame and place (px) of every row; rows of one frame follow each other, so the last one is kept."""
    last, frame = None, None
    for index, x_px, y_px in places:
        if index != last:
            last, frame = index, recording.frame(index)
        yield (frame if np.isfinite(x_px) and np.isfinite(y_px) else None), (x_px, y_px)


class _Backgrounds:
    """The background that a frame was judged with: its own in RT-DC files, the numbered snapshot in ours."""

    def __init__(self, path: Path, recording: Recording) -> None:
        self._of_frame: dict[int, int] = {}
        self._snapshots: dict[int, Pixels] = {}
        if recording.kind == "rtdc":
            return
        source = Source(path)
        try:
            frames, numbers = (source.column(f"hspc/frames/{name}") for name in ("index", "background"))
            snapshots, pictures = (source.column(f"hspc/backgrounds/{name}") for name in ("number", "image"))
            if frames is not None and numbers is not None:
                self._of_frame = dict(zip(frames.tolist(), numbers.tolist(), strict=False))
            if snapshots is not None and pictures is not None:
                self._snapshots = dict(zip(snapshots.tolist(), cast("Any", pictures), strict=False))
        finally:
            source.close()

    def of(self, frame: Frame) -> Pixels | None:
        """Of the frame's shape and dtype; None where there is none."""
        if frame.background is not None:
            return frame.background
        return self._snapshots.get(self._of_frame.get(frame.index, -1))


def _flow_classes(
    recording: Recording, label: str | None, names: Mapping[str, str], n: int, notes: list[str]
) -> Classes:
    path = recording.path
    if label is None:
        notes.append(_UNLABELLED.format(path.name))
        return np.full(n, UNKNOWN, np.int64), ()
    if label == DECISION:
        notes.append(_DECIDED.format(path.name))
        if not recording.classes:
            raise RecordingError(f"{path}: holds no decisions of a model; name its population with --label CLASS")
        said = {record.cell: record.classification for record in cell_records(recording)}
        cells = _flow_cells(recording, n)
        found = [said.get(cell) for cell in ([NONE] * n if cells is None else cells.tolist())]
        place = {name: number for number, name in enumerate(recording.classes)}
        labels = [UNKNOWN if one is None else place.get(one.predicted, UNKNOWN) for one in found]
        return np.array(labels, np.int64), recording.classes
    column = recording.event(label)
    if column is not None:
        return classes_of(np.asarray(column[:n]), path, names, label)
    notes.append(f"{path.name}: all crops are taken for {label}, as told")
    return np.zeros(n, np.int64), (label,)


def _flow_cells(recording: Recording, n: int) -> NDArray[np.int64] | None:
    """(n,) the cell of every row, NONE for a row of no cell; None where no cells were followed."""
    views = recording.table("views")
    cell_of = {view: record.cell for record in cell_records(recording) for view in record.views}
    if views is None or not cell_of:
        return None
    keys = zip(views["frame"].tolist(), views["view"].tolist(), strict=True)
    return np.array([cell_of.get(key, NONE) for key in keys], np.int64)[:n]


# ---- chamber --------------------------------------------------------------------------------------------------------


def _chamber(path: Path, label: str | None) -> LabelledCrops:
    """One crop of every cell, the look that was classified, with its fluorescence."""
    with open_chamber(path) as recording:
        cells = recording.cells()
        if not cells:
            raise RecordingError(f"{path}: holds no cells, as its run was cut off; replay it first")
        looks: dict[int, dict[int, Pixels]] = {}
        images, kept = [], []
        for cell in cells:
            if cell.visit not in looks:
                looks = {cell.visit: _looks(recording.objects(cell.visit))}  # cells come visit by visit
            if (crop := looks[cell.visit].get(cell.view)) is not None:
                images.append(crop)
                kept.append(cell)
        if not images:
            raise RecordingError(f"{path}: none of its {len(cells)} objects was accepted as a cell")
        notes = [f"{path.name}: {warning}" for warning in recording.warnings]
        if loss := recording.loss:
            notes.append(f"{path.name}: {loss}")
        channels = recording.facts.channels[1:]
        classes: tuple[str, ...] = () if label is None else (label,)
        labels = np.full(len(kept), UNKNOWN if label is None else 0, np.int64)
        if label is None:
            notes.append(_UNLABELLED.format(path.name))
        elif label == DECISION:
            notes.append(_DECIDED.format(path.name))
            classes = recording.classes
            said = [cell.classification.predicted if cell.classification else None for cell in kept]
            labels = np.array([UNKNOWN if name not in classes else classes.index(name) for name in said], np.int64)
        else:
            notes.append(f"{path.name}: all crops are taken for {label}, as told")
        scale = _crop_scale(recording.card_yaml)
    return LabelledCrops(
        cast("Pixels", np.stack(images)),
        labels,
        classes,
        np.zeros(len(kept), np.int64),
        scale,
        path.name,
        (path.stem,),
        {name: np.array([cell.features.get(GLOW + name, np.nan) for cell in kept], np.float32) for name in channels},
        Origins((path.name,), np.zeros(len(kept), np.int64), np.array([cell.cell for cell in kept], np.int64)),
        np.array([cell.cell for cell in kept], np.int64),
        tuple(notes),
    )


def _looks(found: FieldObjects | None) -> dict[int, Pixels]:
    """The crops of a visit, by view."""
    if found is None:
        return {}
    accepted = np.flatnonzero(found.result.objects["reject"] == 0).tolist()
    return dict(zip(accepted, found.result.crops, strict=False))


def _crop_scale(card_yaml: str | None) -> float:
    """µm/px of a chamber's crops: its model's, or where it ran without one that of the usual geometry."""
    card = yaml.safe_load(card_yaml) if card_yaml else None
    return float(card["um_per_px"]) if isinstance(card, dict) and "um_per_px" in card else CropGeometry().um_per_px
