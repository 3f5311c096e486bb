"""How well a chamber run did, found out afterwards: its list of cells and its second visits joined with the truth.

A listed cell *is* the body nearest to it at the time it was seen, within `MATCH_UM`. A list may keep to the encoder's
own coordinates, or straighten out backlash, slips and drift; so positions are compared both with the encoder's frame at
each exposure and with the true glass, and the whole list is judged in the frame in which more of it fits.

Definitions:

- **found**: of the single cells (of a known class, settled, not floating) that lay whole in at least one picture of
  transmitted light taken with the table at rest, the share that is listed.
- **listed twice**: listings beyond the first of one and the same body.
- **position error**: from a listing to its body at that time, in that frame; the relative error leaves out the mean
  offset over all listings, which no pipeline can see and no pick notices.
- **re-found**: of the cells visited again, the share that was found again and is the same body as was listed.
- **consistency rate**: of the listings of a body of a known class that were given a class, the share given the true
  one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from hspc_live.twin.chamber import TRANSMITTED
from hspc_live.twin.chamber_truth import ChamberTruth
from hspc_live.twin.score import wilson

MATCH_UM = 4.0
"""About a cell's radius: nearer than any two cells' middles lie."""
REST_UM = 0.25
"""A picture in which the table moved by less than this, about a pixel, was taken at rest."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry of a run's list: stage coordinates at host time `at_ns`; `predicted` is None where none was given."""

    cell: int
    x_um: float
    y_um: float
    at_ns: int
    predicted: str | None = None


@dataclass(frozen=True, slots=True)
class Revisit:
    """A second visit: where the cell was expected, and where it was found (None: not found). Stage coordinates."""

    cell: int
    x_um: float
    y_um: float
    at_ns: int
    found_um: tuple[float, float] | None


def match_listed(listed: Sequence[Listed], truth: ChamberTruth) -> NDArray[np.int64]:
    """The row of `truth.bodies` that each listing is, (n,) int64; -1 where nothing lies within `MATCH_UM`."""
    return _match([(one.x_um, one.y_um) for one in listed], [one.at_ns for one in listed], truth).rows


def score_listed(listed: Sequence[Listed], truth: ChamberTruth, classes: Sequence[str]) -> dict[str, Any]:
    """A run's list against truth, JSON-ready; None stands for the rate or median of nothing.

    Keys: `listed`, `cells` (that could be found), `found`, `found_rate` with `found_interval`, `listed_twice`,
    `no_cell{kind or "nothing": n}`, `frame` ("glass" or "encoder"), `offset_um` (x, y), `position_error_um` (median),
    `position_error_95_um`, `relative_error_um` (median), `consistency_rate` with `consistency_interval` and `n`,
    `per_class{class: rate}`, `confusion{kind: {class: n}}`, `marked{class said: share with the marker}`.
    """
    fit = _match([(one.x_um, one.y_um) for one in listed], [one.at_ns for one in listed], truth)
    rows, ways = fit.rows, fit.ways_um
    kinds = truth.kind_names()
    cells = np.isin(kinds, list(classes)) & ~truth.bodies["floating"] & np.isin(truth.bodies["object"], _shown(truth))
    matched = rows >= 0
    hits = rows[matched]
    single = cells[hits]
    found = len(np.unique(hits[single]))
    offset = ways[matched].mean(axis=0) if matched.any() else np.zeros(2)
    known = np.isin(kinds[hits], list(classes))
    strangers = Counter("nothing" for row in rows if row < 0) + Counter(kinds[hits[~known]].tolist())
    return {
        "listed": len(listed),
        "cells": int(cells.sum()),
        "found": found,
        "found_rate": _share(found, int(cells.sum())),
        "found_interval": wilson(found, int(cells.sum())),
        "listed_twice": len(hits) - len(np.unique(hits)),
        "no_cell": dict(sorted(strangers.items())),
        "frame": fit.frame,
        "offset_um": offset.tolist(),
        "position_error_um": _median(ways[matched]),
        "position_error_95_um": _quantile(ways[matched], 0.95),
        "relative_error_um": _median(ways[matched] - offset),
        **_classes(listed, rows, truth, classes),
    }


