"""A small classifier of what the rings of a cell hold: fitted in seconds, a peer of the network, and its tutor.

The classifier is `radial.RingReader`; here it learns, from every crop as it is and as the settings of the augmentation
change it. Without these it would trust the finest grain, and fail on pictures a little softer or noisier than those it
has seen. A network may carry one.

As a tutor it scores crops that it was not fitted on, which says which labels are plain and which are doubtful: a
network that is asked for a mixture of label and score learns more from few crops (distillation, Hinton et al. 2015). It
scores the very pictures that the network is shown, turned, scaled and blended, so every change of a picture changes
what the network is to say of it (Beyer et al. 2022, "a good teacher is patient and consistent").
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from hspc_live.core.errors import RecordingError
from hspc_live.core.values import Pixels
from hspc_models.augment import AugmentSettings, augment
from hspc_models.dataset import LabelledCrops
from hspc_models.duplicates import find_duplicates
from hspc_models.network import pictures
from hspc_models.radial import RingReader, radial_features
from hspc_models.splits import folds

Scores = NDArray[np.float32]

_NOISE = 0.05
_BATCH, _EPOCHS, _CROPS_SHOWN, _LEAST_EPOCHS = 128, 100, 150_000, 10
_RATE, _DECAY = 3e-3, 0.02
_FOLDS = 5
_VIEWS, _PICTURES, _AT_ONCE = 25, 50_000, 64
"""Views of each crop, and of all together: many crops need fewer each."""


def fit_reader(crops: LabelledCrops, settings: AugmentSettings, seed: int) -> RingReader:
    """A reader of the crops' rings, in evaluation mode, that scores the classes in the order of `crops.names`."""
    return _fitted(_views(crops, settings, seed), crops, np.arange(len(crops)), seed)


def radial_predictions(
    train: LabelledCrops, test: LabelledCrops, settings: AugmentSettings, seed: int
) -> NDArray[np.int64]:
    """Classes (n,) of the crops of `test` after fitting on `train` (same names, same order)."""
    reader = fit_reader(train, settings, seed)
    with torch.inference_mode():
        parts = [reader(part[:, 0]) for part in torch.split(pictures(test.images), _AT_ONCE)]
    return np.asarray(torch.cat(parts).argmax(dim=1).numpy(), np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Tutor:
    """Readers fitted on all crops but a fold each, and the fold (n,) that each crop is in: who has not seen it."""

    readers: tuple[RingReader, ...]
    fold: NDArray[np.int64]
    classes: int

    def scores(self, shown: Pixels, rows: NDArray[np.int64]) -> Scores:
        """Scores (n, classes) of pictures (n, S, S), each made of the crop in its row, by who has not seen that crop.

        They are taken as they are given, at one place: what a network is to answer to this very picture.
        """
        views = torch.from_numpy(radial_features(shown).astype(np.float32)).unsqueeze(0)
        scores = np.empty((len(rows), self.classes), np.float32)
        for number in np.unique(self.fold[rows]).tolist():
            mine = self.fold[rows] == number
            scores[mine] = _scores(self.readers[number], views[:, torch.from_numpy(mine)])
        return scores


def learn_tutor(crops: LabelledCrops, settings: AugmentSettings, seed: int) -> Tutor:
    """Raises RecordingError where a class has too few crops to part; copies and views of one cell count once."""
    classes = len(crops.names)
    parts = _parted(crops, seed)
    views = _views(crops, settings, seed)
    fold = np.empty(len(crops), np.int64)
    readers = []
    for number, (learnt, judged) in enumerate(parts):
        fold[judged] = number
        readers.append(_fitted(views, crops, learnt, seed * 100 + number))
    return Tutor(tuple(readers), fold, classes)


def _parted(crops: LabelledCrops, seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """As many folds as the rarest class allows, two at least and five at most."""
    duplicates = find_duplicates(crops.images)
    rarest = int(np.bincount(crops.labels, minlength=len(crops.names)).min())
    for k in range(min(_FOLDS, rarest), 2, -1):
        with contextlib.suppress(RecordingError):  # some of its crops come together: fewer folds may do
            return folds(crops, k, seed, "random", duplicates)
    return folds(crops, 2, seed, "random", duplicates)


def _views(crops: LabelledCrops, settings: AugmentSettings, seed: int) -> Tensor:
    """Features (views, n, 64) float32 of the crops: first as they are, then each changed by chance."""
    plain = pictures(crops.images)
    generator = torch.Generator().manual_seed(seed)
    views = [plain, *(augment(plain, settings, generator) for _ in range(min(_VIEWS, _PICTURES // len(crops)) - 1))]
    return torch.from_numpy(np.stack([radial_features(view[:, 0].numpy()).astype(np.float32) for view in views]))


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
