"""How pure the sorted cells will be, said before the run.

What is known beforehand: the card's confusion table (cells of known kind × what was said of them at the gate's
threshold, abstentions included), the declared prevalence and share of strangers, the rate of events, the sort mode and
the pulse. What is not known is drawn (Monte Carlo, fixed seed, so the same inputs give the same numbers):

- how often each kind is truly taken for a wanted one: the posterior of its confusion row, a Dirichlet with Jeffreys'
  prior, of which the gate needs the share of the wanted columns (a Beta);
- how many cells are sorted (Poisson about the expected number) and how many of them are wanted (binomial);
- who else is in the pulse: objects arrive as a Poisson process and fall into the window beside the sorted cell.
  *Purity* and *single* exclude whatever was seen, so only `unseen` objects contaminate; *recovery* takes all.

The interval is the central 95 % of the *measured* purity of such runs, so it holds the run's own chance as well as the
table's: it is wide for a few cells and never narrower than the card's evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import SettingsError
from hspc_live.settings.sort import SortMode

ABSTAIN = "abstain"
"""Column of a confusion table for cells of which nothing was said."""

DRAWS = 20_000
SEED = 20_240_607


@dataclass(frozen=True, slots=True)
class PredictionInputs:
    """Everything a prediction rests on.

    `confusion[truth][said]` counts cells; `said` is a class or `ABSTAIN`, at the gate's threshold. Rows that
    `prevalence` does not name are pooled as strangers. `prevalence` is among the cells of known classes and sums to 1;
    `strangers` is the share of none of them among the classified. `events_per_s` counts objects of every kind.
    `classified` is the share of them that come to a verdict (not debris, cut by the border, blurred …).
    `aborted` is the share of wanted verdicts that timing, coincidence or limits keep from being sorted. `unseen` is the
    share of passing objects that the sort core does not know of when it judges coincidence.
    """

    confusion: Mapping[str, Mapping[str, int]]
    wanted: frozenset[str]
    prevalence: Mapping[str, float]
    strangers: float
    events_per_s: float
    mode: SortMode
    pulse_ms: float
    seconds: float
    classified: float = 1.0
    aborted: float = 0.0
    unseen: float = 0.02


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted purity of one outlet with the central 95 % interval of what will be measured.

    None where fewer than 5 % of such runs would collect a cell at all. `recovery` is the expected share of wanted
    cells that are sorted; `sorted_cells` the expected number.
    """

    purity: float | None
    interval: tuple[float, float] | None
    recovery: float
    sorted_cells: float


def predict(inputs: PredictionInputs) -> Prediction:
    """Predict; raises SettingsError when the table lacks a wanted class or the prevalence does not name it."""
    _check(inputs)
    rng = np.random.default_rng(SEED)
    kinds = list(inputs.prevalence)
    shares = np.array([*(inputs.prevalence[kind] * (1.0 - inputs.strangers) for kind in kinds), inputs.strangers])
    wanted = np.array([*(kind in inputs.wanted for kind in kinds), False])
    taken = np.stack([*(_taken(inputs, kind, rng) for kind in kinds), _taken_strangers(inputs, rng)])
    judged = inputs.events_per_s * inputs.classified * inputs.seconds
    sorted_by_kind = shares[:, None] * taken * (1.0 - inputs.aborted)
    rate = sorted_by_kind.sum(axis=0)
    right = sorted_by_kind[wanted].sum(axis=0) / np.maximum(rate, 1e-300)
    pulses = rng.poisson(rate * judged)
    good = rng.binomial(pulses, np.clip(right, 0.0, 1.0))
    others = rng.poisson(pulses * _others_per_pulse(inputs))
    good_others = rng.binomial(others, shares[wanted].sum() * inputs.classified)  # what is never judged is no cell
    collected = pulses + others
    some = collected > 0
    recovery = float((sorted_by_kind[wanted].sum(axis=0) / shares[wanted].sum()).mean())
    expected = float(rate.mean() * judged)
    if some.mean() < 0.05:
        return Prediction(None, None, recovery, expected)
    measured = (good + good_others)[some] / collected[some]
    # "inverted_cdf" returns values the draws really took: interpolated ends could leave out an attainable purity
    low, high = np.quantile(measured, (0.025, 0.975), method="inverted_cdf")
    return Prediction(float(measured.mean()), (float(low), float(high)), recovery, expected)


def table_at(
    thresholds: Sequence[float],
    kinds: Sequence[str],
    counts: Sequence[Sequence[Sequence[int]]],
    classes: Sequence[str],
    threshold: float,
) -> dict[str, dict[str, int]]:
    """A card's confusion table at a gate's threshold, as `PredictionInputs.confusion`.

    `counts[t][i][j]` counts cells of kind i given class j (the last column: abstained) at `thresholds[t]`. Between two
    tables the one of the lower threshold is taken: it abstains less, so it promises no purity that the gate does not
    keep. Raises SettingsError for a threshold below all of the card's.
    """
    usable = [number for number, at in enumerate(thresholds) if at <= threshold + 1e-9]
    if not usable:
        raise SettingsError(
            f"sort.outlets: the gate's threshold {threshold:g} is below the lowest of the card's tables "
            f"({min(thresholds, default=0.0):g}), so its purity cannot be predicted"
        )
    table = counts[max(usable, key=lambda number: thresholds[number])]
    columns = (*classes, ABSTAIN)
    return {kind: dict(zip(columns, row, strict=True)) for kind, row in zip(kinds, table, strict=True)}


def _others_per_pulse(inputs: PredictionInputs) -> float:
    """Expected objects in a pulse beside the sorted cell that the mode does not exclude."""
    in_window = inputs.events_per_s * inputs.pulse_ms / 1e3
    match inputs.mode:
        case "purity" | "single":
            return in_window * inputs.unseen
        case "recovery":
            return in_window
        case _:
            assert_never(inputs.mode)


def _taken(inputs: PredictionInputs, kind: str, rng: np.random.Generator) -> NDArray[np.float64]:
    return _beta(inputs.confusion[kind], inputs, rng)


def _taken_strangers(inputs: PredictionInputs, rng: np.random.Generator) -> NDArray[np.float64]:
    pooled: dict[str, int] = {}
    for kind, row in inputs.confusion.items():
        if kind not in inputs.prevalence:
            for said, count in row.items():
                pooled[said] = pooled.get(said, 0) + count
    return _beta(pooled, inputs, rng)


def _beta(row: Mapping[str, int], inputs: PredictionInputs, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draws of P(said wanted | kind): the wanted columns of the row's Dirichlet posterior."""
    columns = len(inputs.prevalence) + 1
    hits = sum(count for said, count in row.items() if said in inputs.wanted)
    rest = sum(row.values()) - hits
    return rng.beta(hits + 0.5 * len(inputs.wanted), rest + 0.5 * (columns - len(inputs.wanted)), size=DRAWS)


def _check(inputs: PredictionInputs) -> None:
    if not inputs.wanted:
        raise SettingsError("prediction: the outlet wants no class")
    missing = sorted(inputs.wanted - set(inputs.prevalence))
    if missing:
        raise SettingsError(f"population.prevalence: names no share for {', '.join(missing)}, which an outlet wants")
    absent = sorted(set(inputs.prevalence) - set(inputs.confusion))
    if absent:
        raise SettingsError(f"card: its confusion table has no row for {', '.join(absent)}, which population declares")
    if sum(inputs.prevalence[kind] for kind in inputs.wanted) <= 0:
        raise SettingsError("population.prevalence: the wanted classes have no share at all")
