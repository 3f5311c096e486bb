"""A finished model on a person's crops: opened and checked together, scores and features of every crop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hspc_live.core.errors import RecordingError
from hspc_live.core.values import Pixels
from hspc_models.card import Card, find_model, load_network
from hspc_models.dataset import UNKNOWN, LabelledCrops
from hspc_models.fitting import fitted
from hspc_models.judged import score
from hspc_models.metrics import softmax
from hspc_models.network import CellNet, channels_last, pictures

_AT_ONCE = 64


@dataclass(frozen=True, slots=True, eq=False)
class Applied:
    """A model and crops in its geometry. `notes` say what was done to the crops, and what of them is doubtful.

    `labels` (n,) are true classes by the card's order, -1 where the crops have none or another.
    """

    folder: Path
    card: Card
    network: CellNet
    crops: LabelledCrops
    labels: NDArray[np.int64]
    notes: tuple[str, ...]

    def scores_of(
        self, rows: NDArray[np.integer] | None = None, done: Callable[[int], None] | None = None
    ) -> NDArray[np.float64]:
        """Calibrated scores (rows, classes), each row's sum 1, as the card says: temperature and positions.

        `done` hears how many crops are finished. Raises ModelError where the network gives what is no number.
        """
        crops = self.crops if rows is None else self.crops.take(rows)
        return softmax(score(self.network, self.card, crops, done), self.card.temperature)

    def units(self) -> NDArray[np.int64] | None:
        """What is independent (n,): groups where there are several, else cells; None where crops are all there is."""
        if len(np.unique(self.crops.groups)) > 1:
            return self.crops.groups
        return self.crops.cells

    def unit_words(self) -> str:
        """What intervals are taken over, in words."""
        units = self.units()
        if units is None:
            return "crops"
        return f"{len(np.unique(units))} {'cells' if units is self.crops.cells else 'groups'}"


def apply_model(model: str | Path, crops: LabelledCrops) -> Applied:
    """Open a model, by its folder or its name, for these crops, and bring them to its geometry.

    Raises ModelError for a broken model, RecordingError for crops it cannot judge.
    """
    folder = find_model(model)
    card, network = load_network(folder)
    if not len(crops):
        raise RecordingError(f"{crops.provenance}: holds no crops; give a file with at least one cell")
    notes = list(crops.notes)
    if not crops.scaled:
        notes.append(
            f"the scale of the crops is unknown, so it is taken to be the model's, {card.um_per_px:g} µm a pixel; "
            "--um-per-px says another"
        )
    crops, done = fitted(crops, card.geometry)
    notes += [done] if done else []
    flat = int((crops.images.max(axis=(1, 2)) == crops.images.min(axis=(1, 2))).sum())
    if flat:
        notes.append(f"{flat} of {len(crops)} crops are of one grey without any contrast; their scores mean nothing")
    others = [name for name in crops.names if name not in card.classes]
    if others:
        notes.append(f"{card.name} knows no {', '.join(others)}; such crops are scored, and count as unlabelled")
    return Applied(folder, card, network, crops, _labels_as(crops, card.classes), tuple(notes))


def features_of(network: CellNet, images: Pixels) -> NDArray[np.float32]:
    """Pooled features (n, 2048) of crops (n, S, S), in batches."""
    channels_last(network.eval())
    with torch.inference_mode():
        batches = [
            network.features(pictures(images[start : start + _AT_ONCE])).numpy()
            for start in range(0, len(images), _AT_ONCE)
        ]
    return np.concatenate(batches)


def _labels_as(crops: LabelledCrops, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Labels by the order of `classes`."""
    places = [classes.index(name) if name in classes else UNKNOWN for name in crops.names]
    return np.array([*places, UNKNOWN], np.int64)[crops.labels]  # the last place is that of label -1
