"""The network beside two simple classifiers, on crops that none of them learnt from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hspc_models.card import load_network
from hspc_models.evaluate import logits
from hspc_models.hog import hog_predictions
from hspc_models.sources import FiledCrops
from hspc_models.tutor import radial_predictions

NETWORK, HOG, RADIAL = "network", "HOG + logistic regression", "ring profiles + small network"


def held_out_predictions(folder: Path, source: FiledCrops) -> dict[str, NDArray[np.int64]]:
    """Classes (n,) that the model in `folder` and its peers give the crops held out. Raises ModelError."""
    card, network = load_network(folder)
    return {
        NETWORK: logits(network, source.test().images, card.symmetries).argmax(axis=1).astype(np.int64),
        HOG: hog_predictions(source.baseline(), source.test()),
        RADIAL: radial_predictions(source.baseline(), source.test()),
    }
