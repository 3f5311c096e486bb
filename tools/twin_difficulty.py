"""How hard the twin's classes are to tell apart without a network: by size alone, and by HOG.

Films single cells of the three classes (or of those of `--classes`) in equal numbers, cuts their crops at the true
positions, and reports the cross-validated balanced accuracy (chance 0.333, of two classes 0.5) of two baselines: the
true diameter, and histograms of oriented gradients (Dalal & Triggs 2005), each with logistic regression. All crops of
a cell fall into one fold.

    python tools/twin_difficulty.py --cells 2000 --texture 1.0 [--classes LT-HSC ST-HSC]
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from numpy.typing import NDArray
from skimage.feature import hog
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from hspc_live.settings.twin import TwinFlowSettings
from hspc_live.twin.samples import CLASSES, Crops, sample_crops


def gradients(crops: Crops) -> NDArray[np.float32]:
    """HOG features of every crop, (n, features): 9 orientations, cells of 8 × 8 pixels, blocks of 2 × 2 cells."""
    rows = [hog(crop, orientations=9, pixels_per_cell=(8, 8), cells_per_block=(2, 2)) for crop in crops.crops]
    return np.asarray(rows, np.float32)


def accuracy(model: object, features: NDArray[np.floating], crops: Crops, seed: int) -> float:
    """Balanced accuracy over five folds that keep the crops of a cell together."""
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    predicted = cross_val_predict(model, features, crops.labels, groups=crops.cells, cv=folds)
    return float(balanced_accuracy_score(crops.labels, predicted))


def main() -> None:
    """Film, measure, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--looks", type=int, default=1, help="crops of each cell")
    parser.add_argument("--texture", type=float, default=1.0)
    parser.add_argument("--modality", choices=("dic", "brightfield"), default="dic")
    parser.add_argument("--classes", nargs="+", default=CLASSES, choices=CLASSES)
    parser.add_argument("--seed", type=int, default=20)
    options = parser.parse_args()
    settings = TwinFlowSettings(texture=options.texture, modality=options.modality)
    begun = time.perf_counter()
    crops = sample_crops(
        settings, options.cells * options.looks, options.seed, kinds=tuple(options.classes), looks=options.looks
    )
    filmed = time.perf_counter()
    by_size = make_pipeline(StandardScaler(), PolynomialFeatures(3), LogisticRegression(max_iter=1000))
    by_hog = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
    figures = {
        **vars(options),
        "crops_per_s": round(len(crops.crops) / (filmed - begun)),
        "size_alone": round(accuracy(by_size, crops.diameters_um[:, None], crops, options.seed), 3),
        "hog": round(accuracy(by_hog, gradients(crops), crops, options.seed), 3),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
