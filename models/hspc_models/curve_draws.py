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
"""Crops of each class without which no training can be judged by parts of itself."""


def nested_draws(
    crops: LabelledCrops, fractions: Sequence[float], seed: int, draw: Literal["cells", "groups"], units: Rows
) -> list[Rows]:
    """Rows for every one of `fractions`, each ascending. Of "cells" every class gives its share, rounded up to 2 crops.

    `units` (n,) number what comes together, as `drawing_units` has it. Raises RecordingError where a fraction leaves a
    class with fewer than two crops.
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
        counts = np.bincount(crops.labels[rows], minlength=len(crops.names))
        for name, count in zip(crops.names, counts.tolist(), strict=True):
            if count < _FEWEST:
                what = f"{fraction:g} of the {'groups' if draw == 'groups' else 'crops'}"
                raise RecordingError(
                    f"{crops.provenance}: {what} holds {count} crops of {name}, and {_FEWEST} are needed; take larger "
                    "curve.fractions" + (", or draw: cells" if draw == "groups" else ", or add crops")
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
            # the unit that crosses the share comes whole, or views of one cell would be parted
            wanted = int(np.flatnonzero(place[ordered] == place[ordered[wanted - 1]])[-1]) + 1
        found.append(ordered[:wanted])
    return found
