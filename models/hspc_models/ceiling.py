"""How good could a classifier of these crops become? What can be said of that from what several made of them.

Labels from a stain are cut from something continuous, so cells near a cut look like their neighbours and no picture
can part them. A cell that classifiers of different kinds, none of which has seen it, give the *same wrong* class looks
to all of them like that class; cells on which they differ, or one is right, are still to be won. So the share of cells
that are not mistaken in common is what this calls the believed ceiling. It is no bound: a new kind of classifier may
see what the others all miss, and one that is as good as today's may be wrong about other cells by chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hspc_models.metrics import Labels, balanced_accuracy, confusion


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Balanced accuracies: of the best classifier, and of one that errs only where all err alike.

    `agreement`: share of cells that all give the same class. `neighbours`: share of the best one's mistakes that are
    off by one class, in the order of the classes; `neighbours_by_chance`: what it would be if any other class were as
    likely.
    """

    best: str
    reached: float
    believed: float
    agreement: float
    neighbours: float
    neighbours_by_chance: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


def believed_ceiling(labels: Labels, predicted: Mapping[str, Labels], classes: int) -> Ceiling:
    """From the predictions (n,) of two or more independent classifiers, by name, for cells that none was trained on.

    Raises ValueError for fewer than two.
    """
    if len(predicted) < 2:
        raise ValueError(f"two classifiers or more are to be compared, not {len(predicted)}")
    tables = {name: confusion(labels, mine, classes) for name, mine in predicted.items()}
    best = max(tables, key=lambda name: balanced_accuracy(tables[name]))
    everybody = np.stack(list(predicted.values()))
    alike = (everybody == everybody[0]).all(axis=0)
    forgiven = np.where(alike, everybody[0], labels)
    wrong = tables[best] - np.diag(tables[best].diagonal())
    beside = np.abs(np.subtract.outer(np.arange(classes), np.arange(classes))) == 1
    mistakes = wrong.sum()
    chance = (wrong.sum(axis=1) * beside.sum(axis=1) / (classes - 1)).sum()
    return Ceiling(
        best,
        balanced_accuracy(tables[best]),
        balanced_accuracy(confusion(labels, forgiven, classes)),
        float(alike.mean()),
        float(wrong[beside].sum() / mistakes) if mistakes else 0.0,
        float(chance / mistakes) if mistakes else 0.0,
    )
