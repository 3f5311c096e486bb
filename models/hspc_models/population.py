"""What a model says of an unlabelled population: shares of the classes, at each score threshold, and corrected.

The raw share of a class is that of the cells called so. The corrected one takes the classifier's confusion off, which
the card knows; it rests on the assumption that a class looks here as it did there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hspc_live.core.errors import SettingsError
from hspc_models.card import Card, Rate
from hspc_models.metrics import wilson
from hspc_models.prevalence import CorrectedShares, corrected_shares
from hspc_models.resample import drawn_tables, group_tables, members_of, percentiles

UNSURE = 10.0
"""Condition number of the confusion from which on corrected shares are mostly noise."""


@dataclass(frozen=True, slots=True)
class SharesAt:
    """Of all cells those whose best score reaches `threshold` are called, the others abstained on.

    `shares` are of the cells called, by class; all rates have a 95 % interval.
    """

    threshold: float
    called: int
    abstained: Rate
    shares: dict[str, Rate]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "threshold": self.threshold,
            "called": self.called,
            "abstained": self.abstained.model_dump(),
            "shares": {name: rate.model_dump() for name, rate in self.shares.items()},
        }


def shares_at(
    scores: NDArray[np.float64], threshold: float, classes: Sequence[str], units: ArrayLike | None
) -> SharesAt:
    """Shares of the classes among cells of scores (n, classes); intervals over `units` (n,), or cells for None."""
    k = len(classes)
    best = scores.max(axis=1)
    columns = np.where(best >= threshold, scores.argmax(axis=1), k)
    members = members_of(units, len(scores))
    tables = group_tables(np.zeros(len(scores), np.int64), columns, members, (1, k + 1))
    drawn = drawn_tables(tables)[:, 0]
    counts = np.bincount(columns, minlength=k + 1)
    called = int(counts[:k].sum())
    of_called = drawn[:, :k].sum(axis=1)

    def rate(column: int, n: int, below: NDArray[np.float64]) -> Rate:
        closed = wilson(int(counts[column]), n)
        if units is None or not n:
            return closed
        spread = np.divide(drawn[:, column], below, out=np.full(len(drawn), np.nan), where=below > 0)
        low, high = percentiles(spread, len(tables))
        if np.isnan(low):
            return closed
        return closed.model_copy(
            update={"low": max(0.0, min(closed.low, low)), "high": min(1.0, max(closed.high, high))}
        )

    return SharesAt(
        threshold,
        called,
        rate(k, len(scores), drawn.sum(axis=1)),
        {name: rate(column, called, of_called) for column, name in enumerate(classes)},
    )


def corrected_by_card(
    predicted: NDArray[np.integer], card: Card, units: ArrayLike | None
) -> tuple[CorrectedShares | None, str]:
    """Shares (classes,) of predicted classes (n,), the card's confusion taken off; and what makes them doubtful.

    None where the card does not tell. Where cells of one unit are alike the interval is that of so many fewer cells
    (the design effect: Rao and Scott, *Biometrics* 48:577, 1992).
    """
    if card.validation is None:
        return None, f"{card.name} has no table of its errors in its card: `evaluate` makes one"
    table = np.asarray(card.validation.confusion, np.int64)
    absent = [name for name, row in zip(card.classes, table, strict=True) if not row.sum()]
    if absent:
        return None, f"the card's table of errors has no cell of {', '.join(absent)}"
    counts = np.bincount(predicted, minlength=len(card.classes))
    found = corrected_shares(counts, table)
    effect = _design_effect(predicted, len(card.classes), units)
    if effect > 1.0:
        fewer = corrected_shares(np.maximum(np.rint(counts / effect), counts > 0).astype(np.int64), table)
        shares = tuple(one.widened(wide.low, wide.high) for one, wide in zip(found.shares, fewer.shares, strict=True))
        found = replace(found, shares=shares)
    if found.condition < UNSURE:
        return found, ""
    return (
        found,
        f"classes are confused so much (condition {found.condition:.0f}) that corrected shares are mostly noise",
    )


def _design_effect(predicted: NDArray[np.integer], classes: int, units: ArrayLike | None) -> float:
    """How many times as far as those of independent cells the shares of `predicted` (n,) vary between units."""
    if units is None:
        return 1.0
    zeros = np.zeros(len(predicted), np.int64)
    drawn = drawn_tables(group_tables(zeros, predicted, members_of(units, len(predicted)), (1, classes)))[:, 0]
    shares = drawn / np.maximum(drawn.sum(axis=1, keepdims=True), 1.0)
    middle = np.bincount(predicted, minlength=classes) / len(predicted)
    alone = middle * (1 - middle) / len(predicted)
    return float(np.max(shares.var(axis=0)[alone > 0] / alone[alone > 0], initial=1.0))


def declared_shares(texts: Sequence[str], classes: Sequence[str]) -> NDArray[np.float64] | None:
    """`LT-HSC=0.2,ST-HSC=0.3,…` as shares (classes,); None for no text.

    One class may be left out and gets the rest. Raises SettingsError.
    """
    if not texts:
        return None
    found: dict[str, float] = {}
    for text in (part for whole in texts for part in whole.split(",")):
        name, _, number = text.rpartition("=")
        name = name.strip()
        if name not in classes:
            raise SettingsError(f"--prevalence {text}: write it as CLASS=SHARE; the classes are {', '.join(classes)}")
        if name in found:
            raise SettingsError(f"--prevalence: {name} is there twice")
        try:
            found[name] = float(number)
        except ValueError:
            raise SettingsError(f"--prevalence {text}: {number} is no share, e.g. {name}=0.2") from None
    absent = [name for name in classes if name not in found]
    rest = 1.0 - sum(found.values())
    if len(absent) == 1:
        found[absent[0]] = rest if abs(rest) > 1e-9 else 0.0
    shares = np.array([found.get(name, 0.0) for name in classes])
    if not (shares >= 0).all() or abs(float(shares.sum()) - 1.0) > 1e-6:
        raise SettingsError(f"--prevalence {','.join(texts)}: shares are at least 0 and sum to 1; name every class")
    return shares
