"""Which crops are learnt from and which judge: by group (mouse, experiment) or at random, never a copy on both sides.

What must stay together is made one unit first: the crops of one cell, copies of one picture, and, by group, the crops
of one group. Units are then dealt out so that every part has its share of every class, as near as they allow. Few
units are tried in every combination; many are dealt out greedily, the largest first, and single crops fill the gaps,
which makes the shares exact. Same crops, seed and settings: same split.
"""

from __future__ import annotations

import itertools
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import RecordingError, SettingsError
from hspc_models.dataset import LabelledCrops
from hspc_models.duplicates import Duplicates, Joined, find_duplicates

By = Literal["group", "random"]
Rows = NDArray[np.int64]

_FEW: Final = 12  # up to this many units every holdout is tried
_AS_GOOD: Final = 0.02  # worst miss of a class share within which two splits count as equally good; the seed decides
_TRIES: Final = 20


def holdout(
    crops: LabelledCrops, share: float, seed: int, by: By, duplicates: Duplicates | None = None
) -> tuple[Rows, Rows]:
    """Rows to learn from and rows to judge with, each in ascending order; about `share` of every class in the latter.

    `duplicates` spares looking for them again. Raises SettingsError for a share outside (0, 1), RecordingError where
    no such split exists: no class, unlabelled crops, a class or a set with a single unit.
    """
    if not 0 < share < 1:
        raise SettingsError(f"the share to hold out must lie between 0 and 1, not {share:g}")
    units = _units(crops, by, duplicates)
    counts = _counts(crops, units, by, parts=2)
    part = _deal(counts, np.array([1 - share, share]), np.random.default_rng(seed))
    if part is None:
        raise RecordingError(_impossible(crops, by, "no part of the groups holds every class and leaves some of each"))
    kept = part[units]
    return np.flatnonzero(kept == 0), np.flatnonzero(kept == 1)


def folds(
    crops: LabelledCrops, k: int, seed: int, by: By, duplicates: Duplicates | None = None
) -> list[tuple[Rows, Rows]]:
    """`k` pairs (rows to learn from, rows to judge with); every crop judges once, and every class in every fold.

    Raises as `holdout` does, and for more folds than there are groups or crops of the rarest class.
    """
    if k < 2:
        raise SettingsError(f"cross-validation needs at least 2 folds, not {k}")
    units = _units(crops, by, duplicates)
    counts = _counts(crops, units, by, parts=k)
    part = _deal(counts, np.full(k, 1 / k), np.random.default_rng(seed))
    if part is None:
        why = f"no way was found to give each of {k} folds every class; ask for fewer"
        raise RecordingError(_impossible(crops, by, why))
    fold = part[units]
    return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(k)]


def units_of(crops: LabelledCrops, by: By, duplicates: Duplicates | None = None) -> Rows:
    """(n,) numbers from 0: crops of one number must not be parted."""
    found = find_duplicates(crops.images) if duplicates is None else duplicates
    ties = [found.units]
    if crops.cells is not None:
        ties.append(crops.cells)
    if by == "group":
        ties.append(crops.groups)
    joined = Joined(len(crops))
    for tie in ties:
        first: dict[int, int] = {}
        for row, value in enumerate(tie.tolist()):
            joined.join(row, first.setdefault(value, row))
    return joined.numbers()


def _units(crops: LabelledCrops, by: By, duplicates: Duplicates | None) -> Rows:
    if unknown := int((crops.labels < 0).sum()):
        raise RecordingError(
            f"{crops.provenance}: {unknown} of {len(crops)} crops have no class; only labelled crops can be split"
        )
    if len(crops) < 2:
        raise RecordingError(
            f"{crops.provenance}: {_number(len(crops), 'crop')} cannot be split; at least 2 of each class are needed"
        )
    return units_of(crops, by, duplicates)


