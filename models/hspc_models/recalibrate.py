"""Labelled crops as a model's calibration cells: what `hspc-live evaluate --calibrate` keeps beside the card.

They must be cells that neither training nor temperature saw. That no crop is a copy of a training crop is checked
where the training crops are given; that the temperature did not see them is for the person to know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import OutputError, SettingsError
from hspc_models.calibration_cells import CalibrationCells, calibration_cells, fit_stranger_limits, keep_cells
from hspc_models.card import SCALE_TOLERANCE, Card, shipped_models, write_card
from hspc_models.dataset import LabelledCrops
from hspc_models.judged import Chosen


def check_calibrates(folder: Path, card: Card, crops: LabelledCrops, chosen: Chosen) -> None:
    """Refuse crops that no promise can rest on. Raises SettingsError naming the mend."""
    if folder.parent == shipped_models():
        raise SettingsError(
            f"--calibrate: {card.name} is shipped with the program and stays as it is; copy {folder} to a folder of "
            "your own and calibrate that"
        )
    if chosen.missing:
        raise SettingsError(
            f"--calibrate: {crops.provenance} has no crops of {', '.join(chosen.missing)}; a promise needs cells of "
            "every class"
        )
    if chosen.left_out:
        raise SettingsError(
            "--calibrate: judge all crops, without --classes, and name every one's class: "
            + ", ".join(f"{name} {count}" for name, count in chosen.left_out.items())
            + " are left out"
        )
    if not crops.scaled:
        raise SettingsError(
            f"--calibrate: the scale of {crops.provenance} is not known; give it with --um-per-px, for crops of "
            "another scale show other detail than the model will see"
        )
    if abs(math.log(crops.um_per_px / card.um_per_px)) > math.log(1 + SCALE_TOLERANCE):
        raise SettingsError(
            f"--calibrate: {crops.provenance} has {crops.um_per_px:g} µm/px, model {card.name} {card.um_per_px:g}: "
            "crops of another microscope cannot calibrate it"
        )


def recalibrate(
    folder: Path,
    card: Card,
    chosen: Chosen,
    raw: NDArray[np.float64],
    stranger_raw: NDArray[np.float64],
    overlap: Mapping[str, Any],
) -> Card:
    """Keep the judged cells beside the card, strangers among them, and rewrite the card; the new card.

    `raw` and `stranger_raw` are the logits of the cells and of the strangers; `overlap` is `judged.overlap`'s. Raises
    SettingsError for copies of training crops, OutputError where the folder cannot be written.
    """
    if overlap.get("copies"):
        raise SettingsError(
            f"--calibrate: {overlap['copies']} of {overlap['n']} cells are copies of crops that the model learnt from; "
            "on those it is surer, and righter, than on new ones. Leave them out"
        )
    checked = "no copy of a training crop" if overlap.get("checked") else "not compared with what the model learnt from"
    # cells of one mouse say nothing of the next one, and a promise that rests on them must not hide it
    apart = (
        f"{len(np.unique(chosen.cells.groups))} groups" if chosen.unit == "groups" else "one group, or none was told"
    )
    data = f"{chosen.cells.provenance} ({checked}; {apart})"
    cells = _cells(card, chosen, raw, stranger_raw)
    about = keep_cells(folder, card, cells, "crops", data)
    made = card.model_copy(update={"calibration": about, "strangers": fit_stranger_limits(cells, card.temperature)})
    try:
        write_card(folder, made)
    except OSError as error:
        raise OutputError(f"{folder}: the card cannot be written: {error.strerror or error}") from error
    return made


def _cells(card: Card, chosen: Chosen, raw: NDArray[np.float64], stranger_raw: NDArray[np.float64]) -> CalibrationCells:
    """Cells and strangers in one; crops that share a cell are its looks, in their order."""
    both = (chosen.cells, chosen.strangers)
    names = (*card.classes, *chosen.strangers.names)
    labels = np.concatenate([chosen.cells.labels, chosen.strangers.labels + len(card.classes)])
    rows = np.concatenate([chosen.rows, chosen.stranger_rows])
    looks_of = [crops.cells for crops in both]
    of_cell = rows if looks_of[0] is None or looks_of[1] is None else np.concatenate([looks_of[0], looks_of[1]])
    groups = np.concatenate([crops.groups for crops in both])
    return calibration_cells(
        np.concatenate([raw, stranger_raw]),
        of_cell,
        labels,
        names,
        card.classes,
        groups if chosen.unit == "groups" else None,
    )
