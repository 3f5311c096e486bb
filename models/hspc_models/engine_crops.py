"""The crops that engines are calibrated on and judged by: of the kind that the model was trained on.

Those of the shipped model are the twin's own, made by seed: what calibrates is of the training's seed, what judges is
held out. For a model of real cells a person gives them (`engine build --calibrate FILE`): half calibrate, half judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from hspc_live.core.errors import ModelError
from hspc_live.core.values import Pixels
from hspc_live.settings.twin import TwinFlowSettings
from hspc_live.twin.cells import KINDS
from hspc_live.twin.samples import sample_crops
from hspc_models.card import Card

CALIBRATE = 256
JUDGE = 1024
LEAST = 64
"""Fewer crops than this tell nothing of agreement to one in a hundred."""

_JUDGE_SEED = 900_000_000
_TWIN = "digital twin"


@dataclass(frozen=True, slots=True, eq=False)
class EngineCrops:
    """uint8 crops (n, S, S) to calibrate on and to judge by, and where they are from."""

    calibrate: Pixels
    judge: Pixels
    source: str


def engine_crops(card: Card, file: Path | None = None, judge: int = JUDGE) -> EngineCrops:
    """Crops for `card`: from `file`, else of the twin if it was trained on that.

    Raises ModelError where a file is needed or too small, RecordingError for one that cannot be read.
    """
    if file is not None:
        return _filed(card, file, judge)
    if _TWIN not in card.training.data or any(name not in KINDS for name in card.classes):
        raise ModelError(
            f"model {card.name} was not trained on the digital twin: give crops of its kind with "
            "`hspc-live engine build --calibrate FILE` (any source of `dataset make`)"
        )
    parts = [
        sample_crops(
            TwinFlowSettings(seed=seed, modality=card.modality.value), n, seed, kinds=card.classes,
            geometry=card.geometry,
        ).crops
        for n, seed in ((CALIBRATE, card.training.seed * 10_000), (judge, _JUDGE_SEED + card.training.seed))
    ]  # fmt: skip
    return EngineCrops(_bytes(parts[0]), _bytes(parts[1]), "cells of the digital twin")


def _filed(card: Card, file: Path, judge: int) -> EngineCrops:
    from hspc_models.fitting import fitted  # these need HDF5, which a bare GPU machine has not (tools/gpu_bench.py)
    from hspc_models.readers import read_any

    crops, _ = fitted(read_any(file, geometry=card.geometry), card.geometry)
    if len(crops) < 2 * LEAST:
        raise ModelError(f"{file}: {len(crops)} crops are too few to calibrate and judge an engine ({2 * LEAST})")
    order = np.random.default_rng(card.training.seed).permutation(len(crops))
    middle = len(crops) // 2
    pixels = _bytes(crops.images)
    return EngineCrops(pixels[order[:middle][:CALIBRATE]], pixels[order[middle:][:judge]], str(file))


def _bytes(crops: Pixels) -> Pixels:
    """Crops in 8 bits: of deeper ones each is stretched over the range that it uses, as gain and offset cancel."""
    if crops.dtype == np.uint8:
        return crops
    values = crops.astype(np.float32)
    low = values.min(axis=(1, 2), keepdims=True)
    reach = np.maximum(values.max(axis=(1, 2), keepdims=True) - low, 1e-6)
    return cast("Pixels", np.rint((values - low) / reach * 255).astype(np.uint8))
