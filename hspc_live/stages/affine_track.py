"""Camera against stage from pictures taken one after the other, when the stage may have slipped on the way.

Every picture is compared with the first, so a slip shifts all that come after it: the pictures between two slips share
one unknown constant. Which moves slipped is found by trying; what is left is plain least squares. A picture whose shift
was taken wrongly is two slips, there and back.

A stage that slips a little at every move is another matter. The few largest of its slips, taken out, would leave
pictures that agree too well, and an affine that states a half of its error: such a stage is fitted as a random walk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from hspc_live.core.errors import DeviceError
from hspc_live.stages.affine import FLATTEST, Affine, AffineError, AffineFit, Floats, finite_points

MIN_PICTURES = 4
MOST = 3
"""One move in so many may have slipped; from there on the pictures before and after cannot tell which ones did."""
COST = 20.0
"""How much better, in 2 n log of the squares' sum, the pictures must agree for one more slip to be believed. A slip has
two parts and a time, which Zhang and Siegmund (A modified Bayes information criterion, Biometrics 63, 2007) would cost
half of it here; twice as much hardly ever sees a slip where there is none, and misses only what the noise covers."""
WALK_COST = 4.0
"""How much better, in the restricted likelihood's 2 log, a slip at every move must explain the pictures than none."""
WALK_FIRST = 10.0
"""How much less well than single slips it may explain them and still be believed: it has no choice of what to fit."""
WALK_PICTURES = 9
"""Fewer cannot tell slips at every move from a few."""
RATIOS = (0.0, *np.geomspace(1e-2, 1e4, 25).tolist())
"""Tried for the variance of a move's slip over that of a picture."""
FINEST = 0.15
"""Share of the stated noise below which agreement is luck: rounding of the encoder, and few pictures."""
WORST = 2.0
"""Scatter over the stated noise from which on the statement is wrong."""


class UnsteadyStageError(AffineError, DeviceError):
    """The stage did not go where it said, too often to measure the camera by it; the message says what to check."""


