"""Cells that are of no class of the model: how strange a cell is, and from where on it is called a stranger.

Three measures, each from what the network gives anyhow, higher is stranger: 1 - best score (Hendrycks and Gimpel, ICLR
2017), the free energy of the logits (Liu et al., NeurIPS 2020), and the Mahalanobis distance of the features to the
nearest class mean with one covariance for all classes (Lee et al., NeurIPS 2018), the covariance shrunk after Ledoit
and Wolf (*J. Multivariate Analysis* 88:365, 2004), for features are many and cells few.

The limit is a conformal quantile (Vovk et al., *Algorithmic Learning in a Random World*, 2005): a known cell,
exchangeable with the calibration cells, is called a stranger with a chance of at most `wrongly`, whatever the
measure's distribution. How many strangers are found it cannot promise; that is measured where some are at hand.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from hspc_live.core.errors import SettingsError
from hspc_models.card import Rate
from hspc_models.metrics import Floats, Labels, wilson
from hspc_models.resample import Estimate
from hspc_models.roc import area_under

Measure = Literal["max_score", "energy", "mahalanobis"]


@dataclass(frozen=True, slots=True)
class StrangerLimit:
    """For the card: cells with a measure above `limit` are strangers; `wrongly` bounds how many known cells are.

    `limit` is None where calibration cells are too few for so small a share: then no cell is called a stranger.
    `found` and `area` (of the curve, strangers against known) are measured on strangers, None where none were at hand.
    """

    measure: Measure
    wrongly: float
    limit: float | None
    calibrated_on: int
    found: Rate | None = None
    area: Estimate | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        found = None if self.found is None else self.found.model_dump()
        return asdict(self) | {"found": found, "area": None if self.area is None else self.area.to_json()}


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSpace:
    """Class means (classes, d) and the whitening (d, d) of features: `(x - mean) @ whitening` has unit covariance."""

    means: NDArray[np.float64]
    whitening: NDArray[np.float64]
    shrinkage: float


def score_strangeness(scores: Floats) -> NDArray[np.float64]:
    """1 - best score, (n,) of scores (n, classes)."""
    return np.asarray(1.0 - np.asarray(scores, np.float64).max(axis=1))


def energy(logits: Floats, temperature: float = 1.0) -> NDArray[np.float64]:
    """Free energy -T log Σ exp(logit / T), (n,) of logits (n, classes)."""
    scaled = np.asarray(logits, np.float64) / temperature
    top = scaled.max(axis=1)
    return np.asarray(-temperature * (top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))))


def fit_features(features: Floats, labels: Labels, classes: int) -> FeatureSpace:
    """Means and shared covariance of training features (n, d) of labels (n,).

    Raises SettingsError for a class without cells, or features that do not vary at all.
    """
    values = np.asarray(features, np.float64)
    counts = np.bincount(labels, minlength=classes)
    if (counts == 0).any():
        raise SettingsError(f"strangers: class {int(counts.argmin())} has no cell to take a mean of")
    means = np.stack([values[labels == column].mean(axis=0) for column in range(classes)])
    residuals = values - means[labels]
    covariance, shrinkage = shrunk_covariance(residuals)
    if not np.trace(covariance) > 0:
        raise SettingsError("strangers: the features do not vary")
    # the inverse's lower factor: |(x - mean) @ whitening|² is the Mahalanobis distance
    whitening = linalg.solve_triangular(np.linalg.cholesky(covariance), np.eye(values.shape[1]), lower=True).T
    return FeatureSpace(means, np.asarray(whitening), shrinkage)


def mahalanobis(features: Floats, space: FeatureSpace) -> NDArray[np.float64]:
    """Distance (n,) of features (n, d) to the nearest class mean, in standard deviations."""
    values = np.asarray(features, np.float64)
    white = values @ space.whitening
    centres = space.means @ space.whitening
    return np.asarray(np.sqrt(np.min([np.square(white - centre).sum(axis=1) for centre in centres], axis=0)))


def shrunk_covariance(residuals: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Covariance (d, d) of centred values (n, d), drawn towards a multiple of the identity, and how far (0 … 1)."""
    n, d = residuals.shape
    plain = residuals.T @ residuals / n
    scale = float(np.trace(plain)) / d
    distance = float(np.square(plain).sum()) / d - scale**2
    squares = np.square(residuals)
    noise = (float((squares.T @ squares).sum()) / n - float(np.square(plain).sum())) / (d * n)
    shrinkage = 0.0 if distance <= 0 else min(noise, distance) / distance
    shrunk = (1 - shrinkage) * plain
    shrunk[np.diag_indices(d)] += shrinkage * scale
    return shrunk, shrinkage


def stranger_limit(
    measure: Measure,
    known: Floats,
    wrongly: float = 0.05,
    strangers: Floats | None = None,
) -> StrangerLimit:
    """The limit from the measures of known calibration cells (n,), judged on those of strangers (m,) where given.

    At most `wrongly` of known cells are called strangers, on average over calibrations. Raises SettingsError for a
    share outside (0, 1).
    """
    if not 0.0 < wrongly < 1.0:
        raise SettingsError(f"strangers: the share of known cells {wrongly:g} must lie between 0 and 1")
    n = len(known)
    place = math.ceil((n + 1) * (1.0 - wrongly))
    limit = float(np.sort(known)[place - 1]) if place <= n else None
    if strangers is None or not len(strangers):
        return StrangerLimit(measure, wrongly, limit, n)
    caught = 0 if limit is None else int((strangers > limit).sum())
    truth = np.repeat([False, True], [n, len(strangers)])
    area = area_under(np.concatenate([known, strangers]), truth)
    return StrangerLimit(measure, wrongly, limit, n, wilson(caught, len(strangers)), area)
