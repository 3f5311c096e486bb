"""Which crops the trainings of a learning curve get: nested within a repeat, drawn anew for each.

Within a repeat a smaller fraction is a part of every larger one, so that its curve shows what adding crops does and
not which crops were drawn; repeats are independent draws. Crops of one cell, and copies of a picture, come together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import RecordingError, SettingsError
from hspc_models.dataset import LabelledCrops
from hspc_models.splits import units_of

Rows = NDArray[np.int64]

_FEWEST = 2
"""Cells of each class without which no training can be judged by parts of itself, nor have a tutor."""


def nested_draws(
    crops: LabelledCrops,
    fractions: Sequence[float],
    seed: int,
    draw: Literal["cells", "groups"],
    units: Rows,
    cells: Rows,
) -> list[Rows]:
    """Rows for every one of `fractions`, each ascending. Of "cells" every class gives its share, rounded up to 2 cells.

    `units` (n,) number what comes together, as `drawing_units` has it of `draw`, and `cells` (n,) as it has of "cells".
    Raises RecordingError where a fraction leaves a class with fewer than two cells; copies and views of one count once.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(int(units.max()) + 1)
    place = np.argsort(order)[units]  # where each crop's unit stands in this repeat's order
    if draw == "groups":
        turns = np.searchsorted(np.unique(place), place)
        count = int(turns.max()) + 1
        drawn = [np.flatnonzero(turns < max(1, round(fraction * count))) for fraction in fractions]
    else:
        drawn = [np.sort(np.concatenate(list(_shares(crops.labels, place, fraction)))) for fraction in fractions]
    for fraction, rows in zip(fractions, drawn, strict=True):
        for label, name in enumerate(crops.names):
            count = len(np.unique(cells[rows[crops.labels[rows] == label]]))
            if count < _FEWEST:
                what = f"{fraction:g} of the {'groups' if draw == 'groups' else 'crops'}"
                raise RecordingError(
                    f"{crops.provenance}: {what} holds {count} crops of {name} (copies and views of one cell count "
                    f"once), and {_FEWEST} are needed; take larger curve.fractions"
                    + (", or draw: cells" if draw == "groups" else ", or add crops")
                )
    return drawn


def drawing_units(crops: LabelledCrops, draw: Literal["cells", "groups"]) -> Rows:
    """(n,) numbers from 0 of what is drawn as one: cells with their copies, or whole groups. Raises SettingsError."""
    units = units_of(crops, "group" if draw == "groups" else "random")
    if draw == "groups" and (count := int(units.max()) + 1) < 2:
        raise SettingsError(
            f"curve.draw: groups, but the training crops of {crops.provenance} come in {count} group; name a column "
            "with --set source.group_by=COLUMN, or draw cells"
        )
    return units


def _shares(labels: Rows, place: Rows, fraction: float) -> list[Rows]:
    """Of every class the crops of the first units that hold its share."""
    found = []
    for label in range(int(labels.max()) + 1):
        own = np.flatnonzero(labels == label)
        ordered = own[np.argsort(place[own], kind="stable")]
        wanted = min(len(own), max(_FEWEST, round(fraction * len(own))))
        if wanted:
            second = np.flatnonzero(place[ordered] != place[ordered[0]])[:1]  # views of one cell cannot be parted
            wanted = max(wanted, *(second + 1).tolist(), 0)
            # the unit that crosses the share comes whole, or views of one cell would be parted
            wanted = int(np.flatnonzero(place[ordered] == place[ordered[wanted - 1]])[-1]) + 1
        found.append(ordered[:wanted])
    return found
