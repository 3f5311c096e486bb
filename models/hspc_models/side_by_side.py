"""Two models on the same cells, or one model on two data sets, as plain data (the paper's items 13 and 17)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import ModelError
from hspc_live.core.significance import holm
from hspc_models.card import Card
from hspc_models.compare import ModelComparison, compare_groups, compare_models, compare_shares, group_rates
from hspc_models.judged import Chosen
from hspc_models.metrics import Floats, wilson


def two_models(first: Card, second: Card, chosen: Chosen, raw: Floats, other: Floats) -> ModelComparison:
    """The comparison of logits (n, classes) of both models, each in its own card's class order, for the chosen cells.

    `chosen` has labels in the first card's order.
    """
    order = class_order(first, second)
    return compare_models(
        chosen.cells.labels,
        np.asarray(raw.argmax(axis=1), np.int64),
        np.asarray(other[:, order].argmax(axis=1), np.int64),
        len(first.classes),
        chosen.units,
    )


def class_order(first: Card, second: Card) -> list[int]:
    """Where the second card has the first one's classes. Raises ModelError where they are not the same classes."""
    if set(first.classes) != set(second.classes):
        raise ModelError(
            f"--against: model {second.name} has the classes {', '.join(second.classes)}, model {first.name} "
            f"{', '.join(first.classes)}; only models of the same classes can be compared on the same cells"
        )
    return [second.classes.index(name) for name in first.classes]


def two_data_sets(
    classes: tuple[str, ...],
    names: tuple[str, str],
    predicted: tuple[NDArray[np.integer], NDArray[np.integer]],
    chosen: tuple[Chosen, Chosen | None],
    groups: tuple[NDArray[np.integer], NDArray[np.integer]],
) -> dict[str, Any]:
    """What one model makes of two data sets: predicted shares of each class and, of labelled ones, consistency rates.

    `predicted` (n,) and `groups` (n,) are of all crops that a data set is described by; `chosen` None has no labels.
    """
    shares = {}
    for column, name in enumerate(classes):
        hits = [said == column for said in predicted]
        shares[name] = _compared(names, hits, groups)
    _correct(shares)
    found: dict[str, Any] = {"data_sets": list(names), "n": [len(said) for said in predicted], "shares": shares}
    first, second = chosen
    if second is None:
        return found
    both = (first, second)
    rates = {}
    for column, name in enumerate(classes):
        own = [one.cells.labels == column for one in both]
        if not all(rows.any() for rows in own):
            continue
        hits = [(said == column)[rows] for said, rows in zip(predicted, own, strict=True)]
        rates[name] = _compared(names, hits, [one.cells.groups[rows] for one, rows in zip(both, own, strict=True)])
    _correct(rates)
    return found | {"consistency_rate": rates}


def _correct(by_class: dict[str, dict[str, Any]]) -> None:
    """Holm's correction over the classes, for each was tested, in place; Fisher's tests and t tests by themselves."""
    tests = [one["difference"] for one in by_class.values()]
    grouped = [one["by_group"]["t_tests"] for one in by_class.values() if one["by_group"]]
    for found in (tests, [test for some in grouped for test in some]):
        for test, p in zip(found, holm([test["p"] for test in found]), strict=True):
            test["p_holm"] = p


def _compared(names: tuple[str, str], hits: list[NDArray[np.bool_]], groups: Any) -> dict[str, Any]:
    """Two shares of cells: each with its interval, their difference, and the same by group where both have several."""
    counts: Mapping[str, tuple[int, int]] = {
        name: (int(hit.sum()), len(hit)) for name, hit in zip(names, hits, strict=True)
    }
    by_group = None
    if all(len(np.unique(group)) > 1 for group in groups):
        rates = {name: group_rates(hit, group) for name, hit, group in zip(names, hits, groups, strict=True)}
        by_group = compare_groups(rates).to_json()
    (difference,) = compare_shares(counts)
    return {
        "rates": {name: wilson(*count).model_dump() for name, count in counts.items()},
        "difference": difference.to_json(),
        "by_group": by_group,
    }
