"""Training: `python -m hspc_models.train configs/train/twin_lsm.yaml --out DIR`.

One loop that can be read from top to bottom: epochs of fresh or filed crops, AdamW, warm-up and half a cosine, a
running average of the weights (the average is what ships). Every random number comes from the settings' seed and the
epoch's number, so a run that was killed and started again ends with the same weights as one that was not.

DIR receives `checkpoint.safetensors` (delete it when done), `training.jsonl` (a line an epoch), and the model itself
(`model.safetensors`, `card.yaml`), usable after every epoch; `evaluate` fills in the card's figures at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hspc_live.core.errors import HspcError, ModelError, OutputError
from hspc_live.core.values import Pixels
from hspc_models.augment import augment
from hspc_models.card import Card, Training, Weights, write_card
from hspc_models.checkpoint import load_checkpoint, save_checkpoint
from hspc_models.dataset import LabelledCrops
from hspc_models.evaluate import evaluate
from hspc_models.metrics import balanced_accuracy, confusion
from hspc_models.network import CellNet, channels_last, load_backbone, pictures
from hspc_models.sources import open_source
from hspc_models.train_settings import TrainSettings, load_train_settings

LOG_FILE = "training.jsonl"
_GRADIENT_NORM = 5.0


def train(settings: TrainSettings, out: Path, command: str, epochs: int | None = None) -> Path:
    """Train, or go on training, into the folder `out`; returns it.

    `epochs` ends early after so many epochs in all, leaving a checkpoint to go on from. Raises OutputError if `out`
    holds something else, ModelError if the loss is no longer a number.
    """
    identity = hashlib.sha256(settings.model_dump_json().encode()).hexdigest()
    _prepare(out)
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    network = CellNet(len(settings.classes), settings.network.channels, settings.network.head)
    if settings.backbone is not None:
        load_backbone(network, settings.backbone, settings.backbone_sha256)
    channels_last(network)
    average = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimizer = torch.optim.AdamW(_groups(network, settings.weight_decay), lr=settings.learning_rate, fused=True)
    log = load_checkpoint(out, network, average, optimizer, identity)
    source = open_source(settings)
    validation = source.validation()
    for epoch in range(len(log), min(settings.epochs, epochs or settings.epochs)):
        began = time.perf_counter()
        torch.manual_seed(settings.seed * 1_000_003 + epoch)  # dropout
        crops = source.epoch(epoch)
        loss, rate = _epoch(network, average, optimizer, crops, settings, epoch)
        trained = time.perf_counter()
        score, validation_loss = _judge(average, validation, settings, epoch)
        log.append({
            "epoch": epoch + 1,
            "pixels": settings.pixels_of(epoch),
            "crops": len(crops),
            "learning_rate": rate,
            "train_loss": round(loss, 5),
            "validation_loss": round(validation_loss, 5),
            "validation_balanced_accuracy": round(score, 5),
            "seconds": round(time.perf_counter() - began, 1),
            "crops_per_s": round(len(crops) / (trained - began), 1),
        })  # fmt: skip
        print(json.dumps(log[-1]), file=sys.stderr, flush=True)
        _export(out, average, settings, log, command)
        save_checkpoint(out, network, average, optimizer, identity, log)
    return out


def _prepare(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / LOG_FILE).touch()
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from error


def _groups(network: CellNet, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay is for weights: not for norms and biases (He et al. 2019, Bag of Tricks)."""
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _epoch(
    network: CellNet,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    crops: LabelledCrops,
    settings: TrainSettings,
    epoch: int,
) -> tuple[float, float]:
    """One pass over `crops`; returns the mean loss and the last learning rate."""
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + epoch)
    order = torch.randperm(len(crops), generator=generator)
    targets = soft_targets(crops, settings.classes, settings.label_smoothing)
    # a last batch of one would have no variance for the norms
    batches = [batch for batch in torch.split(order, settings.batch) if len(batch) > 1]
    network.train()
    losses: list[float] = []
    rate = 0.0
    for index, batch in enumerate(batches):
        rate = learning_rate(settings, epoch + index / len(batches), epoch * len(batches) + index)
        for group in optimizer.param_groups:
            group["lr"] = rate
        whole = augment(pictures(crops.images[batch.numpy()]), settings.augment, generator)
        inputs = resized(whole, settings.pixels_of(epoch))
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(inputs), targets[batch])
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
        torch.nn.utils.clip_grad_norm_(network.parameters(), _GRADIENT_NORM)
        optimizer.step()
        _follow(average, network, settings.average_decay, epoch * len(batches) + index)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise ModelError(f"training: the loss became {losses[-1]} in epoch {epoch + 1}; lower learning_rate")
    return float(np.mean(losses)), rate


