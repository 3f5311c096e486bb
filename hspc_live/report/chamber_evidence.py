"""All that a chamber run's folder holds, read once for all its pictures: recording, picking list, cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.chamber import ChamberCell, Phase, Revisited
from hspc_live.recording.chamber_reader import ChamberRecording, open_chamber
from hspc_live.report.evidence import TWIN
from hspc_live.report.picking_list import read_picking_list
from hspc_live.stages.picking import PickingList

RECORDING = "recording.h5"
PICKING_LIST = "picking_list.json"


@dataclass(frozen=True, eq=False)
class ChamberEvidence:
    """One run. `source` says whose data it is and stands in every title."""

    recording: ChamberRecording
    source: str
    cells: tuple[ChamberCell, ...]
    listed: PickingList
    revisited: tuple[Revisited, ...]
    summary: Mapping[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes in the model's order."""
        return self.recording.classes

    @cached_property
    def order_of(self) -> dict[int, int]:
        """The place on the picking list of each picked cell."""
        return {pick.cell: pick.order for pick in self.listed.picks}

    def corners_um(self, x_um: float, y_um: float) -> NDArray[np.float64]:
        """The outline of a field with the stage at (x_um, y_um), (4, 2) µm: the outer borders of its corner pixels."""
        camera, affine = self.recording.facts.camera, self.recording.facts.affine
        right, bottom = camera.width_px - 0.5, camera.height_px - 0.5
        corners = np.array([(-0.5, -0.5), (right, -0.5), (right, bottom), (-0.5, bottom)])
        return np.asarray(corners @ affine[:, :2].T + affine[:, 2] + (x_um, y_um))

    def fields_um(self) -> list[tuple[NDArray[np.float64], bool]]:
        """Of every field of the scan its outline, and whether it has a picture."""
        return [
            (self.corners_um(x_um, y_um), pictures > 0)
            for x_um, y_um, pictures in self.recording.places(Phase.SCAN).tolist()
        ]


@contextmanager
def gather_chamber(
    folder: Path, summary: Mapping[str, Any], recording: Path | None = None
) -> Iterator[ChamberEvidence]:
    """Open what lies in `folder`. Raises RecordingError when recording or picking list cannot be read."""
    with open_chamber(recording or folder / RECORDING) as opened:
        yield ChamberEvidence(
            recording=opened,
            source=_source(opened, summary),
            cells=tuple(opened.cells()),
            listed=read_picking_list(folder / PICKING_LIST),
            revisited=tuple(opened.revisited()),
            summary=summary,
        )


def _source(recording: ChamberRecording, summary: Mapping[str, Any]) -> str:
    replayed = summary.get("recording_replayed")
    source = f"run {recording.attributes['run_id']}"
    if recording.facts.camera.model == TWIN:
        source = "Digital twin, simulated cells"
    elif replayed:
        source = f"Recording {Path(replayed).name}"
    if replayed and recording.facts.camera.model == TWIN:
        source += f" (replay of {Path(replayed).name})"
    if str(summary.get("engine", "")).startswith("null"):
        source += " · null engine: says the first class of every cell"
    return source
