"""The figures of a learning curve, from the trainings that are done: points, laws, intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hspc_models.curve_fit import accuracies, extrapolate, measured_point
from hspc_models.curve_store import found_of
from hspc_models.curve_tasks import Curves
from hspc_models.dataset import LabelledCrops
from hspc_models.judged import independent_units


def figures(curves: Curves) -> dict[str, Any]:
    """Points, laws and intervals of every classifier from the trainings that are done, as plain data."""
    settings, curve, judged = curves.settings, curves.settings.curve, curves.judged
    units, unit = independent_units(judged)
    found = {task.folder: found_of(task) for task in curves.tasks}
    by_name = {}
    for name in curves.names:
        # (fractions, repeats): whether each judged cell was right, None for a training that is not done
        table = [
            [found[task.folder].get(name) for task in curves.tasks[place :: len(curve.fractions)]]
            for place in range(len(curve.fractions))
        ]
        points = []
        for place, fraction in enumerate(curve.fractions):
            hits = [said == judged.labels for said in table[place] if said is not None]
            if hits:
                size = float(np.mean([len(task.rows) for task in curves.tasks[place :: len(curve.fractions)]]))
                points.append(measured_point(fraction, size, accuracies(np.stack(hits), judged.labels).tolist()))
        whole = [column for column in zip(*table, strict=True) if all(said is not None for said in column)]
        by_name[name] = {"points": [point.to_json() for point in points], "whole_repeats": len(whole)} | _law(
            np.array([point.crops for point in points]),
            np.stack([np.stack(column) == judged.labels for column in whole]) if whole else None,
            judged,
            units,
        )
    return {
        "model": settings.name,
        "data": curves.about,
        "classes": list(settings.classes),
        "chance": 1 / len(settings.classes),
        "n_train": len(curves.learnt),
        "n_judged": len(judged),
        "judged": {
            "data": judged.provenance,
            "units": unit,
            "n_units": len(judged) if units is None else len(np.unique(units)),
        },
        "fractions": list(curve.fractions),
        "repeats": curve.repeats,
        "epochs": curve.epochs,
        "same": curve.same,
        "draw": curve.draw,
        "recipe": settings.recipe.kind,
        "recipe_epochs": settings.epochs,
        "trainings": {
            "planned": len(curves.tasks),
            "done": sum(set(curves.names) <= set(one) for one in found.values()),
        },
        "classifiers": by_name,
        "remarks": [*curves.remarks, *_about_groups(curves)],
    }


def _about_groups(curves: Curves) -> list[str]:
    if len(np.unique(curves.judged.groups)) > 1 or len(np.unique(curves.learnt.groups)) == 1:
        return []
    return ["one group only judges: intervals are about its cells, and say nothing of other groups"]


def _law(
    sizes: NDArray[np.float64], hits: NDArray[np.bool_] | None, judged: LabelledCrops, units: NDArray[np.int64] | None
) -> dict[str, Any]:
    """The fit of whole repeats, `hits` (repeats, sizes, n); and whether it would have foreseen the largest size."""
    if hits is None:
        return {"fit": None, "why_no_fit": "no repeat is complete", "foreseen": None}
    fit = extrapolate(sizes, hits, judged.labels, units)
    if fit is None:
        return {
            "fit": None,
            "why_no_fit": f"{len(sizes)} sizes cannot settle a law with three parameters; take four or more",
            "foreseen": None,
        }
    foreseen = None
    half = np.flatnonzero(np.isclose(sizes, sizes[-1] / 2, rtol=0.02))
    if len(half):
        before = extrapolate(sizes[: half[0] + 1], hits[:, : half[0] + 1], judged.labels, units)
        if before is not None:
            truth = float(accuracies(hits[:, -1], judged.labels).mean())
            inside = before.at_twice.low <= truth <= before.at_twice.high
            foreseen = before.at_twice.to_json() | {"measured": truth, "within": inside, "sizes": int(half[0]) + 1}
    return {"fit": fit.to_json(), "why_no_fit": None, "foreseen": foreseen}
