"""Draws every picture that the folder of a chamber run can give."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hspc_live.core.chamber import ChamberOutcome
from hspc_live.core.errors import OutputError
from hspc_live.report.chamber_evidence import ChamberEvidence, gather_chamber
from hspc_live.report.chamber_fields import draw_fields
from hspc_live.report.chamber_map import draw_map
from hspc_live.report.draw import FIGURES
from hspc_live.report.size_statistics import compare_sizes
from hspc_live.report.sizes import draw_sizes


def draw_chamber(folder: Path, summary: Mapping[str, Any], recording: Path | None = None) -> list[Path]:
    """Write the pictures of the run in `folder` as PNG (sizes as SVG, too) into `folder/figures`; returns their paths.

    `folder` holds `picking_list.json` and, unless `recording` is somewhere else, `recording.h5`; `summary` is the run's
    JSON. Pictures of an earlier call are replaced.

    Raises RecordingError when the recording cannot be read, OutputError when the pictures cannot be written.
    """
    figures = folder / FIGURES
    with gather_chamber(folder, summary, recording) as evidence:
        try:
            figures.mkdir(exist_ok=True)
            return [path for picture in (draw_map, draw_fields, _draw_sizes) for path in picture(evidence, figures)]
        except OSError as error:
            raise OutputError(f"the pictures cannot be written to {figures}: {error.strerror or error}") from error


def _draw_sizes(evidence: ChamberEvidence, folder: Path) -> list[Path]:
    """Diameters by class, of the cells that a class was said of."""
    of: dict[str, list[float]] = {name: [] for name in evidence.classes}
    for cell in evidence.cells:
        if cell.classification is not None and cell.outcome is not ChamberOutcome.ABSTAINED:
            of[cell.classification.predicted].append(cell.features.get("diameter_um", float("nan")))
    return draw_sizes(compare_sizes(of), folder, evidence.source)
