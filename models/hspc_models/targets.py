"""What the network is to answer: soft targets, mixtures of crops, and rare classes repeated."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hspc_models.dataset import LabelledCrops


def soft_targets(
    crops: LabelledCrops, classes: tuple[str, ...], smoothing: float, to: Literal["all", "neighbours"] = "all"
) -> Tensor:
    """Target scores (n, classes) float32. `smoothing` is shared by all classes, or goes to the neighbours in order.

    An inner class gives each neighbour half of it, an outer class its one neighbour half. A stranger, whose name is no
    class, is to score every class alike, which teaches a closed-set classifier to abstain (outlier exposure, Hendrycks
    et al. 2019).
    """
    even = 1.0 / len(classes)
    rows = np.full((len(crops.names), len(classes)), even, np.float32)
    for row, name in zip(rows, crops.names, strict=True):
        if name not in classes:
            continue
        mine = classes.index(name)
        if to == "all":
            row[:] = smoothing * even
            row[mine] += 1.0 - smoothing
        else:
            row[:] = 0.0
            beside = [index for index in (mine - 1, mine + 1) if 0 <= index < len(classes)]
            row[beside] = smoothing / 2
            row[mine] = 1.0 - smoothing / 2 * len(beside)
    return torch.from_numpy(rows[crops.labels])


def mixed(pictures: Tensor, targets: Tensor, strength: float, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Each picture blended with the one before it in its batch, and the targets alike (mixup, Zhang et al. 2018).

    At least half of it stays, so that a blend counts as a picture of its own crop.
    """
    share = float(rng.beta(strength, strength))
    share = max(share, 1 - share)
    return (
        share * pictures + (1 - share) * pictures.roll(1, 0),
        share * targets + (1 - share) * targets.roll(1, 0),
    )


def oversampled(labels: NDArray[np.int64], classes: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of which every class below `classes` has as many as the commonest: all its rows, whole times, then a draw.

    Rows of strangers (labels from `classes` on) stay as they are. Raises nothing for a class without rows: it has none
    to repeat.
    """
    rows = [np.flatnonzero(labels == index) for index in range(classes)]
    most = max(len(mine) for mine in rows)
    more = [np.flatnonzero(labels >= classes)]
    for mine in rows:
        if len(mine):
            more += [np.tile(mine, most // len(mine)), rng.permutation(mine)[: most % len(mine)]]
    return np.concatenate(more)
