"""What a model says of labelled crops, and what that is worth: everything that `hspc-live evaluate` reports.

Which crops are judged (`choose`), their scores (`score`), and all figures from them (`judged`, plain data for JSON).
Class order is the card's throughout. Crops of a class that the card has not are strangers: they are counted apart,
for every class given to them is wrong, and only abstaining is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from hspc_live.core.errors import ModelError, RecordingError, SettingsError
from hspc_models.calibration import (
    calibration_errors_by_class,
    calibration_estimate,
    chance_error,
    fit_temperature,
    reliability,
)
from hspc_models.card import Card
from hspc_models.dataset import LabelledCrops
from hspc_models.duplicates import find_duplicates
from hspc_models.evaluate import THRESHOLDS, logits
from hspc_models.fitting import fitted
from hspc_models.metrics import Floats, Labels, judge, softmax, wilson
from hspc_models.network import CellNet
from hspc_models.roc import Roc, one_against_rest
from hspc_models.separate import pairs_apart, separability

_BATCH: Final = 64
_CURVE: Final = 200
_STEPS: Final = 101


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The crops that a model is judged on, brought to its geometry.

    `cells` (labels index the card's classes) and `strangers`, with their `rows` in the source; `present` are the
    classes that have cells, `missing` those that have none; `left_out` counts crops that nothing is said about, by
    class. `units` (n,) number what cells are not independent within (a group, a cell seen several times), or None;
    `unit` is the word for it.
    """

    cells: LabelledCrops
    rows: NDArray[np.int64]
    strangers: LabelledCrops
    stranger_rows: NDArray[np.int64]
    present: tuple[str, ...]
    missing: tuple[str, ...]
    left_out: dict[str, int]
    units: NDArray[np.int64] | None
    unit: str
    notes: tuple[str, ...]


def choose(crops: LabelledCrops, card: Card, only: Sequence[str] | None = None) -> Chosen:
    """What of `crops` the model can be judged on; with `only`, crops of these classes and nothing else.

    Raises SettingsError for classes that the card has not, RecordingError for a class asked for that has no crop, for
    crops without any class of the card, and for those that do not fit its geometry.
    """
    wanted = card.classes if only is None else tuple(only)
    if unknown := [name for name in wanted if name not in card.classes]:
        raise SettingsError(
            f"--classes: model {card.name} has no class {', '.join(unknown)}; it has {', '.join(card.classes)}"
        )
    names = np.array([*crops.names, ""])[crops.labels]
    counts = {name: int((names == name).sum()) for name in dict.fromkeys((*card.classes, *crops.names))}
    present = tuple(name for name in card.classes if name in wanted and counts[name])
    missing = tuple(name for name in card.classes if name in wanted and not counts[name])
    has = ", ".join(crops.names) or "no labels"
    if only is not None and missing:
        raise RecordingError(
            f"{crops.provenance}: no crops of {', '.join(missing)}; it has {has}. Add crops of it, or leave it out of "
            "--classes"
        )
    if not present:
        raise RecordingError(
            f"{crops.provenance}: no crop is of a class of model {card.name} ({', '.join(card.classes)}); it has "
            f"{has}. Rename them with --names, or use `hspc-live predict` for cells without labels"
        )
    known = np.isin(names, present)
    strange = ~known & (names != "") & ~np.isin(names, card.classes) & (only is None)
    left = ~known & ~strange
    left_out = {str(name) or "no class": int((names[left] == name).sum()) for name in np.unique(names[left])}
    whole, done = fitted(crops, card.geometry)
    place = {name: index for index, name in enumerate(card.classes)}
    rows, others = np.flatnonzero(known), np.flatnonzero(strange)
    labels = np.array([place[str(name)] for name in names[rows]], np.int64)
    cells = replace(whole.take(rows), labels=labels, names=card.classes)
    units, unit = independent_units(cells)
    if not crops.scaled:
        done = (
            f"{done}; " * bool(done) + f"the scale is not known, and taken to be the model's {card.um_per_px:g} µm/px"
        )
    notes = (*crops.notes, *((done,) if done else ()))
    return Chosen(cells, rows, whole.take(others), others, present, missing, left_out, units, unit, notes)


