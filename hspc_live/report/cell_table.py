"""Every object of a chamber as a line of a CSV table: where it lies, its class, what became of it and why."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hspc_live.core.chamber import GLOW, ChamberCell
from hspc_live.core.errors import OutputError
from hspc_live.report.chamber_words import OUTCOMES, why
from hspc_live.report.picking_list import SCORE, SCORE_DIGITS, UM_DIGITS

NAME = "cells.csv"
COLUMNS = ("cell", "x_um", "y_um", "place_sd_um", "diameter_um", "class", "outcome", "why", "order", "field", "view")


def write_cells(
    cells: Sequence[ChamberCell], classes: Sequence[str], folder: Path, channels: Sequence[str] = ()
) -> Path:
    """Write `cells.csv` into `folder`: `COLUMNS`, a `score:<class>` and a `glow:<channel>` each, empty where unknown.

    The light of a channel is in counts above the object's surroundings, of the look that was judged.

    `place_sd_um` is the standard deviation per axis of where the object lay when it was last seen, as the stage reads;
    what a pick has to reckon with besides is in the picking list. `field` and `view` count from 0 and name the look
    that was judged. Raises OutputError, also where the file exists.
    """
    path = folder / NAME
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            lights = [GLOW + name for name in channels]
            writer = csv.DictWriter(file, [*COLUMNS, *(SCORE + name for name in classes), *lights])
            writer.writeheader()
            writer.writerows({**_row(cell, classes), **_light(cell, lights)} for cell in cells)
    except FileExistsError as error:
        raise OutputError(f"{path} exists: nothing is ever overwritten") from error
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def _row(cell: ChamberCell, classes: Sequence[str]) -> dict[str, Any]:
    found = cell.classification
    scores = {} if found is None else dict(zip(classes, found.scores, strict=True))
    return {
        "cell": cell.cell,
        "x_um": f"{cell.x_um:.{UM_DIGITS}f}",
        "y_um": f"{cell.y_um:.{UM_DIGITS}f}",
        "place_sd_um": f"{cell.sd_um:.{UM_DIGITS}f}",
        "diameter_um": f"{cell.features['diameter_um']:.{UM_DIGITS}f}" if "diameter_um" in cell.features else "",
        "class": "" if found is None else found.predicted,
        "outcome": OUTCOMES[cell.outcome],
        "why": why(cell),
        "order": "" if cell.order is None else cell.order,
        "field": cell.visit,
        "view": cell.view,
        **{SCORE + name: f"{score:.{SCORE_DIGITS}f}" for name, score in scores.items()},
    }


def _light(cell: ChamberCell, names: Sequence[str]) -> dict[str, str]:
    """The light in each channel, by its name in the features; left out where it was not measured."""
    found = {name: cell.features.get(name, math.nan) for name in names}
    return {name: f"{light:.{UM_DIGITS}f}" for name, light in found.items() if math.isfinite(light)}
