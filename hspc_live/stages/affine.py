"""From camera pixels to stage µm and back: a 2 × 3 affine that carries its own uncertainty.

`stage position of a cell = stage position of the field + affine(pixel)`. Pixels are (x, y) of pixel centres, x to the
right. The camera may be turned, mirrored or sheared against the stage; the affine takes all of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2

from hspc_live.core.errors import HspcError

Floats = NDArray[np.float64]

MIN_PAIRS = 3
MAX_TRIALS = 1000
REFITS = 5
WORST = 10.0
"""Scatter over expected error from which on the pairs are no measurement of this camera."""
FLATTEST = 1e-3
"""Extent across over extent along: points flatter than this lie on a line, and say nothing about the other axis."""


class AffineError(HspcError):
    """The pairs do not determine camera against stage; the message says what to change."""

    exit_code = 6


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Points with their uncertainty: `xy` is (n, 2), `covariance` (n, 2, 2), both in one unit (µm, or px)."""

    xy: Floats
    covariance: Floats

    @property
    def sd(self) -> Floats:
        """± of each point, (n,): the standard deviation along its least certain direction."""
        return np.asarray(np.sqrt(np.maximum(np.linalg.eigvalsh(self.covariance)[:, -1], 0.0)))


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """`matrix` is (2, 3) float64, µm per px and µm; `covariance` is (6, 6), of the matrix read row by row."""

    matrix: Floats
    covariance: Floats

    @property
    def um_per_px(self) -> tuple[float, float]:
        """Scale along the camera's x and y."""
        along_x, along_y = np.hypot(*self.matrix[:, :2]).tolist()
        return along_x, along_y

    @property
    def rotation_deg(self) -> float:
        """Direction of the camera's x axis on the stage, counted from +x towards +y."""
        return math.degrees(math.atan2(self.matrix[1, 0], self.matrix[0, 0]))

    @property
    def mirrored(self) -> bool:
        """Whether the picture is a mirror image of the stage."""
        return bool(np.linalg.det(self.matrix[:, :2]) < 0)


def nominal(
    um_per_px: float, width_px: int, height_px: int, *, rotation_deg: float = 0.0, scale_sd: float = 0.0
) -> Affine:
    """The affine of a rig that was not calibrated: known scale, the frame's centre at the stage's position.

    `scale_sd` is the relative standard deviation of the scale. Raises AffineError for a scale that is none.
    """
    if not (math.isfinite(um_per_px) and um_per_px > 0):
        raise AffineError(f"a scale of {um_per_px} µm/px is none; measure it, or read it off the objective")
    turn = math.radians(rotation_deg)
    linear = um_per_px * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    centre = np.array([(width_px - 1) / 2, (height_px - 1) / 2])
    matrix = np.column_stack([linear, -linear @ centre])
    spread = matrix.ravel() * scale_sd  # a wrong scale is wrong everywhere alike
    return Affine(matrix, np.outer(spread, spread))


def centred(affine: Affine, width_px: int, height_px: int) -> Affine:
    """The same camera, with the frame's middle at the stage's position by definition.

    So it is used after a calibration from shifts, where a pair is (how far the picture moved in px, minus how far the
    stage moved in µm): moves tell scale, turn and shear, and nothing of where the frame lies.
    """
    linear, x, y = affine.matrix[:, :2], (width_px - 1) / 2, (height_px - 1) / 2
    to_middle = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-x, -y, 0.0]])
    turn = np.kron(np.eye(2), to_middle)
    return Affine(np.column_stack([linear, -linear @ (x, y)]), turn @ affine.covariance @ turn.T)


def apply(affine: Affine, pixels: ArrayLike, *, centroid_sd_px: float = 0.0, repeatability_um: float = 0.0) -> Places:
    """Pixels (n, 2) as places on the stage, µm, relative to where the stage stood.

    The covariance holds the affine's own, the centroids' (through the matrix) and the stage's repeatability.
    """
    points = _points(pixels, "pixels")
    linear = affine.matrix[:, :2]
    xy = points @ linear.T + affine.matrix[:, 2]
    cell = centroid_sd_px**2 * (linear @ linear.T) + repeatability_um**2 * np.eye(2)
    return Places(xy, _from_parameters(affine, points) + cell)