def score_revisits(revisits: Sequence[Revisit], listed: Sequence[Listed], truth: ChamberTruth) -> dict[str, Any]:
    """Second visits against truth, JSON-ready. `listed` are the first listings of the same cells.

    Keys: `revisited`, `refound`, `refound_rate` with `refound_interval`, `mixed_up` (another body was taken for it),
    `missed`, `position_error_um` and `position_error_95_um` (expected to found, of those re-found),
    `moved_um` (median true way of the visited bodies since they were listed).
    """
    first = {one.cell: (row, one.at_ns) for one, row in zip(listed, match_listed(listed, truth).tolist(), strict=True)}
    seen = [one for one in revisits if one.found_um is not None]
    spots = [one.found_um for one in seen if one.found_um is not None]
    again = _match(spots, [one.at_ns for one in seen], truth).rows
    was = np.array([first.get(one.cell, (-1, 0))[0] for one in seen], np.int64)
    same = (again >= 0) & (again == was)
    ways = np.array(spots).reshape(-1, 2) - np.array([(one.x_um, one.y_um) for one in seen]).reshape(-1, 2)
    moved = []
    for one in revisits:
        row, at_ns = first.get(one.cell, (-1, 0))
        if row >= 0:
            moved.append(truth.places_um(one.at_ns)[row] - truth.places_um(at_ns)[row])
    refound = int(same.sum())
    return {
        "revisited": len(revisits),
        "refound": refound,
        "refound_rate": _share(refound, len(revisits)),
        "refound_interval": wilson(refound, len(revisits)),
        "mixed_up": int((~same).sum()),
        "missed": len(revisits) - len(seen),
        "position_error_um": _median(ways[same]),
        "position_error_95_um": _quantile(ways[same], 0.95),
        "moved_um": _median(np.array(moved).reshape(-1, 2)),
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """Rows of `truth.bodies` (n,), -1 for none; the way from each body to its spot (n, 2); and in which frame."""

    rows: NDArray[np.int64]
    ways_um: NDArray[np.float64]
    frame: str


def _match(spots: Sequence[tuple[float, float]], times_ns: Sequence[int], truth: ChamberTruth) -> _Fit:
    """The body nearest to each spot at its time, in the frame in which more of the spots have one."""
    places, times = np.asarray(spots, np.float64).reshape(-1, 2), np.asarray(times_ns, np.int64)
    fits = [_match_in(frame, places, times, truth) for frame in ("glass", "encoder")]
    return max(
        fits, key=lambda fit: (int((fit.rows >= 0).sum()), -float(np.nansum(np.linalg.norm(fit.ways_um, axis=1))))
    )


def _match_in(frame: str, places: NDArray[np.float64], times: NDArray[np.int64], truth: ChamberTruth) -> _Fit:
    rows, ways = np.full(len(places), -1, np.int64), np.full((len(places), 2), np.nan)
    for at_ns in np.unique(times).tolist() if len(truth.bodies) else ():
        here = np.flatnonzero(times == at_ns)
        bodies = truth.places_um(at_ns) - (truth.stage_error_um(at_ns) if frame == "encoder" else 0.0)
        distance, nearest = KDTree(bodies).query(places[here])
        near = distance <= MATCH_UM
        rows[here[near]] = nearest[near]
        ways[here[near]] = places[here[near]] - bodies[nearest[near]]
    return _Fit(rows, ways, frame)


def _shown(truth: ChamberTruth) -> NDArray[np.int64]:
    """Objects that lay whole in a picture of transmitted light with the table at rest."""
    channel = truth.channels.index(TRANSMITTED)
    good = truth.exposures[(truth.exposures["channel"] == channel) & (truth.exposures["swept_um"] < REST_UM)]["number"]
    seen = truth.seen[truth.seen["whole"] & np.isin(truth.seen["exposure"], good)]
    return np.unique(seen["object"])


def _classes(
    listed: Sequence[Listed], rows: NDArray[np.int64], truth: ChamberTruth, classes: Sequence[str]
) -> dict[str, Any]:
    kinds = truth.kind_names()
    confusion: dict[str, dict[str, int]] = {}
    marked: dict[str, list[int]] = {name: [0, 0] for name in classes}
    for one, row in zip(listed, rows.tolist(), strict=True):
        if one.predicted is None or row < 0:
            continue
        of_kind = confusion.setdefault(str(kinds[row]), {})
        of_kind[one.predicted] = of_kind.get(one.predicted, 0) + 1
        if one.predicted in marked:
            marked[one.predicted][0] += int(truth.bodies["marked"][row])
            marked[one.predicted][1] += 1
    right = {name: confusion.get(name, {}).get(name, 0) for name in classes}
    total = {name: sum(confusion.get(name, {}).values()) for name in classes}
    hits, n = sum(right.values()), sum(total.values())
    return {
        "consistency_rate": _share(hits, n),
        "consistency_interval": wilson(hits, n),
        "n": n,
        "per_class": {name: _share(right[name], total[name]) for name in classes},
        "confusion": {kind: dict(sorted(row.items())) for kind, row in sorted(confusion.items())},
        "marked": {name: _share(*pair) for name, pair in marked.items()},
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _median(ways: NDArray[np.float64]) -> float | None:
    return _quantile(ways, 0.5)


def _quantile(ways: NDArray[np.float64], share: float) -> float | None:
    return float(np.quantile(np.linalg.norm(ways, axis=1), share)) if len(ways) else None
