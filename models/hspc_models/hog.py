"""The classifier that the network has to beat: histograms of oriented gradients and logistic regression.

HOG after Dalal and Triggs (2005). It needs scikit-learn (`pip install 'hspc-live[train]'`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.feature import hog

from hspc_live.core.crop import normalise
from hspc_live.core.errors import ModelError
from hspc_live.core.values import Pixels
from hspc_models.dataset import LabelledCrops
from hspc_models.metrics import balanced_accuracy, confusion


def hog_features(images: Pixels) -> NDArray[np.float32]:
    """HOG of the normalised crops (n, S, S): 8 orientations, 8 × 8 cells, blocks of 2 × 2; (n, features)."""
    cell = max(2, images.shape[1] // 8)
    return np.stack([
        hog(normalise(image.astype(np.float32)), orientations=8, pixels_per_cell=(cell, cell), cells_per_block=(2, 2))
        for image in images
    ]).astype(np.float32)  # fmt: skip


def hog_predictions(train: LabelledCrops, test: LabelledCrops) -> NDArray[np.int64]:
    """Classes (n,) of the crops of `test` after fitting on `train` (same names, same order). Raises ModelError."""
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise ModelError("the HOG baseline needs scikit-learn: pip install 'hspc-live[train]'") from error
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.001, max_iter=2000))
    model.fit(hog_features(train.images), train.labels)
    return np.asarray(model.predict(hog_features(test.images)), np.int64)


def hog_balanced_accuracy(train: LabelledCrops, test: LabelledCrops) -> float:
    """Balanced accuracy of these predictions. Raises ModelError."""
    return balanced_accuracy(confusion(test.labels, hog_predictions(train, test), len(test.names)))
