"""The cells that promises rest on: scored once, kept beside the card, and combined as a rig combines its looks.

Kept are the logits of every look and not the scores of the cells, so that one file serves every number of looks
(`sort.close.views`), and a temperature fitted anew. The file is safetensors; nothing of it is read before its SHA-256
has been compared with the card's.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import ArrayLike, NDArray

from hspc_live.core.errors import ModelError, OutputError, SettingsError
from hspc_live.stages.gate import combine
from hspc_models.card import CARD_FILE, CalibrationFile, Card, StrangerLimits
from hspc_models.metrics import softmax
from hspc_models.strangers import score_strangeness, stranger_limit

WRONGLY = 0.05
"""Share of known cells that may be called strangers, unless said otherwise."""


@dataclass(frozen=True, slots=True, eq=False)
class CalibrationCells:
    """Labelled cells as a model scored them.

    `logits` (looks, classes) float32, before the temperature, the looks of a cell in order of capture; `cell` (looks,)
    numbers the cells from 0 in order; `kind` (cells,) indexes `kinds`, of which the first are the model's classes and
    the others strangers; `group` (cells,) is what cells are not independent within, or None.
    """

    logits: NDArray[np.float32]
    cell: NDArray[np.int64]
    kind: NDArray[np.int64]
    kinds: tuple[str, ...]
    group: NDArray[np.int64] | None = None

    @property
    def views(self) -> int:
        """The most looks that a cell has."""
        return int(np.bincount(self.cell).max(initial=0))


def calibration_cells(
    logits: NDArray[np.floating],
    of_cell: ArrayLike,
    labels: NDArray[np.int64],
    names: tuple[str, ...],
    classes: tuple[str, ...],
    groups: ArrayLike | None = None,
) -> CalibrationCells:
    """Cells from looks: `logits` (looks, classes), cell `of_cell` (looks,), labels (looks,) into `names`, groups.

    A cell is of the kind, and the group, of its first look.
    """
    kinds = (*classes, *(name for name in names if name not in classes))
    place = np.array([kinds.index(name) for name in names], np.int64)
    _, first, cell = np.unique(np.asarray(of_cell), return_index=True, return_inverse=True)
    order = np.argsort(cell, kind="stable")
    return CalibrationCells(
        np.asarray(logits, np.float32)[order],
        cell[order].astype(np.int64),
        place[np.asarray(labels)[first]],
        kinds,
        None if groups is None else np.unique(np.asarray(groups)[first], return_inverse=True)[1].astype(np.int64),
    )


def cell_scores(
    cells: CalibrationCells, temperature: float, views: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scores (cells, classes) with the first `views` looks of each cell combined, and how many those were (cells,).

    Combined by the very function that combines them in a run.
    """
    # float32, as engines give them: a threshold is the score of a cell, and must not differ in the last bit
    looks = [tuple(row) for row in softmax(cells.logits, temperature).astype(np.float32).tolist()]
    starts = np.searchsorted(cells.cell, np.arange(len(cells.kind) + 1))
    taken = np.minimum(np.diff(starts), views)
    rows = [combine(looks[start : start + n]) for start, n in zip(starts.tolist(), taken.tolist(), strict=False)]
    return np.array(rows, np.float64).reshape(len(rows), cells.logits.shape[1]), taken


def keep_cells(
    folder: Path, card: Card, cells: CalibrationCells, taken: Literal["flow", "crops"], data: str
) -> CalibrationFile:
    """Write the cells beside the card; what the card must say of them. Raises OutputError."""
    content = safetensors.numpy.save(_tensors(cells))
    about = CalibrationFile(
        sha256=hashlib.sha256(content).hexdigest(),
        scored_by=card.weights.sha256,
        data=data,
        taken=taken,
        views=cells.views,
        kinds=cells.kinds,
        counts=tuple(np.bincount(cells.kind, minlength=len(cells.kinds)).tolist()),
        groups=0 if cells.group is None else len(np.unique(cells.group)),
    )
    partial = folder / (about.file + ".partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, folder / about.file)
    except OSError as error:
        raise OutputError(f"{folder / about.file}: cannot be written: {error.strerror or error}") from error
    return about


def load_cells(folder: Path, card: Card) -> CalibrationCells:
    """The calibration cells beside `card` in `folder`.

    Raises SettingsError where the model has none, or those of other weights; ModelError where the file cannot be read,
    is another than the card's, or does not fit the card.
    """
    about = card.calibration
    if about is None:
        raise SettingsError(
            f"model {card.name} has no calibration cells; `hspc-live evaluate {folder} --data FILE --calibrate "
            "--out FOLDER` makes them, of labelled cells that it has not learnt from"
        )
    path = folder / about.file
    if path.parent != folder:
        raise ModelError(f"{folder / CARD_FILE}: calibration.file must lie beside the card, not at {about.file}")
    if about.scored_by != card.weights.sha256:
        raise SettingsError(
            f"{path}: the cells were scored by other weights than those of model {card.name}: calibrate it again with "
            f"`hspc-live evaluate {folder} --data FILE --calibrate --out FOLDER`"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot read the calibration cells: {error.strerror or error}") from error
    if (found := hashlib.sha256(content).hexdigest()) != about.sha256:
        raise ModelError(f"{path}: SHA-256 is {found}, the card expects {about.sha256}")
    try:
        tensors = safetensors.numpy.load(content)
        cells = CalibrationCells(tensors["logits"], tensors["cell"], tensors["kind"], about.kinds, tensors.get("group"))
    except (safetensors.SafetensorError, KeyError) as error:
        raise ModelError(f"{path}: not a file of calibration cells ({error})") from error
    counts = np.bincount(cells.kind, minlength=len(about.kinds)).tolist()
    if cells.logits.shape[1:] != (len(card.classes),) or tuple(counts) != about.counts:
        raise ModelError(f"{path}: does not hold the cells that the card describes")
    return cells


def fit_stranger_limits(cells: CalibrationCells, temperature: float, wrongly: float = WRONGLY) -> StrangerLimits:
    """The limits for 1, 2, … looks combined, from the cells of the model's classes; judged on those of no class."""
    classes = cells.logits.shape[1]
    limits: list[float | None] = []
    found: dict[str, Any] = {}
    known = cells.kind < classes
    for views in range(1, cells.views + 1):
        strangeness = score_strangeness(cell_scores(cells, temperature, views)[0])
        limits.append(stranger_limit("max_score", strangeness[known], wrongly).limit)
        for number in np.unique(cells.kind[~known]).tolist():
            judged = stranger_limit("max_score", strangeness[known], wrongly, strangeness[cells.kind == number])
            found[cells.kinds[number]] = judged.found
    return StrangerLimits(wrongly=wrongly, limits=tuple(limits), calibrated_on=int(known.sum()), found=found)


def _tensors(cells: CalibrationCells) -> dict[str, NDArray[Any]]:
    kept: dict[str, NDArray[Any]] = {"logits": cells.logits, "cell": cells.cell, "kind": cells.kind}
    if cells.group is not None:
        kept["group"] = cells.group
    return {name: np.ascontiguousarray(values) for name, values in kept.items()}