def invert(affine: Affine, stage_um: ArrayLike, *, position_sd_um: float = 0.0) -> Places:
    """Where places (n, 2), µm relative to the stage's position, show in the frame: px with their uncertainty.

    `position_sd_um` is the places' own. Raises AffineError for a matrix without an inverse.
    """
    places = _points(stage_um, "places")
    linear = affine.matrix[:, :2]
    if abs(np.linalg.det(linear)) <= FLATTEST**2 * np.square(linear).sum():
        raise AffineError("the affine maps the picture onto a line: it cannot be inverted; calibrate again")
    back = np.linalg.inv(linear)
    pixels = (places - affine.matrix[:, 2]) @ back.T
    # implicit function theorem: M p + t = s, so dp = M⁻¹ (ds - dM p - dt)
    spread = _from_parameters(affine, pixels) + position_sd_um**2 * np.eye(2)
    return Places(pixels, back @ spread @ back.T)


@dataclass(frozen=True, slots=True, eq=False)
class AffineFit:
    """A fitted affine: `residuals_um` (n, 2) of all pairs, `inliers` (n,) bool of those that it rests on."""

    affine: Affine
    residuals_um: Floats
    inliers: NDArray[np.bool_]
    noise_um: float

    def report(self) -> dict[str, Any]:
        """The calibration in plain numbers, for a person and for JSON."""
        lengths = np.hypot(*self.residuals_um.T)
        kept = lengths[self.inliers]
        along_x, along_y = self.affine.um_per_px
        return {
            "pairs": len(lengths),
            "outliers": np.flatnonzero(~self.inliers).tolist(),
            "um_per_px_x": along_x,
            "um_per_px_y": along_y,
            "rotation_deg": self.affine.rotation_deg,
            "mirrored": self.affine.mirrored,
            "noise_um": self.noise_um,
            "residual_rms_um": float(np.sqrt(np.mean(kept**2))),
            "residual_max_um": float(kept.max()),
            "residuals_um": lengths.tolist(),
        }


def fit(pixels: ArrayLike, stage_um: ArrayLike, *, noise_um: float) -> AffineFit:
    """The affine through pairs of pixel (n, 2) and place (n, 2), without letting wrong pairs have a say.

    Least median of squares over triples finds the pairs that agree, least squares over those gives the affine
    (Rousseeuw, *Least median of squares regression*, JASA 79, 1984; with his finite-sample factor). Fewer than half of
    the pairs may be wrong; three pairs alone can show no wrong one. `noise_um` is the known error of a pair per axis
    (stage repeatability and centroid): the covariance is never smaller than it implies.

    Raises AffineError for fewer than three pairs, NaN, or points on one line.
    """
    if not (math.isfinite(noise_um) and noise_um > 0):
        raise AffineError(f"noise_um must be the error of one pair, above 0, found {noise_um}")
    points, places = _points(pixels, "pixels"), _points(stage_um, "places")
    if len(points) != len(places):
        raise AffineError(f"{len(points)} pixels and {len(places)} places: they must come in pairs")
    if len(points) < MIN_PAIRS:
        raise AffineError(f"{len(points)} pairs are too few: an affine needs three that are not on one line")
    _not_on_a_line(points, "the points in the picture")
    _not_on_a_line(places, "the positions of the stage")
    inliers, spread = _agreeing(points, places, noise_um)
    for _ in range(REFITS):
        _, inverse, residuals = _least_squares(points, places, inliers)
        # a triple's fit is rough away from its points, so good pairs come back once all that agree have their say
        leverage = np.einsum("ni,ij,nj->n", _design(points), inverse, _design(points))
        near = np.square(residuals).sum(axis=1) <= chi2.ppf(0.999, 2) * spread**2 * (1 + leverage)
        if np.array_equal(near, inliers) or near.sum() <= len(points) // 2:
            break
        inliers = near
    solution, inverse, residuals = _least_squares(points, places, inliers)
    free = 2 * int(inliers.sum()) - 6
    scatter = math.sqrt(float(np.square(residuals[inliers]).sum()) / free) if free else 0.0
    if scatter > WORST * noise_um:
        raise AffineError(
            f"the pairs agree only to ± {scatter:.3g} µm where ± {noise_um:.3g} µm is expected: check which point is "
            "which, or measure again"
        )
    noise = max(noise_um, scatter)
    covariance = np.kron(np.eye(2), noise**2 * inverse)
    return AffineFit(Affine(solution.T.copy(), np.asarray(covariance, np.float64)), residuals, inliers, noise)


