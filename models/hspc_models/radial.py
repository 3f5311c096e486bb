"""A simple classifier that knows what a round cell looks like: light and texture by distance from the middle.

In brightfield most of what tells stages of a cell apart is its size and how grainy it is at which depth. Means over
rings hold that, and no turn or mirror changes them; a support vector machine (Cortes and Vapnik 1995) with a Gaussian
kernel does the rest in seconds. It is a peer that the network has to beat, and its tutor: scores that it gives to crops
it was not fitted on say which labels are plain and which are doubtful, and a network that is asked for a mixture of
label and score learns more from few crops (distillation, Hinton et al. 2015). It needs scikit-learn (extra `train`).
"""

from __future__ import annotations

import itertools
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.crop import normalise
from hspc_live.core.errors import ModelError
from hspc_live.core.values import Pixels
from hspc_models.dataset import LabelledCrops
from hspc_models.splits import folds

_RINGS = 10
_BAND_RINGS = 6
_WIDTHS = (0.7, 1.4, 2.8)
"""Standard deviations of the Gaussians whose differences part fine from coarse grain, in pixels of a crop of 40."""
_FLOOR = 1e-3
_FOLDS = 5

Scores = NDArray[np.float32]


def radial_features(images: Pixels) -> NDArray[np.float64]:
    """Features (n, 38) of crops (n, S, S): mean and spread in ten rings, spread of three bands of grain in six."""
    whole = normalise(images.astype(np.float64))
    edge = images.shape[1]
    axis = np.arange(edge) - (edge - 1) / 2
    radius = np.hypot(axis[:, None], axis[None, :]) / (edge / 2)
    columns = []
    for inside in _rings(radius, _RINGS):
        columns += [whole[:, inside].mean(axis=1), np.log(whole[:, inside].std(axis=1) + _FLOOR)]
    for width in _WIDTHS:
        sd = width * edge / 40
        grain = np.stack([cv2.GaussianBlur(one, (0, 0), sd) - cv2.GaussianBlur(one, (0, 0), 2 * sd) for one in whole])
        columns += [np.log(grain[:, inside].std(axis=1) + _FLOOR) for inside in _rings(radius, _BAND_RINGS, 0.9)]
    return np.stack(columns, axis=1)


def radial_predictions(train: LabelledCrops, test: LabelledCrops) -> NDArray[np.int64]:
    """Classes (n,) of the crops of `test` after fitting on `train` (same names, same order). Raises ModelError."""
    model = _machine().fit(radial_features(train.images), train.labels)
    return np.asarray(model.predict(radial_features(test.images)), np.int64)


def tutor_scores(crops: LabelledCrops, seed: int) -> Scores:
    """Scores (n, classes) of crops, each given by a machine that was fitted on others. Raises ModelError.

    Raises RecordingError where a class has too few crops to part.
    """
    features = radial_features(crops.images)
    classes = len(crops.names)
    k = min(_FOLDS, int(np.bincount(crops.labels, minlength=classes).min()))
    distances = np.zeros((len(crops), classes))
    for learnt, judged in folds(crops, k, seed, "random"):
        found = np.asarray(_machine().fit(features[learnt], crops.labels[learnt]).decision_function(features[judged]))
        # of two classes it says one distance only
        distances[judged] = np.stack((-found, found), axis=1) if found.ndim == 1 else found
    from sklearn.linear_model import LogisticRegression

    calibrated = LogisticRegression(C=10.0).fit(distances, crops.labels)
    return np.asarray(calibrated.predict_proba(distances), np.float32)


def _rings(radius: NDArray[np.float64], n: int, reach: float = 1.0) -> list[NDArray[np.bool_]]:
    """`n` rings of equal width from the middle to `reach` of the way to the edge."""
    ends = np.linspace(0, reach, n + 1)
    return [(radius >= inner) & (radius < outer) for inner, outer in itertools.pairwise(ends)]


def _machine() -> Any:
    try:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import SVC
    except ImportError as error:
        raise ModelError("the radial classifier needs scikit-learn: pip install 'hspc-live[train]'") from error
    return make_pipeline(StandardScaler(), SVC(C=1.0))
