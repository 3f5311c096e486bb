"""The fit of the sort delay: finds a known one with an honest error, and refuses what does not determine it."""

from __future__ import annotations

import numpy as np
import pytest

from hspc_live.stages.delay import CalibrationError, SweepPoint, deflected_fraction, fit_delay

DELAYS = np.arange(560.0, 641.0, 4.0)


def _sweep(
    delay: float, seed: int, *, spread: float = 3.0, plateau: float = 0.95, floor: float = 0.05, beads: int = 60
) -> list[SweepPoint]:
    fractions = deflected_fraction(DELAYS, delay, spread, plateau, floor, 12.0)
    hits = np.random.default_rng(seed).binomial(beads, fractions)
    return [SweepPoint(float(d), int(h), beads) for d, h in zip(DELAYS, hits, strict=True)]


def test_finds_a_known_delay_and_says_how_surely() -> None:
    pulls = []
    for seed in range(8):
        true = 590.0 + 2.3 * seed
        fit = fit_delay(_sweep(true, seed), 12.0)
        pulls.append((fit.delay_ms - true) / fit.sd_ms)
        assert fit.sd_ms < 1.5
        assert abs(fit.delay_ms - true) < 2.0
        assert fit.p_value > 1e-4
    assert 0.4 < np.std(pulls) < 1.8  # the stated error is the real one


def test_recovers_the_plateau_and_the_floor() -> None:
    fit = fit_delay(_sweep(600.0, 1, plateau=0.7, floor=0.1, beads=400), 12.0)
    assert fit.plateau == pytest.approx(0.7, abs=0.08)
    assert fit.floor == pytest.approx(0.1, abs=0.04)
    assert fit.spread_ms == pytest.approx(3.0, abs=1.0)
    assert fit.beads == 400 * len(DELAYS)


def test_a_perfectly_sharp_box_is_no_trouble() -> None:
    points = [SweepPoint(float(d), 20 if abs(d - 601.0) < 6 else 0, 20) for d in DELAYS]
    fit = fit_delay(points, 12.0)
    assert abs(fit.delay_ms - 601.0) < 2.5
    assert 0.0 < fit.sd_ms < 2.5


def test_order_of_the_points_does_not_matter() -> None:
    points = _sweep(600.0, 3)
    assert fit_delay(points[::-1], 12.0) == fit_delay(points, 12.0)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([SweepPoint(float(d), 3, 60) for d in DELAYS], "no peak"),
        (_sweep(561.0, 0), "edge of the sweep"),
        (_sweep(600.0, 0, beads=3), "too few"),
        (_sweep(600.0, 0)[:4], "too few"),
        ([SweepPoint(float(d), 61, 60) for d in DELAYS], "more beads deflected"),
        # two peaks: no pulse looks like that
        ([SweepPoint(float(d), 100 * (abs(abs(d - 600) - 20) < 7), 100) for d in DELAYS], "does not look like"),
    ],
)
def test_refuses_a_sweep_that_determines_nothing(points: list[SweepPoint], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        fit_delay(points, 12.0)
