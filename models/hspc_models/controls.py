"""Simpler classifiers beside the network, on the same cells: size alone, HOG, and the background without the cell.

Each is trained and judged by cross-validation on the very crops that judge the network, by group where there are
groups. A network that is no better than the cell's diameter has learnt the diameter. If the corners of the crops, where
no cell is, tell the classes apart, then the classes were filmed under different conditions, or a cell's light reaches
them; if the former, no figure of a classifier on such crops is to be believed (a batch effect: Leek et al., *Nature
Reviews Genetics* 11:733, 2010).
They need scikit-learn (`pip install 'hspc-live[train]'`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import ModelError, RecordingError
from hspc_live.core.values import Modality, Pixels
from hspc_live.settings.segment import SegmentSettings
from hspc_models.dataset import LabelledCrops
from hspc_models.duplicates import find_duplicates
from hspc_models.hog import hog_features
from hspc_models.metrics import Figures, Labels, judge
from hspc_models.outlines import cell_masks
from hspc_models.resample import SEED
from hspc_models.separate import Verdict, separability
from hspc_models.splits import By, folds

NETWORK: Final = "network"
HOG: Final = "HOG"
SIZE: Final = "size only"
BACKGROUND: Final = "background only"

MOST: Final = 4000
"""Crops that controls look at; of more, some by chance: their figures are sure enough then, and HOG is slow."""

_FOLDS: Final = (5, 3, 2)
_ROOMY: Final = SegmentSettings(min_diameter_um=1.0, max_diameter_um=100.0)
_MARGIN: Final = 0.05
"""Of the crop's width, kept clear around the cell's outline: its fringe is not background."""

Features = NDArray[np.float64]
Masks = NDArray[np.bool_]
Parts = list[tuple[NDArray[np.int64], NDArray[np.int64]]]
Machine = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Control:
    """One classifier on the cells: its figures, and whether it is above chance."""

    name: str
    figures: Figures
    verdict: Verdict

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "balanced_accuracy": self.figures.balanced_accuracy.to_json(),
            "macro_f1": self.figures.macro.f1.to_json(),
            "consistency_rate": {name: one.consistency.rate for name, one in self.figures.classes.items()},
            "above_chance": self.verdict.separable,
            "p": self.verdict.p,
        }


@dataclass(frozen=True, slots=True)
class Controls:
    """All of them, the network on the same cells first; `by` and `folds` say how they were cross-validated.

    `outlined` is the share of crops in which a cell's outline was found; `remarks` are for the reader.
    """

    all: tuple[Control, ...]
    n: int
    by: By
    folds: int
    outlined: float
    remarks: tuple[str, ...]

    def of(self, name: str) -> Control:
        """One of them by name."""
        return next(control for control in self.all if control.name == name)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "n": self.n,
            "by": self.by,
            "folds": self.folds,
            "outlined": self.outlined,
            "chance": self.all[0].verdict.chance,
            "classifiers": {control.name: control.to_json() for control in self.all},
            "remarks": list(self.remarks),
        }


def run_controls(
    crops: LabelledCrops,
    predicted: Labels,
    modality: Modality,
    units: NDArray[np.int64] | None,
    said: Callable[[str], None] | None = None,
    seed: int = SEED,
) -> Controls:
    """The controls on crops of known scale whose every class has cells, beside the network's `predicted` (n,).

    `units` (n,) are what cells are not independent within, or None. `said` hears what is going on. Raises
    RecordingError where the crops cannot be cross-validated at all, ModelError without scikit-learn.
    """
    rows = _some(crops, seed)
    crops, predicted = crops.take(rows), predicted[rows]
    units = None if units is None else units[rows]
    tell = said or (lambda _: None)
    parts, by, remarks = _parts(crops, seed)
    if len(rows) < len(units if units is not None else rows):
        remarks.append(f"controls look at {len(rows)} crops only, by chance")
    tell("controls: outlines")
    masks = cell_masks(crops.images, crops.um_per_px, modality, _ROOMY)
    outlined = float(masks.any(axis=(1, 2)).mean())
    if outlined < 0.9:
        remarks.append(f"a cell's outline was found in {outlined:.0%} of the crops only: size alone may know more")
    found = [(NETWORK, np.asarray(predicted, np.int64))]
    makers: tuple[tuple[str, Callable[[], Features], Machine], ...] = (
        (SIZE, lambda: size_features(masks, crops.um_per_px), _quadratic),
        (BACKGROUND, lambda: background_features(crops.images, masks), _quadratic),
        (HOG, lambda: hog_features(crops.images).astype(np.float64), _linear),
    )
    for name, features, machine in makers:
        tell(f"controls: {name}")
        found.append((name, _held_out(features(), crops.labels, parts, machine)))
    judged = tuple(
        Control(
            name, judge(crops.labels, said_, crops.names, units), separability(crops.labels, said_, crops.names, units)
        )
        for name, said_ in found
    )
    return Controls(judged, len(crops), by, len(parts), outlined, tuple(remarks))


def size_features(masks: Masks, um_per_px: float) -> Features:
    """Logarithm of the diameter (µm) of each outlined cell, and whether there was an outline: (n, 2)."""
    diameters = 2 * np.sqrt(masks.sum(axis=(1, 2)) / np.pi) * um_per_px
    seen = diameters > 0
    usual = float(np.median(diameters[seen])) if seen.any() else 1.0
    return np.stack([np.log(np.where(seen, diameters, usual)), seen.astype(float)], axis=1)


def background_features(images: Pixels, masks: Masks) -> Features:
    """What the corners of crops (n, S, S) look like, in raw counts: (n, 9); without the cell and its fringe.

    Corners are what lies outside the inscribed circle, the same pixels in every crop, so that no cell's size shows in
    them. Level of each corner, level, spread, fine noise, and extremes of all.
    """
    edge = images.shape[-1]
    axis = np.arange(edge) - (edge - 1) / 2
    outside = np.hypot(axis[:, None], axis[None, :]) > edge / 2
    low = axis < 0
    corners = [outside & rows[:, None] & columns for rows in (low, ~low) for columns in (low, ~low)]
    margin = 2 * max(1, round(_MARGIN * edge)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (margin, margin))
    features = np.empty((len(images), 9))
    for row, image, mask in zip(features, images.astype(np.float64), masks, strict=True):
        free = ~cv2.dilate(mask.astype(np.uint8), disc).astype(bool)
        rim = image[outside & free] if (outside & free).sum() >= 8 else image[outside]
        fine = np.abs(np.diff(image, axis=1))[(outside & free)[:, 1:]]
        row[:4] = [image[corner & free].mean() if (corner & free).any() else rim.mean() for corner in corners]
        row[4:] = (
            rim.mean(),
            np.log(rim.std() + 0.1),
            np.log((float(np.median(fine)) if len(fine) else 0.0) + 0.1),
            *np.percentile(rim, (2, 98)),
        )
    return features


def _some(crops: LabelledCrops, seed: int) -> NDArray[np.int64]:
    """At most `MOST` rows, every class by its share, in order."""
    if len(crops) <= MOST:
        return np.arange(len(crops))
    rng = np.random.default_rng(seed)
    drawn = []
    for label in np.unique(crops.labels):
        own = np.flatnonzero(crops.labels == label)
        drawn.append(rng.permutation(own)[: max(2, len(own) * MOST // len(crops))])
    return np.sort(np.concatenate(drawn))


def _parts(crops: LabelledCrops, seed: int) -> tuple[Parts, By, list[str]]:
    """Folds by group where that can be, else at random; and what is to be said of it. Raises RecordingError."""
    copies = find_duplicates(crops.images)
    remarks: list[str] = []
    for by, k in _ways(crops):
        try:
            return folds(crops, k, seed, by, copies), by, remarks
        except RecordingError as error:
            if by == "group" and k == _FOLDS[-1]:
                remarks.append(f"controls are cross-validated at random, not by group: {error}")
            last = error
    raise last


def _ways(crops: LabelledCrops) -> Iterator[tuple[By, int]]:
    if len(np.unique(crops.groups)) > 1:
        yield from (("group", k) for k in _FOLDS)
    yield from (("random", k) for k in _FOLDS)


def _held_out(features: Features, labels: Labels, parts: Parts, machine: Machine) -> NDArray[np.int64]:
    """Classes (n,), each said by a classifier that was fitted on other folds."""
    said = np.empty(len(labels), np.int64)
    for learnt, judged in parts:
        said[judged] = machine().fit(features[learnt], labels[learnt]).predict(features[judged])
    return said


def _quadratic() -> Any:
    return _logistic(1.0, 2)


def _linear() -> Any:
    return _logistic(0.001, 1)  # as `hog` has it: features are many


def _logistic(c: float, degree: int) -> Any:
    """Logistic regression on scaled features and their products; every class counts alike, as in what judges it."""
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import PolynomialFeatures, StandardScaler
    except ImportError as error:
        raise ModelError("the controls need scikit-learn: pip install 'hspc-live[train]'") from error
    scaled = [StandardScaler()]
    if degree > 1:
        scaled += [PolynomialFeatures(degree, include_bias=False), StandardScaler()]
    return make_pipeline(*scaled, LogisticRegression(C=c, max_iter=2000, class_weight="balanced"))