def _least_squares(points: Floats, places: Floats, inliers: NDArray[np.bool_]) -> tuple[Floats, Floats, Floats]:
    """(solution (3, 2), inverse of the normal matrix (3, 3), residuals (n, 2) of all pairs) from the inliers."""
    _not_on_a_line(points[inliers], "the points that agree with each other")
    design = _design(points[inliers])
    inverse = np.linalg.inv(design.T @ design)
    solution = np.linalg.lstsq(design, places[inliers], rcond=None)[0]
    return np.asarray(solution, np.float64), np.asarray(inverse, np.float64), places - _design(points) @ solution


def _agreeing(points: Floats, places: Floats, noise_um: float) -> tuple[NDArray[np.bool_], float]:
    """The pairs that lie near the affine with the least median residual, and the pairs' spread per axis."""
    n = len(points)
    triples = np.array(_triples(n))
    designs = np.dstack([points[triples], np.ones(triples.shape)])
    # twice the area of a triple's triangle, against the extent of all points: slivers determine nothing
    spanning = np.abs(np.linalg.det(designs)) > FLATTEST * np.square(np.ptp(points, axis=0)).sum()
    if not spanning.any():
        raise AffineError("no three of the points span an area: move the stage in both directions")
    solutions = np.linalg.solve(designs[spanning], places[triples[spanning]])
    squares = np.square(places - _design(points) @ solutions).sum(axis=2)
    best = squares[np.median(squares, axis=1).argmin()]
    # the median squared length of a plane Gaussian is chi2(2)'s median; the factor mends what few pairs shrink
    scale = math.sqrt(float(np.median(best)) / chi2.ppf(0.5, 2)) * (1 + 5 / max(n - MIN_PAIRS, 1))
    near = best <= chi2.ppf(0.99, 2) * max(scale, noise_um) ** 2
    if near.sum() <= n // 2:
        raise AffineError(f"only {near.sum()} of {n} pairs agree with each other: check which point is which")
    return np.asarray(near), max(scale, noise_um)


def _triples(n: int) -> list[list[int]]:
    """All triples, or where there are too many, the same random ones every time."""
    if math.comb(n, 3) <= MAX_TRIALS:
        return [list(triple) for triple in combinations(range(n), 3)]
    rng = np.random.default_rng(n)
    return [rng.choice(n, 3, replace=False).tolist() for _ in range(MAX_TRIALS)]


def _design(points: Floats) -> Floats:
    return np.column_stack([points, np.ones(len(points))])


def _from_parameters(affine: Affine, points: Floats) -> Floats:
    """What the affine's own uncertainty means at `points`, (n, 2, 2)."""
    jacobian = np.zeros((len(points), 2, 6))
    jacobian[:, 0, :3] = jacobian[:, 1, 3:] = _design(points)
    return np.asarray(jacobian @ affine.covariance @ jacobian.transpose(0, 2, 1))


def _points(values: ArrayLike, name: str) -> Floats:
    points = np.asarray(values, np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise AffineError(f"{name} must be (n, 2) numbers, found the shape {points.shape}")
    if not np.isfinite(points).all():
        raise AffineError(f"{name} hold NaN or infinity: leave out what was not measured")
    return points


def _not_on_a_line(points: Floats, what: str) -> None:
    long, short = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    if short <= FLATTEST * long or long <= 0:
        raise AffineError(f"{what} lie on one line (or in one place): move the stage in both directions")
