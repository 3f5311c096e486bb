"""Can the classes be told apart at all? A negative result is a result (the paper's MPP2/3/4), and is said as one.

*Cannot separate* is said unless both hold: the 95 % interval of balanced accuracy lies above chance, and a permutation
test finds so good a table in fewer than 5 % of relabellings. Where classes do not differ, the test alone lets at most
5 % through, whatever the classifier's bias or the classes' sizes (Ojala and Garriga, *JMLR* 11:1833, 2010). Labels are
permuted as they were given: between whole groups where a group is of one class, else within groups, so that what
groups have in common is never taken for a difference of classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hspc_live.core.significance import holm
from hspc_models.metrics import Floats, Labels, judge
from hspc_models.resample import SEED, Estimate, group_tables, members_of

PERMUTATIONS = 2000
LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether some classes can be told apart. `p` is the permutation test's, Holm-corrected among pairs of classes."""

    classes: tuple[str, ...]
    balanced_accuracy: Estimate
    chance: float
    p: float
    separable: bool
    words: str

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"classes": list(self.classes), "balanced_accuracy": self.balanced_accuracy.to_json()}


def separability(
    labels: Labels,
    predicted: Labels,
    names: Sequence[str],
    groups: ArrayLike | None = None,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = SEED,
) -> Verdict:
    """The verdict on predictions (n,) for labels (n,), indices into `names`; groups (n,) or None.

    A class without cells does not count. Of fewer than two classes with cells nothing is separable, p is 1.
    """
    p, how = permutation_p(labels, predicted, groups, permutations=permutations, seed=seed)
    return _verdict(labels, predicted, names, groups, p, how)


def pairs_apart(
    scores: Floats,
    labels: Labels,
    names: Sequence[str],
    groups: ArrayLike | None = None,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = SEED,
) -> tuple[Verdict, ...]:
    """A verdict for each two classes, judged by which of their two scores is larger; scores (n, classes).

    Three classes may be above chance although two of them are not told apart: this names the two.
    """
    members = members_of(groups, len(labels))
    found = []
    for first, second in combinations(range(len(names)), 2):
        rows = np.flatnonzero((labels == first) | (labels == second))
        truth = (labels[rows] == second).astype(np.int64)
        said = (scores[rows, second] > scores[rows, first]).astype(np.int64)
        # a tie belongs to neither: given to one side it would make a constant score look like a decision
        tied = np.flatnonzero(scores[rows, second] == scores[rows, first])
        said[tied] = np.arange(len(tied)) % 2
        own = None if groups is None else members[rows]
        found.append((first, second, truth, said, own, permutation_p(truth, said, own, permutations, seed)))
    corrected = holm([p for *_, (p, _) in found])
    return tuple(
        _verdict(truth, said, (names[first], names[second]), own, p, how)
        for (first, second, truth, said, own, (_, how)), p in zip(found, corrected, strict=True)
    )


def permutation_p(
    labels: Labels,
    predicted: Labels,
    groups: ArrayLike | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = SEED,
) -> tuple[float, str]:
    """Chance of so high a balanced accuracy if labels meant nothing, and what was permuted.

    The table itself counts as one of the permutations (Phipson and Smyth 2010), so p is never 0.
    """
    present = np.unique(labels)
    if len(present) < 2:
        return 1.0, "nothing to permute: fewer than two classes have cells"
    truth = np.searchsorted(present, labels)
    k, said_kinds = len(present), int(max(labels.max(), predicted.max())) + 1
    members = members_of(groups, len(labels))
    units = int(members.max()) + 1
    own = group_tables(truth, predicted, members, (k, said_kinds))
    nested = bool(((own.sum(axis=2) > 0).sum(axis=1) == 1).all())
    rng = np.random.default_rng(seed)
    # balanced accuracy, a class weighted by its cells: recall of class c is the share of its cells said to be c
    columns = present

    def accuracy(table: NDArray[np.float64]) -> float:
        rows = table.sum(axis=1)
        return float((table[np.arange(k), columns] / np.maximum(rows, 1.0))[rows > 0].mean())

    seen = accuracy(own.sum(axis=0))
    reached = 1
    said = own.sum(axis=1)  # (units, said_kinds)
    unit_class = own.sum(axis=2).argmax(axis=1)
    order = np.argsort(members, kind="stable")
    for _ in range(permutations):
        if nested:
            table = np.eye(k)[rng.permutation(unit_class)].T @ said
        else:
            # sorting by (group, random key) shuffles labels inside every group at once
            shuffled = np.lexsort((rng.random(len(members)), members))
            table = np.bincount(
                truth[shuffled] * said_kinds + predicted[order], minlength=k * said_kinds
            ).reshape(k, said_kinds).astype(float)  # fmt: skip
        reached += accuracy(table) >= seen - 1e-12
    what = "cells" if groups is None else (f"{units} whole groups" if nested else f"cells within {units} groups")
    return reached / (permutations + 1), f"labels of {what} permuted"


def _verdict(
    labels: Labels, predicted: Labels, names: Sequence[str], groups: ArrayLike | None, p: float, how: str
) -> Verdict:
    present = len(np.unique(labels))
    figure = judge(labels, predicted, names, groups).balanced_accuracy
    chance = 1.0 / present if present else math.nan
    separable = bool(p <= LEVEL and figure.low > chance)
    said = (
        f"balanced accuracy {figure.value:.3f} ({figure.low:.3f}–{figure.high:.3f}), chance {chance:.3f}, p = {p:.2g}"
    )
    sentence = f"{'can' if separable else 'cannot'} separate {', '.join(names)}: {said} ({how})"
    return Verdict(tuple(names), figure, chance, p, separable, sentence)