def score(
    network: CellNet, card: Card, crops: LabelledCrops, done: Callable[[int], None] | None = None
) -> NDArray[np.float64]:
    """Logits (n, classes) before the temperature. `done` hears how many crops are finished.

    Raises ModelError where the network gives what is no number.
    """
    found = np.empty((len(crops), len(card.classes)))
    with torch.inference_mode():
        for start in range(0, len(crops), _BATCH):
            some = slice(start, start + _BATCH)
            found[some] = logits(network, crops.images[some], card.symmetries)
            if done is not None:
                done(min(start + _BATCH, len(crops)))
    if not np.isfinite(found).all():
        raise ModelError(f"model {card.name} gives scores that are no numbers: its weights are broken; train it again")
    return found


def judged(card: Card, chosen: Chosen, raw: Floats) -> dict[str, Any]:
    """All figures of logits `raw` (n, classes) for the chosen cells, as plain data; NaN where nothing can be said."""
    scores, labels, units = softmax(raw, card.temperature), chosen.cells.labels, chosen.units
    predicted = np.asarray(scores.argmax(axis=1), np.int64)
    figures = judge(labels, predicted, card.classes, units)
    columns = [card.classes.index(name) for name in chosen.present]
    curves = {name: one_against_rest(scores, labels, column, units) for name, column in _named(chosen, columns)}
    ece = calibration_estimate(scores, labels, units)
    rates = {name: figures.classes[name].consistency for name in chosen.present}
    restricted = np.asarray(np.searchsorted(columns, labels), np.int64)
    verdict = separability(restricted, scores[:, columns].argmax(axis=1), chosen.present, units)
    if len(columns) < 2:
        verdict = replace(verdict, words=f"was given cells of {chosen.present[0]} only, so nothing can be told apart")
    return {
        "n": len(labels),
        "balanced_accuracy": figures.balanced_accuracy.value,
        "consistency_rate": {name: rate.rate for name, rate in rates.items()},
        "macro_f1": figures.macro.f1.value,
        "auc": {name: curve.area.value for name, curve in curves.items()},
        "ece": ece.value,
        "ece_interval": [ece.low, ece.high],
        "confusion": [list(figures.confusion[column]) for column in columns],
        "confusion_rows": list(chosen.present),
        "confusion_columns": list(card.classes),
        "intervals": {
            "balanced_accuracy": [figures.balanced_accuracy.low, figures.balanced_accuracy.high],
            "macro_f1": [figures.macro.f1.low, figures.macro.f1.high],
            "consistency_rate": {name: [rate.low, rate.high] for name, rate in rates.items()},
            "auc": {name: [curve.area.low, curve.area.high] for name, curve in curves.items()},
        },
        "figures": figures.to_json(),
        "chance": 1 / len(card.classes),
        "units": {
            "are": chosen.unit,
            "n": len(labels) if units is None else len(np.unique(units)),
        },
        "verdict": verdict.to_json(),
        "pairs": [
            pair.to_json() for pair in pairs_apart(scores[:, columns], restricted, chosen.present, units)
        ],
        "roc": {name: _curve(curve) for name, curve in curves.items()},
        "calibration": {
            "temperature": card.temperature,
            "temperature_that_would_fit": fit_temperature(raw, labels),
            "ece_by_chance": chance_error(scores),
            "ece_by_class": dict(zip(card.classes, calibration_errors_by_class(scores, labels), strict=True)),
            "reliability": [one.to_json() for one in reliability(scores, labels)],
        },
        "thresholds": [_at(card, labels, predicted, scores.max(axis=1), units, t) for t in THRESHOLDS],
        "abstention": _abstention(labels, predicted, scores.max(axis=1)),
        "scores": _histogram(scores.max(axis=1), predicted == labels),
    }  # fmt: skip


