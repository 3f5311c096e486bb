"""Another population than the one that calibrated: shares corrected for confusion, scores and purity for prevalence.

What the classifier calls LT-HSC is not what is LT-HSC: of rare classes most are others' mistakes. All of this rests on
one assumption (*prior shift*): a class looks alike in both populations, and only how common it is differs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import SettingsError
from hspc_models.card import Rate
from hspc_models.metrics import Floats, Labels, wilson
from hspc_models.resample import DRAWS, SEED, Estimate, estimate

_EM_STEPS = 2000
_EM_TOLERANCE = 1e-7


@dataclass(frozen=True, slots=True)
class CorrectedShares:
    """Shares of the kinds in a population: `raw` as predicted (per column), `shares` corrected (per kind).

    `condition` is the condition number of the confusion's rows: of 10 and more the correction is mostly noise, and the
    intervals say so.
    """

    raw: tuple[Rate, ...]
    shares: tuple[Estimate, ...]
    condition: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "raw": [rate.model_dump() for rate in self.raw],
            "shares": [share.to_json() for share in self.shares],
            "condition": self.condition if math.isfinite(self.condition) else None,
        }


def class_weights(labels: Labels, prevalence: Floats | None) -> NDArray[np.float64] | None:
    """What a calibration cell of each kind counts (kinds,) in a population of shares `prevalence` (kinds,).

    None for None. Raises SettingsError where the shares are none, or where a kind that is declared was not calibrated.
    """
    if prevalence is None:
        return None
    declared = np.asarray(prevalence, np.float64)
    if (declared < 0).any() or abs(float(declared.sum()) - 1.0) > 1e-6:
        raise SettingsError(f"prevalence: {declared.tolist()} are no shares; none may be negative, and they sum to 1")
    counts = np.bincount(labels, minlength=len(declared))
    if len(counts) > len(declared):
        raise SettingsError(f"prevalence: {len(declared)} shares are declared for {len(counts)} kinds of cells")
    if ((counts == 0) & (declared > 0)).any():
        absent = int(np.flatnonzero((counts == 0) & (declared > 0))[0])
        raise SettingsError(f"prevalence: kind {absent} is declared, but no calibration cell is of it")
    return np.asarray(declared * len(labels) / np.maximum(counts, 1))


def reweighted_scores(scores: Floats, before: Floats, declared: Floats) -> NDArray[np.float64]:
    """Scores (n, classes) as they would be under other class shares; rows sum to 1.

    `before` are the shares under which the scores are calibrated. Bayes' rule (Saerens et al., *Neural Computation*
    14:21, 2002, eq. 2.4). A row that no declared class can explain is returned as it came.
    """
    ratio = np.divide(declared, before, out=np.zeros(len(np.asarray(before))), where=np.asarray(before) > 0)
    odds = np.asarray(scores, np.float64) * ratio
    total = odds.sum(axis=1, keepdims=True)
    return np.asarray(np.where(total > 0, odds / np.where(total > 0, total, 1.0), scores))


def shares_from_scores(scores: Floats, before: Floats) -> NDArray[np.float64]:
    """Likeliest class shares (classes,) of unlabelled cells from calibrated scores: EM of Saerens et al. (2002)."""
    shares: NDArray[np.float64] = np.asarray(before, np.float64) / float(np.sum(before))
    for _ in range(_EM_STEPS):
        new = np.asarray(reweighted_scores(scores, before, shares).mean(axis=0))
        moved, shares = float(np.abs(new - shares).max()), new
        if moved < _EM_TOLERANCE:
            break
    return shares


def corrected_shares(
    predicted: NDArray[np.integer], table: NDArray[np.integer], draws: int = DRAWS, seed: int = SEED
) -> CorrectedShares:
    """True shares from predicted counts (columns,) and a confusion `table` (kinds, columns) of labelled cells.

    The likeliest shares: where inverting the confusion (Rogan and Gladen, *Am. J. Epidemiol.* 107:71, 1978) gives
    none below 0 it is the same. A column may be abstention, a row strangers. The 95 % interval draws both the counts
    and the rows of the table, for the classifier's errors are known from a sample, too. Raises SettingsError for a
    kind without a labelled cell, or no cell at all.
    """
    totals = table.sum(axis=1)
    if (totals == 0).any() or not predicted.sum():
        raise SettingsError("shares cannot be corrected: every kind needs labelled cells, and a cell must be predicted")
    rng = np.random.default_rng(seed)
    rates = table / totals[:, None]
    value = _likeliest(predicted[None, :].astype(float), rates[None])[0]
    n = int(predicted.sum())
    counts = rng.multinomial(n, predicted / n, draws).astype(float)
    # Dirichlet and not multinomial rows: a column where no cell of a kind fell is rare, but not known to be impossible
    gammas = rng.gamma(np.broadcast_to(table + 0.5, (draws, *table.shape)))
    drawn = _likeliest(counts, gammas / gammas.sum(axis=2, keepdims=True))
    raw = tuple(wilson(int(count), n) for count in predicted)
    shares = tuple(estimate(float(value[kind]), drawn[:, kind], n) for kind in range(len(table)))
    return CorrectedShares(raw, shares, float(np.linalg.cond(rates)))


def purity_in(
    labels: Labels, chosen: NDArray[np.bool_], column: int, prevalence: Floats, draws: int = DRAWS, seed: int = SEED
) -> Estimate:
    """Purity of what a gate takes, in a declared population; from calibration cells (n,) of which it took `chosen`.

    Each kind's rate of being taken has Jeffreys' posterior, as in `stages.predict`. This is no promise: it holds for
    one gate that was settled beforehand. NaN where the gate takes nothing.
    """
    declared = np.asarray(prevalence, np.float64)
    class_weights(labels, declared)
    kinds = len(declared)
    totals, taken = np.bincount(labels, minlength=kinds), np.bincount(labels[chosen], minlength=kinds)
    mix = declared * taken / np.maximum(totals, 1)
    if not mix.sum():
        return Estimate(math.nan, 0.0, 1.0)
    rates = np.random.default_rng(seed).beta(taken + 0.5, totals - taken + 0.5, (draws, kinds)) * declared
    return estimate(float(mix[column] / mix.sum()), rates[:, column] / rates.sum(axis=1), len(labels))


def _likeliest(counts: NDArray[np.float64], rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares (draws, kinds) that make counts (draws, columns) likeliest; rates (draws, kinds, columns)."""
    draws, kinds, _ = rates.shape
    shares = np.full((draws, kinds), 1.0 / kinds)
    seen = counts / counts.sum(axis=1, keepdims=True)
    for _ in range(_EM_STEPS):
        expected = np.einsum("dk,dkc->dc", shares, rates)
        new = shares * np.einsum("dkc,dc->dk", rates, seen / np.maximum(expected, 1e-300))
        moved, shares = float(np.abs(new - shares).max()), new
        if moved < _EM_TOLERANCE:
            break
    return shares
