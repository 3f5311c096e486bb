"""From the weights in training to a model folder: `model.safetensors` in half precision, and `card.yaml`."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import safetensors.torch
from torch import Tensor

from hspc_live.core.errors import OutputError
from hspc_models.card import Card, Training, Weights, write_card
from hspc_models.journal import Line
from hspc_models.train_settings import TrainSettings


def export(
    out: Path, weights: dict[str, Tensor], settings: TrainSettings, data: str, log: list[Line], command: str
) -> None:
    """Write weights and a card that has no figures yet. `data` says what was trained on. Raises OutputError."""
    half = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).cpu().contiguous()
        for name, tensor in weights.items()
    }
    content = safetensors.torch.save(half)
    about = Weights(sha256=hashlib.sha256(content).hexdigest())
    card = Card(
        name=settings.name,
        version=settings.version,
        classes=settings.classes,
        modality=settings.modality,
        um_per_px=settings.um_per_px,
        crop_px=settings.crop_px,
        shear_axis_deg=settings.shear_axis_deg,
        objective=settings.objective,
        network=settings.network,
        weights=about,
        symmetries=settings.symmetries,
        training=Training(
            data=data,
            seed=settings.seed,
            crops=sum(line["crops"] for line in log),
            epochs=len(log),
            command=command,
        ),
    )
    partial = out / (about.file + ".partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, out / about.file)
        write_card(out, card)
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from error
