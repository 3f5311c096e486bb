"""Predictions as a CSV table: one crop a line, with its scores and everything that is known of where it came from."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import OutputError
from hspc_models.apply import Applied

TABLE = "predictions.csv"


def write_predictions(
    path: Path, applied: Applied, scores: NDArray[np.float64], ranked: NDArray[np.integer] | None = None
) -> Path:
    """Write the crops of scores (n, classes) in their order; or the `ranked` rows only, with a column `rank` from 1.

    `index` is the place of a crop in its source, from 0. What is unknown is left empty. Raises OutputError.
    """
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([*(() if ranked is None else ("rank",)), *_heads(applied)])
            rows = range(len(scores)) if ranked is None else ranked.tolist()
            for rank, row in enumerate(rows, 1):
                writer.writerow([*(() if ranked is None else (rank,)), *_line(applied, scores, row)])
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def _heads(applied: Applied) -> Iterator[str]:
    crops = applied.crops
    yield from ("index", "predicted", *(f"score:{name}" for name in applied.card.classes), "label", "group")
    if crops.cells is not None:
        yield "cell"
    if crops.origins is not None:
        yield from ("file", "row")
    yield from (f"fluorescence:{channel}" for channel in crops.fluorescence)


def _line(applied: Applied, scores: NDArray[np.float64], row: int) -> Iterator[object]:
    """The columns of one crop, in the order of the heads."""
    crops, own = applied.crops, scores[row]
    yield from (row, applied.card.classes[int(own.argmax())], *(f"{score:.6g}" for score in own))
    label = int(crops.labels[row])
    yield from ("" if label < 0 else crops.names[label], crops.group_name(int(crops.groups[row])))
    if crops.cells is not None:
        yield int(crops.cells[row])
    if crops.origins is not None:
        yield from (crops.origins.files[crops.origins.file[row]], int(crops.origins.row[row]))
    values = (float(column[row]) for column in crops.fluorescence.values())
    yield from ("" if math.isnan(value) else f"{value:.7g}" for value in values)