def fit_track(pixels: ArrayLike, stage_um: ArrayLike, *, noise_um: float) -> AffineFit:
    """The affine from where a cell shows (n, 2) px and the place (n, 2) µm under it, of n pictures in their order.

    Both may be counted from anywhere. `noise_um` is the known error of a picture per axis (stage repeatability and
    shift): the covariance is never smaller than it implies, however well the pictures agree. Of all ways to place
    slips in up to a third of the moves the one is taken that makes the squares small at the least `COST`; without a
    slip this is the least squares of all pictures. Where slips at every move explain the pictures about as well, they
    are weighed by how far the walk may have come between them, and the covariance says so.

    Raises AffineError for fewer than four pictures, NaN, or moves along one line.
    """
    if not (math.isfinite(noise_um) and noise_um > 0):
        raise AffineError(f"noise_um must be the error of one picture, above 0, found {noise_um}")
    points, places = finite_points(pixels, "pixels"), finite_points(stage_um, "places")
    n = len(points)
    if n != len(places):
        raise AffineError(f"{n} pixels and {len(places)} places: they must come in pairs")
    if n < MIN_PICTURES:
        raise AffineError(f"{n} pictures are too few: an affine needs {MIN_PICTURES}, not all on one line")
    _not_on_a_line(points, "the points in the picture")
    _not_on_a_line(places, "the positions of the stage")
    least = 2 * n * (FINEST * noise_um) ** 2
    best, none, slips = math.inf, math.inf, tuple[int, ...]()
    for count in range((n - 1) // MOST + 1):
        if 2 * n <= 2 * (3 + count):  # nothing would be left to tell how well it fits
            break
        for trial in combinations(range(1, n), count):
            squares = _squares(_design(points, trial), places)
            cost = 2 * n * math.log(max(squares, least)) + COST * count
            none = cost if not trial else none
            if cost < best:
                best, slips = cost, trial
    gain, ratio = _walk(_design(points, ()), places, least) if n >= WALK_PICTURES else (0.0, 0.0)
    if gain > max(WALK_COST, none - best - WALK_FIRST):
        slips = ()
    else:
        ratio = 0.0
    design = _design(points, slips)
    solver, squares = _weighted(design, places, ratio)
    solution = solver @ places
    scatter = math.sqrt(squares / (2 * (n - design.shape[1])))
    walk = math.sqrt(ratio) * max(scatter, FINEST * noise_um)
    noise = max(noise_um, scatter)
    # as an Affine's covariance is read, row by row of the matrix, with nothing in the constants' places
    linear = np.zeros((3, 3))
    linear[:2, :2] = (solver @ _spread(n, noise**2, walk**2) @ solver.T)[-2:, -2:]
    matrix = np.column_stack([solution[-2:].T, np.zeros(2)])
    covariance = np.asarray(np.kron(np.eye(2), linear), np.float64)
    residuals = np.asarray(places - design @ solution, np.float64)
    return AffineFit(Affine(matrix, covariance), residuals, slips, noise, scatter, walk)


def check_steady(track: AffineFit, noise_um: float) -> None:
    """Raise UnsteadyStageError for slips in a third of the moves, or where the rest agrees worse than was stated."""
    moves = len(track.residuals_um) - 1
    check = (
        "check that nothing drags on the stage or its cable, that the chamber is clamped, that the motor does not lose "
        "steps (lower its acceleration), and that the picture is in focus"
    )
    if track.walk_um > WORST * noise_um:
        raise UnsteadyStageError(
            f"the stage slipped in most of {moves} moves, by ± {track.walk_um:.3g} µm where calibration.noise_um says "
            f"± {noise_um:.3g} µm: too far to measure camera against stage; {check}"
        )
    if MOST * len(track.slips) >= moves:
        raise UnsteadyStageError(
            f"the stage slipped in {len(track.slips)} of {moves} moves, or more: too often to measure camera against "
            f"stage; {check}"
        )
    if track.scatter_um > WORST * noise_um:
        raise UnsteadyStageError(
            f"stage and picture agree only to ± {track.scatter_um:.3g} µm where calibration.noise_um says ± "
            f"{noise_um:.3g} µm: {check}; if this stage is no better, raise calibration.noise_um"
        )


def _design(points: Floats, slips: Sequence[int]) -> Floats:
    """(n, slips + 3): which stretch between slips a picture is of, then x and y."""
    stretch = np.searchsorted(np.array(slips, np.intp), np.arange(len(points)), side="right")
    return np.column_stack([np.eye(len(slips) + 1)[stretch], points])


def _spread(n: int, picture: float, move: float) -> Floats:
    """Covariance (n, n) of the places of n pictures, with a variance of each, and of each move before it."""
    moves = np.arange(n, dtype=np.float64)
    return np.asarray(picture * np.eye(n) + move * np.minimum.outer(moves, moves), np.float64)


def _weighted(design: Floats, places: Floats, ratio: float) -> tuple[Floats, float]:
    """Generalised least squares: what gives the solution from the places, and the weighted squares that are left."""
    weights = np.linalg.inv(_spread(len(design), 1.0, ratio))
    solver = np.linalg.solve(design.T @ weights @ design, design.T @ weights)
    rest = places - design @ (solver @ places)
    return np.asarray(solver, np.float64), float((rest * (weights @ rest)).sum())


def _walk(design: Floats, places: Floats, least: float) -> tuple[float, float]:
    """How much better slips at every move explain the places than none, and their variance over that of a picture.

    By the restricted likelihood (Patterson and Thompson, Biometrika 58, 1971), both axes together.
    """
    n, parts = design.shape
    costs = []
    for ratio in RATIOS:
        spread = _spread(n, 1.0, ratio)
        _, squares = _weighted(design, places, ratio)
        inside = design.T @ np.linalg.solve(spread, design)
        volume = np.linalg.slogdet(spread)[1] + np.linalg.slogdet(inside)[1]
        costs.append(2 * (n - parts) * math.log(max(squares, least)) + 2 * float(volume))
    best = int(np.argmin(costs))
    return costs[0] - costs[best], RATIOS[best]


def _squares(design: Floats, places: Floats) -> float:
    """What least squares leave of `places`; infinite where the stretches' moves would lie on a line."""
    basis, triangle = np.linalg.qr(design)
    extent = np.abs(np.diag(triangle))[-2:]  # of x within the stretches, and of what of y does not go with x
    if extent.min() <= FLATTEST * extent.max():
        return math.inf
    return float(np.square(places - basis @ (basis.T @ places)).sum())


def _not_on_a_line(points: Floats, what: str) -> None:
    long, short = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    if short <= FLATTEST * long or long <= 0:
        raise AffineError(f"{what} lie on one line (or in one place): move the stage in both directions")