def strangers_judged(card: Card, strangers: LabelledCrops, raw: Floats) -> dict[str, Any]:
    """Of each kind that is no class of the model: how many cells, the share abstained at each threshold, what was said.

    `raw` (m, classes) are their logits.
    """
    scores = softmax(raw, card.temperature)
    best, said = scores.max(axis=1), scores.argmax(axis=1)
    found = {}
    for label in np.unique(strangers.labels).tolist():
        own = strangers.labels == label
        found[strangers.names[label]] = {
            "n": int(own.sum()),
            "abstained": [
                {"threshold": t, **wilson(int((best[own] < t).sum()), int(own.sum())).model_dump()} for t in THRESHOLDS
            ],
            "taken_for": {name: int((said[own] == column).sum()) for column, name in enumerate(card.classes)},
        }
    return found


def overlap(chosen: Chosen, training: LabelledCrops, card: Card) -> dict[str, Any]:
    """How many of the judged cells are copies (also shifted, turned or brightened) of crops that training had.

    Raises RecordingError where the two cannot be compared.
    """
    learnt, _ = fitted(training, card.geometry)
    if learnt.images.dtype != chosen.cells.images.dtype:
        raise RecordingError(
            f"{training.provenance}: {learnt.images.dtype} pixels cannot be compared with "
            f"{chosen.cells.images.dtype} of {chosen.cells.provenance}"
        )
    n = len(chosen.cells)
    units = find_duplicates(np.concatenate((chosen.cells.images, learnt.images))).units  # type: ignore[arg-type]
    shared = np.isin(units[:n], units[n:])
    return {"checked": True, "n": n, "copies": int(shared.sum())}


def independent_units(cells: LabelledCrops) -> tuple[NDArray[np.int64] | None, str]:
    """What intervals are taken over (n,): groups, else cells seen several times, else None; and the word for it."""
    if len(np.unique(cells.groups)) > 1:
        return cells.groups, "groups"
    if cells.cells is not None and len(np.unique(cells.cells)) < len(cells):
        return cells.cells, "cells seen several times"
    return None, "cells"


def _named(chosen: Chosen, columns: Sequence[int]) -> list[tuple[str, int]]:
    return list(zip(chosen.present, columns, strict=True))


def _curve(curve: Roc) -> dict[str, Any]:
    """At most `_CURVE` points, the ends among them; the thresholds are left out."""
    m = len(curve.false_positive)
    kept = np.unique(np.linspace(0, m - 1, min(m, _CURVE)).astype(int))
    return {
        **curve.to_json(),
        "false_positive": curve.false_positive[kept].round(5).tolist(),
        "true_positive": curve.true_positive[kept].round(5).tolist(),
    }


def _at(
    card: Card, labels: Labels, predicted: Labels, best: Floats, units: NDArray[np.int64] | None, threshold: float
) -> dict[str, Any]:
    """The figures of cells whose best score reaches the threshold; the others are abstained on."""
    kept = best >= threshold
    n = int(kept.sum())
    figures = judge(labels[kept], predicted[kept], card.classes, None if units is None else units[kept])
    return {
        "threshold": threshold,
        "kept": wilson(n, len(labels)).model_dump(),
        "balanced_accuracy": figures.balanced_accuracy.to_json(),
        "accuracy": figures.accuracy.model_dump(),
        "classes": {
            name: {
                "n": one.n,
                "predicted": one.predicted,
                "consistency_rate": one.consistency.model_dump(),
                "precision": one.precision.model_dump(),
            }
            for name, one in figures.classes.items()
        },
        "confusion": [list(row) for row in figures.confusion],
    }


def _abstention(labels: Labels, predicted: Labels, best: Floats) -> dict[str, list[float]]:
    """Share kept, and share of the kept that is right, along the threshold."""
    steps = np.linspace(0, 1, _STEPS)
    kept = np.array([best >= t for t in steps])
    n, right = kept.sum(axis=1), (kept & (labels == predicted)).sum(axis=1)
    accuracy = np.divide(right, n, out=np.full(_STEPS, np.nan), where=n > 0)
    return {"threshold": steps.round(4).tolist(), "kept": (n / len(best)).tolist(), "accuracy": accuracy.tolist()}


def _histogram(best: Floats, right: NDArray[np.bool_]) -> dict[str, list[float]]:
    edges = np.linspace(0, 1, 51)
    return {
        "edges": edges.round(4).tolist(),
        "right": np.histogram(best[right], edges)[0].tolist(),
        "wrong": np.histogram(best[~right], edges)[0].tolist(),
    }
