"""A small classifier of what the rings of a cell hold: fitted in seconds, a peer of the network, and its tutor.

The classifier is `radial.RingReader`; here it learns, from every crop at up to 25 places. A network may carry one.

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
from hspc_models.radial import RingReader, radial_features, shifted
from hspc_models.splits import folds

Scores = NDArray[np.float32]

_NOISE = 0.05
_BATCH, _EPOCHS, _CROPS_SHOWN, _LEAST_EPOCHS = 128, 100, 150_000, 10
_RATE, _DECAY = 3e-3, 0.02
_FOLDS = 5
_PICTURES = 50_000
"""About as many shifted crops as features are taken of: many crops need fewer places each."""


def fit_reader(crops: LabelledCrops, seed: int) -> RingReader:
    """A reader of the crops' rings, in evaluation mode, that scores the classes in the order of `crops.names`."""
    return _fitted(_views(crops, _positions(len(crops))), crops, np.arange(len(crops)), seed)


def radial_predictions(train: LabelledCrops, test: LabelledCrops, seed: int = 1) -> NDArray[np.int64]:
    """Classes (n,) of the crops of `test` after fitting on `train` (same names, same order)."""
    reader = fit_reader(train, seed)
    return np.asarray(_scores(reader, _views(test, _positions(len(train)))).argmax(axis=1), np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Tutor:
    """Readers fitted on all crops but a fold each, and the fold (n,) that each crop is in: who has not seen it."""

    readers: tuple[RingReader, ...]
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
            scores[mine] = _scores(self.readers[number], views[:, torch.from_numpy(mine)])
        return scores


def learn_tutor(crops: LabelledCrops, seed: int) -> Tutor:
    """Raises RecordingError where a class has too few crops to part."""
    classes = len(crops.names)
    views = _views(crops, _positions(len(crops)))
    # two at least: a class of one crop is then named for what it is
    k = max(2, min(_FOLDS, int(np.bincount(crops.labels, minlength=classes).min())))
    fold = np.empty(len(crops), np.int64)
    readers = []
    for number, (learnt, judged) in enumerate(folds(crops, k, seed, "random")):
        fold[judged] = number
        readers.append(_fitted(views, crops, learnt, seed * 100 + number))
    return Tutor(tuple(readers), fold, classes)


def _positions(n: int) -> int:
    return next((positions for positions in (25, 9) if n * positions <= _PICTURES), 1)


def _views(crops: LabelledCrops, positions: int) -> Tensor:
    """Features (positions, n, 64) float32 of the crops at each place."""
    moved = shifted(torch.from_numpy(crops.images.astype(np.float32)), positions)
    return torch.from_numpy(np.stack([radial_features(one.numpy()).astype(np.float32) for one in moved]))


def _scores(reader: RingReader, views: Tensor) -> Scores:
    with torch.inference_mode():
        return np.asarray(torch.softmax(reader.read(views), dim=1).numpy(), np.float32)


def _fitted(views: Tensor, crops: LabelledCrops, rows: NDArray[np.int64], seed: int) -> RingReader:
    """Classes weigh alike, however many crops each has. The global random state is left as it was."""
    classes, labels = len(crops.names), crops.labels[rows]
    weights = torch.from_numpy(len(labels) / (classes * np.maximum(np.bincount(labels, minlength=classes), 1))).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = RingReader(crops.images.shape[1], classes)
        mine = views[:, torch.from_numpy(rows)]
        spread, middle = torch.std_mean(mine, dim=(0, 1))
        reader.middle.copy_(middle)
        reader.spread.copy_(spread.clamp_min(1e-3))
        scaled = (mine - reader.middle) / reader.spread
        for twin in reader.twins:
            _learn(twin, scaled, torch.from_numpy(labels), weights)
    return reader.eval()


def _learn(network: nn.Module, scaled: Tensor, labels: Tensor, weights: Tensor) -> None:
    positions, n, _ = scaled.shape
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
