"""The network beside simpler classifiers, on crops that none of them learnt from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hspc_models.card import load_network
from hspc_models.evaluate import logits
from hspc_models.hog import hog_predictions
from hspc_models.sources import FiledCrops
from hspc_models.train_settings import TrainSettings
from hspc_models.tutor import radial_predictions

NETWORK, RESNET = "network", "ResNet-50 alone"
HOG, RADIAL = "HOG + logistic regression", "ring profiles + small network"


def held_out_predictions(folder: Path, source: FiledCrops, settings: TrainSettings) -> dict[str, NDArray[np.int64]]:
    """Classes (n,) that the model in `folder` and its peers give the crops held out. Raises ModelError.

    Of a network that carries a reader of rings, what its own layers say is told beside: the peer that reads rings is
    no second opinion on what that reader says. Of another network both are the same.
    """
    card, network = load_network(folder)
    images = source.test().images
    whole = logits(network, images, card.symmetries).argmax(axis=1)
    network.reader = None
    return {
        NETWORK: whole.astype(np.int64),
        RESNET: logits(network, images, card.symmetries).argmax(axis=1).astype(np.int64),
        HOG: hog_predictions(source.baseline(), source.test()),
        RADIAL: radial_predictions(source.baseline(), source.test(), settings.augment, settings.seed),
    }