def learning_rate(settings: TrainSettings, epochs_done: float, steps_done: int) -> float:
    """Warm-up over steps, then half a cosine over all epochs (Loshchilov and Hutter 2017)."""
    warm = min(1.0, (steps_done + 1) / (settings.warm_up_steps + 1))
    return warm * settings.learning_rate * 0.5 * (1 + math.cos(math.pi * epochs_done / settings.epochs))


def _follow(average: dict[str, Tensor], network: CellNet, decay: float, step: int) -> None:
    """Move the running average, faster at first, so that the random start is soon forgotten."""
    share = 1.0 - min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                average[name].lerp_(tensor, share)
            else:
                average[name].copy_(tensor)


def resized(whole: Tensor, pixels: int) -> Tensor:
    """Averaged down to `pixels` × `pixels`, channels last."""
    if whole.shape[-1] != pixels:
        whole = functional.interpolate(whole, size=(pixels, pixels), mode="area")
    return whole.contiguous(memory_format=torch.channels_last)


def soft_targets(crops: LabelledCrops, classes: tuple[str, ...], smoothing: float) -> Tensor:
    """Target scores (n, classes). A stranger, whose name is no class, is to score every class alike.

    That teaches a closed-set classifier to abstain (outlier exposure, Hendrycks et al. 2019).
    """
    even = 1.0 / len(classes)
    rows = np.full((len(crops.names), len(classes)), even, np.float32)
    for row, name in zip(rows, crops.names, strict=True):
        if name in classes:
            row[:] = smoothing * even
            row[classes.index(name)] += 1.0 - smoothing
    return torch.from_numpy(rows[crops.labels])


def _judge(
    average: dict[str, Tensor], validation: LabelledCrops, settings: TrainSettings, epoch: int
) -> tuple[float, float]:
    """Balanced accuracy and loss of the averaged weights on the validation crops, at the epoch's size."""
    crops = validation.in_order(settings.classes)
    network = CellNet(len(settings.classes), settings.network.channels, settings.network.head)
    network.load_state_dict(average)
    logits = _logits(network, crops.images, settings.pixels_of(epoch))
    loss = float(functional.cross_entropy(logits, torch.from_numpy(crops.labels)))
    predicted: NDArray[np.int64] = logits.argmax(dim=1).numpy()
    return balanced_accuracy(confusion(crops.labels, predicted, len(settings.classes))), loss


def _logits(network: CellNet, images: Pixels, pixels: int) -> Tensor:
    channels_last(network.eval())
    with torch.inference_mode():
        return torch.cat([
            network(resized(pictures(images[start : start + 64]), pixels)) for start in range(0, len(images), 64)
        ])  # fmt: skip


def _export(
    out: Path, average: dict[str, Tensor], settings: TrainSettings, log: list[dict[str, Any]], command: str
) -> None:
    """The averaged weights in half precision, with a card that has no figures yet."""
    half = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous() for name, tensor in average.items()
    }
    data = safetensors.torch.save(half)
    weights = Weights(sha256=hashlib.sha256(data).hexdigest())
    (out / weights.file).write_bytes(data)
    source = settings.source
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
        weights=weights,
        training=Training(
            data="cells of the digital twin, fresh in every epoch" if source.kind == "twin" else source.train.name,
            seed=settings.seed,
            crops=sum(line["crops"] for line in log),
            epochs=len(log),
            command=command,
        ),
    )
    write_card(out, card)
    (out / LOG_FILE).write_text("".join(json.dumps(line) + "\n" for line in log), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """Train and evaluate; the exit code says what went wrong (see `core.errors`)."""
    parser = argparse.ArgumentParser(prog="python -m hspc_models.train", description="Train a classifier.")
    parser.add_argument("config", type=Path, help="a training file, e.g. configs/train/twin_lsm.yaml")
    parser.add_argument("--out", type=Path, required=True, help="folder for model, card, log and checkpoint")
    given = parser.parse_args(arguments)
    try:
        settings = load_train_settings(given.config)
        train(settings, given.out, f"python -m hspc_models.train {given.config}")
        report = evaluate(given.out, settings)
    except HspcError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
