"""The sort delay from a sweep with beads: pure fit, no device.

At each trial delay a number of beads is commanded and one counts how many were deflected. A bead is deflected when it
crosses the point of deflection while the pulse is open, so the deflected fraction over the delay is a box as wide as
the pulse, smeared by the spread of the arrivals (a Gaussian), on a floor of beads deflected by chance:

    p(d) = floor + (1 - floor) · plateau · [Φ((d - delay + w/2)/σ) - Φ((d - delay - w/2)/σ)]

The four parameters are fitted by maximum likelihood (binomial counts); the standard deviation of the delay is half the
profile-likelihood interval at a rise of 1/2 (Wilks 1938), which stays honest when the box has steep sides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize
from scipy.special import ndtr, xlogy
from scipy.stats import chi2

from hspc_live.core.errors import HspcError

Floats = NDArray[np.float64]

MIN_DELAYS = 5
MIN_BEADS = 100
_EDGE = 1e-9


class CalibrationError(HspcError):
    """The sweep does not determine a sort delay; the message says what to change."""

    exit_code = 6


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One trial delay: how many beads were commanded and how many of them were deflected."""

    delay_ms: float
    deflected: int
    total: int


@dataclass(frozen=True, slots=True)
class DelayFit:
    """The fitted delay ± sd; `spread_ms` is the arrivals' σ, `plateau` the deflected share at the best delay.

    `p_value` is the goodness of fit: how often chance alone fits worse (deviance against chi-squared).
    """

    delay_ms: float
    sd_ms: float
    spread_ms: float
    plateau: float
    floor: float
    p_value: float
    beads: int


def deflected_fraction(
    delays_ms: Floats, delay_ms: float, spread_ms: float, plateau: float, floor: float, pulse_ms: float
) -> Floats:
    """The model above at `delays_ms`, (n,) float64 in [0, 1]."""
    offset = delays_ms - delay_ms
    box = ndtr((offset + pulse_ms / 2) / spread_ms) - ndtr((offset - pulse_ms / 2) / spread_ms)
    return np.asarray(floor + (1.0 - floor) * plateau * box)


def fit_delay(points: Sequence[SweepPoint], pulse_ms: float) -> DelayFit:
    """Fit the sweep; raises CalibrationError when the beads are too few or show no peak inside the sweep."""
    table = sorted((point for point in points if point.total > 0), key=lambda point: point.delay_ms)
    _enough(table)
    delays = np.array([point.delay_ms for point in table])
    hits = np.array([point.deflected for point in table], dtype=np.float64)
    totals = np.array([point.total for point in table], dtype=np.float64)
    flat = _loss(np.full(len(table), hits.sum() / totals.sum()), hits, totals)
    bounds = _bounds(delays, pulse_ms)
    # the likelihood has several tops (each noisy point is one): start at every delay of the sweep
    starts = ([start, pulse_ms / 6, 0.8, 0.02] for start in delays)
    best = min((_minimise(start, delays, hits, totals, pulse_ms, bounds) for start in starts), key=lambda fit: fit[1])
    (delay, spread, plateau, floor), loss = best
    if 2 * (flat - loss) < chi2.isf(1e-6, 3):
        raise CalibrationError(
            "sort delay: the deflected fraction shows no peak; widen the sweep, or check that the sorter deflects"
        )
    if not delays[0] + pulse_ms / 2 <= delay <= delays[-1] - pulse_ms / 2:
        raise CalibrationError(
            f"sort delay: the peak ({delay:.1f} ms) is at the edge of the sweep ({delays[0]:g} to {delays[-1]:g} ms); "
            "shift the sweep so that it shows both sides"
        )
    sd = _profile_sd(best, delays, hits, totals, pulse_ms, bounds)
    saturated = _loss(hits / totals, hits, totals)
    p_value = float(chi2.sf(2 * (loss - saturated), max(len(table) - 4, 1)))
    if p_value < 1e-6:
        raise CalibrationError(
            f"sort delay: the deflected fraction does not look like a pulse of {pulse_ms:g} ms (p = {p_value:.1g}); "
            "was the flow steady, and the pulse as wide as stated?"
        )
    return DelayFit(float(delay), sd, float(spread), float(plateau), float(floor), p_value, int(totals.sum()))


def _enough(table: Sequence[SweepPoint]) -> None:
    """Too few delays or beads cannot carry four parameters."""
    beads = sum(point.total for point in table)
    if len({point.delay_ms for point in table}) < MIN_DELAYS or beads < MIN_BEADS:
        raise CalibrationError(
            f"sort delay: {beads} beads at {len(table)} delays are too few; "
            f"at least {MIN_BEADS} beads at {MIN_DELAYS} delays are needed"
        )
    if any(not 0 <= point.deflected <= point.total for point in table):
        raise CalibrationError("sort delay: more beads deflected than were commanded")


def _bounds(delays: Floats, pulse_ms: float) -> list[tuple[float, float]]:
    """Search box of (delay, spread, plateau, floor)."""
    step = float(np.min(np.diff(np.unique(delays))))
    span = float(delays[-1] - delays[0])
    return [(float(delays[0]), float(delays[-1])), (min(step, pulse_ms) / 10, span), (0.0, 1.0), (0.0, 0.9)]


def _loss(fractions: Floats, hits: Floats, totals: Floats) -> float:
    """Negative log-likelihood of binomial counts, without the constant."""
    p = np.clip(fractions, _EDGE, 1.0 - _EDGE)
    return -float(np.sum(xlogy(hits, p) + xlogy(totals - hits, 1.0 - p)))


def _minimise(
    start: list[float],
    delays: Floats,
    hits: Floats,
    totals: Floats,
    pulse_ms: float,
    bounds: list[tuple[float, float]],
) -> tuple[tuple[float, float, float, float], float]:
    """Best parameters from one start, and their loss. A bound of no width holds its parameter fixed."""

    def loss(x: Any) -> float:
        return _loss(deflected_fraction(delays, x[0], x[1], x[2], x[3], pulse_ms), hits, totals)

    found = minimize(loss, start, method="Nelder-Mead", bounds=bounds, options={"xatol": 1e-3, "fatol": 1e-4})
    x = found.x
    return (float(x[0]), float(x[1]), float(x[2]), float(x[3])), float(found.fun)


def _profile_sd(
    best: tuple[tuple[float, float, float, float], float],
    delays: Floats,
    hits: Floats,
    totals: Floats,
    pulse_ms: float,
    bounds: list[tuple[float, float]],
) -> float:
    """Half the interval of delays whose best loss is within 1/2 of the minimum, in ms."""
    (delay, *rest), lowest = best

    def rise(trial: float) -> float:
        def loss(x: Any) -> float:
            return _loss(deflected_fraction(delays, trial, x[0], x[1], x[2], pulse_ms), hits, totals)

        return float(minimize(loss, rest, method="Nelder-Mead", bounds=bounds[1:]).fun) - lowest - 0.5

    return (_crossing(rise, delay, bounds[0][1]) + _crossing(rise, delay, bounds[0][0])) / 2


def _crossing(rise: Callable[[float], float], delay: float, end: float) -> float:
    """Distance from the best delay, towards `end`, at which `rise` crosses zero."""
    if rise(end) <= 0:
        raise CalibrationError("sort delay: the sweep leaves the delay undetermined on one side; widen it")
    return abs(float(brentq(rise, delay, end, xtol=1e-3)) - delay)
