"""Whether camera against stage is measured as truly as it says, on a stage that slips; and when it is refused.

python tools/chamber_calibration.py --runs 80

Pictures are not drawn: each of the calibration's moves goes where the stage went, give or take the error of a picture,
and the stage slips on the way, by a little at every move or by 1.5 µm at one or two. "Understated" are calibrations
that were let pass and are off by more than the ± they state covers in 95 of 100, of all that were tried: 5 % is honest.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from hspc_live.processes.chamber_calibrate import LONG, SHORT
from hspc_live.settings.chamber_run import MeasuredAffine
from hspc_live.stages.affine import AffineFit, Floats
from hspc_live.stages.affine_track import UnsteadyStageError, check_steady, fit_track

LONG_UM = 77.0  # what a field of 1024 px at 0.25 µm allows
COVERS = 9.488  # 95 % of a chi² of the four numbers of the affine
CAMERA = np.array([[0.24, -0.06], [0.07, 0.25]])
PICTURES_UM = (0.05, 0.15, 0.25)
STAGES = ((0.0, 0), (0.0, 1), (0.0, 2), (0.1, 0), (0.3, 0), (0.5, 0), (0.75, 0), (1.0, 0), (1.5, 0), (0.3, 1))
"""Slip at every move, µm per axis; and how many moves slip by 1.5 µm besides."""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=80)
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args()
    noise_um = MeasuredAffine().noise_um
    print(f"calibration.noise_um: {noise_um:g}; {options.runs} runs a row")
    print("| error of a picture | slip at every move | slips of 1.5 µm | refused | understated | off by / ± stated |")
    print("|---|---|---|---|---|---|")
    for picture_um in PICTURES_UM:
        for move_um, large in STAGES:
            refused, off = 0, []
            for seed in range(options.first_seed, options.first_seed + options.runs):
                fitted = fit_track(*track(picture_um, move_um, large, seed), noise_um=noise_um)
                try:
                    check_steady(fitted, noise_um)
                except UnsteadyStageError:
                    refused += 1
                else:
                    off.append(chi2(fitted))
            passed = f"{math.sqrt(np.mean(off) / 4):.2f}" if off else "–"
            print(
                f"| {picture_um:g} µm | {move_um:g} µm | {large} | {refused / options.runs:.2f} "
                f"| {np.sum(np.array(off) > COVERS) / options.runs:.3f} | {passed} |",
                flush=True,
            )


def track(picture_um: float, move_um: float, large: int, seed: int) -> tuple[Floats, Floats]:
    """Where a cell shows, px, and where the stage says it is, µm, in the pictures of one calibration: (n, 2) each."""
    rng = np.random.default_rng([seed, round(1000 * picture_um), round(1000 * move_um), large])
    step_um = MeasuredAffine().step_um
    said = [(0.0, 0.0), *((step_um * x, step_um * y) for x, y in SHORT), *((LONG_UM * x, LONG_UM * y) for x, y in LONG)]
    stage = np.array(said)
    slips = rng.normal(0, move_um, stage.shape)
    slips[0] = 0.0
    for move in 1 + rng.choice(len(stage) - 1, large, replace=False):
        slips[move] += rng.normal(0, 1.5, 2)
    pixels = (stage + np.cumsum(slips, axis=0) + rng.normal(0, picture_um, stage.shape)) @ np.linalg.inv(CAMERA).T
    return np.asarray(pixels - pixels[0]), stage


def chi2(fitted: AffineFit) -> float:
    """How far the affine is off, squared, in what it states."""
    linear = np.ix_([0, 1, 3, 4], [0, 1, 3, 4])
    off = (fitted.affine.matrix[:, :2] - CAMERA).ravel()
    return float(off @ np.linalg.solve(fitted.affine.covariance[linear], off))


if __name__ == "__main__":
    main()