def _counts(crops: LabelledCrops, units: Rows, by: By, parts: int) -> NDArray[np.int64]:
    """(units, classes) crops. Raises RecordingError where a class, or all, has fewer units than parts are wanted."""
    counts = np.zeros((int(units.max()) + 1, len(crops.names)), np.int64)
    np.add.at(counts, (units, crops.labels), 1)
    groups = len(np.unique(crops.groups))
    what = "groups" if by == "group" else "crops"
    if by == "group" and len(counts) < parts:
        if groups < parts:
            why = f"{_number(groups, 'group')} cannot be split in {parts}"
        else:
            tied = f"copies or views of the same cells tie its {groups} groups to {len(counts)}"
            why = f"{tied}, which cannot be split in {parts}"
        raise RecordingError(_impossible(crops, by, why))
    for index, name in enumerate(crops.names):
        has = int((counts[:, index] > 0).sum())
        if has < parts:
            apart = "" if by == "group" else " (copies and views of one cell count once)"
            more = f"; ask for at most {has} folds" if parts > 2 and has > 1 else ""
            why = f"{name} has {_number(has, what[:-1])}{apart}, and {parts} are needed to have it in every part{more}"
            raise RecordingError(_impossible(crops, by, why))
    return counts


def _impossible(crops: LabelledCrops, by: By, why: str) -> str:
    mend = (
        "add groups, leave the class out, or split at random" if by == "group" else "add crops, or leave the class out"
    )
    return f"{crops.provenance}: {why}; {mend}"


def _number(n: int, word: str) -> str:
    return f"{n or 'no'} {word}{'' if n == 1 else 's'}"


def _deal(counts: NDArray[np.int64], shares: NDArray[np.float64], rng: np.random.Generator) -> Rows | None:
    """The part (units,) of each unit, every class in every part; None where none was found."""
    if len(counts) <= _FEW and len(shares) == 2:
        return _best_of_all(counts, shares, rng)
    single = counts.sum(1) == 1
    for attempt in range(_TRIES):
        part = np.full(len(counts), -1, np.int64)
        filled = np.zeros((len(shares), counts.shape[1]), np.int64)
        _deal_large(counts, np.flatnonzero(~single), shares, part, filled, rng, shaken=attempt > 0)
        _deal_single(counts, np.flatnonzero(single), shares, part, filled, rng)
        if filled.all():
            return part
    return None


def _best_of_all(counts: NDArray[np.int64], shares: NDArray[np.float64], rng: np.random.Generator) -> Rows | None:
    """Every choice of units for the second part; by chance one of those that miss the shares least."""
    total = counts.sum(0)
    choices = np.array(list(itertools.product((0, 1), repeat=len(counts))), np.int64)
    held = choices @ counts
    possible = ((held > 0) & (held < total)).all(1)
    if not possible.any():
        return None
    choices, held = choices[possible], held[possible]
    miss = np.abs(held / total - shares[1]).max(1)
    return np.asarray(choices[rng.choice(np.flatnonzero(miss <= miss.min() + _AS_GOOD))])


def _deal_large(
    counts: NDArray[np.int64], units: Rows, shares: NDArray[np.float64], part: Rows, filled: NDArray[np.int64],
    rng: np.random.Generator, *, shaken: bool,
) -> None:  # fmt: skip
    """Each unit to the part that it brings nearest to its share of each class; `part` and `filled` are written to."""
    total = counts.sum(0)
    size = counts[units].sum(1) * (rng.uniform(0.3, 1.0, len(units)) if shaken else 1.0)
    order = units[np.lexsort((rng.random(len(units)), -size))]
    for unit in order.tolist():
        before = filled / total - shares[:, None]
        gain = ((before + counts[unit] / total) ** 2 - before**2).sum(1)
        best = int(rng.choice(np.flatnonzero(gain <= gain.min() + 1e-12)))
        part[unit] = best
        filled[best] += counts[unit]


def _deal_single(
    counts: NDArray[np.int64], units: Rows, shares: NDArray[np.float64], part: Rows, filled: NDArray[np.int64],
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Single crops fill every part up to its share of each class; `part` and `filled` are written to."""
    total = counts.sum(0)
    for label in range(counts.shape[1]):
        mine = rng.permutation(units[counts[units, label] > 0])
        if not len(mine):
            continue
        gaps = np.maximum(total[label] * shares - filled[:, label], 0)
        # a part without the class comes first, however small its share
        need = np.where(filled[:, label] == 0, np.maximum(gaps, 1), gaps)
        quota = need / need.sum() * len(mine)
        give = np.floor(quota).astype(np.int64)
        by_rest = np.lexsort((rng.random(len(give)), -(quota - give), ~((give == 0) & (filled[:, label] == 0))))
        give[by_rest[: len(mine) - int(give.sum())]] += 1
        part[mine] = np.repeat(np.arange(len(shares)), give)
        filled[:, label] += give
