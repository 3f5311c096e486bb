"""A few fields of a chamber run with everything that was found in them drawn in: what was seen, what was made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from hspc_live.core.chamber import ChamberCell, ChamberOutcome, Phase
from hspc_live.report import style
from hspc_live.report.chamber_evidence import ChamberEvidence
from hspc_live.report.chamber_words import LEFT_OUT
from hspc_live.report.field_overlay import field_figure
from hspc_live.stages.field import FieldResult, Reason
from hspc_live.stages.picking import LeftOut

UNSURE = "not sure enough"
UNSURE_COLOUR = "#FFFFFF"


def draw_fields(evidence: ChamberEvidence, folder: Path) -> list[Path]:
    """Write `field_<visit>.png` for the fields that `choose_fields` names; none where they were not kept."""
    if not evidence.recording.has_pictures:
        return []
    figures = ((number, seen_figure(evidence, number)) for number in choose_fields(evidence))
    return [
        style.save(figure, folder / f"field_{number + 1:04d}.png") for number, figure in figures if figure is not None
    ]


def seen_figure(evidence: ChamberEvidence, number: int) -> Figure | None:
    """The picture of one visit, its cells named as they were judged; None where the recording has no picture of it."""
    visit, found = evidence.recording.visit(number), evidence.recording.objects(number)
    if found is None or not visit.pictures:
        return None
    colours = style.class_colours(evidence.classes)
    cell_of = {look: cell for cell in evidence.cells for look in cell.looks}
    views = [view for view, reason in enumerate(found.reasons) if not reason]
    said = [_said(evidence, cell_of.get((number, view)), colours) for view in views]
    counts = Counter(name for name, _, _ in said)
    meaning = {**colours, UNSURE: UNSURE_COLOUR}
    return field_figure(
        visit.pictures[0].frame.pixels,
        FieldResult(found.result, found.whole, tuple(_reason(r) for r in found.reasons), found.labels),
        float(abs(np.linalg.det(evidence.recording.facts.affine[:, :2])) ** 0.5),
        f"{evidence.source}   ·   field {number + 1}, stage at ({visit.x_um:.0f}, {visit.y_um:.0f}) µm",
        [label for _, label, _ in said],
        [colour for _, _, colour in said],
        {f"{name}: {counts[name]}": colour for name, colour in meaning.items() if counts[name]},
    )


def choose_fields(evidence: ChamberEvidence) -> list[int]:
    """The fields with most picks, most wanted cells left out, and most cells; each once."""
    scanned = evidence.recording.numbers(Phase.SCAN)
    picks = Counter(pick.field for pick in evidence.listed.picks)
    left_out = {number for number, _ in evidence.listed.left_out}
    out = Counter(cell.visit for cell in evidence.cells if cell.cell in left_out)
    cells = Counter(cell.visit for cell in evidence.cells if cell.classification is not None)
    chosen: list[int] = []
    for counts in (picks, out, cells):
        best = max((n for n in scanned if n not in chosen), key=lambda n: (counts[n], -n), default=None)
        if best is not None and (counts[best] or not chosen):
            chosen.append(best)
    return chosen


def _said(evidence: ChamberEvidence, cell: ChamberCell | None, colours: Mapping[str, str]) -> tuple[str, str, str]:
    """Of an accepted object what was made of it, in words for the legend and beside it, and its colour."""
    if cell is None or cell.classification is None:
        return UNSURE, "", UNSURE_COLOUR
    found = cell.classification
    label = f"{found.predicted} {max(found.scores):.2f}"
    if cell.outcome is ChamberOutcome.ABSTAINED:
        return UNSURE, f"{label}?", UNSURE_COLOUR
    order = evidence.order_of.get(cell.cell)
    if order is not None:
        label = f"pick {order}\n{label}"
    elif cell.outcome is ChamberOutcome.LEFT_OUT:
        label += f"\n{LEFT_OUT[LeftOut(cell.reason)]}"
    return found.predicted, label, colours[found.predicted]


def _reason(reason: str) -> Reason | None:
    return Reason(reason) if reason else None
