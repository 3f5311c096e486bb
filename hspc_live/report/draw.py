"""Draws every picture that a run's folder can give: the one entry of this package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hspc_live.core.errors import OutputError
from hspc_live.report.confusion import draw_confusion
from hspc_live.report.evidence import gather
from hspc_live.report.gallery import draw_gallery
from hspc_live.report.latency import draw_latency
from hspc_live.report.outlets import draw_outlets
from hspc_live.report.overlay import draw_overlays

FIGURES = "figures"


def draw(folder: Path, summary: Mapping[str, Any]) -> list[Path]:
    """Write the pictures of the run in `folder` as PNG files into `folder/figures`; returns their paths.

    `folder` holds `recording.rtdc` and, of a simulated run, `truth.npz` and `pulses.jsonl`; `summary` is the run's
    JSON. What the folder cannot give (no frames kept, no truth, no cells, virtual times) is left out. Pictures of
    an earlier call are replaced.

    Raises RecordingError when the recording cannot be read, OutputError when the pictures cannot be written.
    """
    figures = folder / FIGURES
    with gather(folder, summary) as evidence:
        try:
            figures.mkdir(exist_ok=True)
            return [
                path
                for picture in (draw_overlays, draw_gallery, draw_latency, draw_confusion, draw_outlets)
                for path in picture(evidence, figures)
            ]
        except OSError as error:
            raise OutputError(f"the pictures cannot be written to {figures}: {error.strerror or error}") from error
