"""A small classifier of what the rings of a cell hold: a peer that the network has to beat, and its tutor.

Two hidden layers read the features of `radial`. It is shown every crop at up to 25 places, because a cell's middle is
only found to a pixel or two, and gives the mean of what it says of them. It learns in seconds.

As a tutor it scores crops that it was not fitted on, which says which labels are plain and which are doubtful: a
network that is asked for a mixture of label and score learns more from few crops (distillation, Hinton et al. 2015). It
scores the very pictures that the network is shown, turned, scaled and blended, so every change of a picture changes
what the network is to say of it (Beyer et al. 2022, "a good teacher is patient and consistent").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hspc_live.core.values import Pixels
from hspc_models.dataset import LabelledCrops
from hspc_models.radial import radial_features, shifted
from hspc_models.splits import folds

Scores = NDArray[np.float32]

_WIDTH, _DROPOUT, _NOISE = 128, 0.3, 0.05
_BATCH, _EPOCHS, _CROPS_SHOWN, _LEAST_EPOCHS = 128, 100, 150_000, 10
_RATE, _DECAY = 3e-3, 0.02
_FOLDS, _TWINS = 5, 2
_PICTURES = 50_000
"""About as many shifted crops as features are taken of: many crops need fewer places each."""


def radial_predictions(train: LabelledCrops, test: LabelledCrops, seed: int = 1) -> NDArray[np.int64]:
    """Classes (n,) of the crops of `test` after fitting on `train` (same names, same order)."""
    positions = _positions(len(train))
    learnt = _fitted(_views(train, positions), train.labels, len(train.names), seed)
    return learnt.scores(_views(test, positions)).argmax(axis=1).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    """Small networks of the same kind and other random starts, and the scale of the features they read."""

    middle: Tensor
    spread: Tensor
    networks: tuple[nn.Module, ...]

    def scores(self, views: Tensor) -> Scores:
        """(n, classes) float32, rows summing to 1, of views (positions, n, features)."""
        with torch.inference_mode():
            scaled = (views - self.middle) / self.spread
            each = [torch.softmax(network(scaled).mean(dim=0), dim=1) for network in self.networks]
            return np.asarray(torch.stack(each).mean(dim=0).numpy(), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Tutor:
    """Classifiers fitted on all crops but a fold each, and the fold (n,) that each crop is in: who has not seen it."""

    fitted: tuple[_Fitted, ...]
    fold: NDArray[np.int64]
    classes: int

    def scores(self, pictures: Pixels, rows: NDArray[np.int64]) -> Scores:
        """Scores (n, classes) of pictures (n, S, S), each made of the crop in its row, by who has not seen that crop.

        They are taken as they are given, at one place: what a network is to answer to this very picture.
        """
        views = torch.from_numpy(radial_features(pictures).astype(np.float32)).unsqueeze(0)
        scores = np.empty((len(rows), self.classes), np.float32)
        for number in np.unique(self.fold[rows]).tolist():
            mine = self.fold[rows] == number
            scores[mine] = self.fitted[number].scores(views[:, mine])
        return scores


def learn_tutor(crops: LabelledCrops, seed: int) -> Tutor:
    """Raises RecordingError where a class has too few crops to part."""
    classes = len(crops.names)
    views = _views(crops, _positions(len(crops)))
    # two at least: a class of one crop is then named for what it is
    k = max(2, min(_FOLDS, int(np.bincount(crops.labels, minlength=classes).min())))
    fold = np.empty(len(crops), np.int64)
    fitted = []
    for number, (learnt, judged) in enumerate(folds(crops, k, seed, "random")):
        fold[judged] = number
        fitted.append(_fitted(views[:, learnt], crops.labels[learnt], classes, seed * 100 + number))
    return Tutor(tuple(fitted), fold, classes)


def _positions(n: int) -> int:
    return next((positions for positions in (25, 9) if n * positions <= _PICTURES), 1)


def _views(crops: LabelledCrops, positions: int) -> Tensor:
    """Features (positions, n, features) float32 of the crops at each place."""
    return torch.from_numpy(
        np.stack([radial_features(moved).astype(np.float32) for moved in shifted(crops.images, positions)])
    )


def _fitted(views: Tensor, labels: NDArray[np.int64], classes: int, seed: int) -> _Fitted:
    """Classes weigh alike, however many crops each has. The global random state is left as it was."""
    spread, middle = torch.std_mean(views, dim=(0, 1))
    spread = spread.clamp_min(1e-6)
    scaled = (views - middle) / spread
    counts = np.bincount(labels, minlength=classes)
    weights = torch.from_numpy(len(labels) / (classes * np.maximum(counts, 1))).float()
    with torch.random.fork_rng(devices=[]):
        networks = []
        for twin in range(_TWINS):
            torch.manual_seed(seed * _TWINS + twin)
            networks.append(_learn(scaled, torch.from_numpy(labels), weights))
    return _Fitted(middle, spread, tuple(networks))


def _learn(scaled: Tensor, labels: Tensor, weights: Tensor) -> nn.Module:
    positions, n, features = scaled.shape
    network = nn.Sequential(
        nn.Linear(features, _WIDTH), nn.GELU(), nn.Dropout(_DROPOUT),
        nn.Linear(_WIDTH, _WIDTH), nn.GELU(), nn.Dropout(_DROPOUT),
        nn.Linear(_WIDTH, len(weights)),
    )  # fmt: skip
    epochs = min(_EPOCHS, max(_LEAST_EPOCHS, _CROPS_SHOWN // n))
    steps = epochs * -(-n // _BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if not len(order):
            order = torch.randperm(n)
        rows, order = order[:_BATCH], order[_BATCH:]
        seen = scaled[torch.randint(positions, (len(rows),)), rows]
        seen = seen + _NOISE * torch.randn_like(seen)
        loss = functional.cross_entropy(network(seen), labels[rows], weights)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
        optimizer.step()
        schedule.step()
    return network.eval()
