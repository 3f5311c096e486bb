"""Training from settings to a model folder, in one process or, under torchrun, in several.

DIR receives the model (`model.safetensors`, `card.yaml`), usable whenever a checkpoint has been written, the log
(`training.jsonl` and TensorBoard events), and while it runs `checkpoint.safetensors`: a run that was killed and started
again ends with the same weights as one that was not. `evaluate` fills in the card's figures at the end.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from hspc_live.core.errors import ModelError, OutputError
from hspc_live.core.values import Pixels
from hspc_models.card import CARD_FILE, find_model, load_card
from hspc_models.checkpoint import CHECKPOINT_FILE, load_checkpoint, save_checkpoint
from hspc_models.dataset import LabelledCrops
from hspc_models.export import export
from hspc_models.journal import Journal, Line, Progress
from hspc_models.loop import Trainee, mean_over, resized, run_epoch
from hspc_models.metrics import balanced_accuracy, confusion
from hspc_models.network import CellNet, channels_last, load_backbone, pictures
from hspc_models.places import Place, open_place
from hspc_models.recipes import make_optimizer
from hspc_models.sources import CropSource
from hspc_models.train_settings import PaperRecipe, ScratchRecipe, TrainSettings
from hspc_models.tutor import Tutor, fit_reader, learn_tutor

HELD_OUT = "held-out"
"""Folder, in that of a model that learnt from all crops, of the model like it that some of them judged."""

_BATCH = 64

Said = Callable[[Progress], None]


def train(
    settings: TrainSettings,
    source: CropSource,
    out: Path,
    command: str,
    *,
    epochs: int | None = None,
    said: Said = lambda _: None,
) -> bool:
    """Train, or go on training, into the folder `out`; whether this is the process that wrote it.

    `epochs` ends early after so many epochs in all, leaving a checkpoint to go on from. `said` hears of the progress.
    Raises OutputError if `out` holds something else, ModelError for a backbone that does not fit, a recipe that has
    none, or a loss that is no longer a number.
    """
    prepare(out)
    with open_place(settings) as place:
        trainee = _trainee(settings, place)
        same = identity(settings, source)
        lines = load_checkpoint(out, trainee.network, trainee.average, trainee.optimizer, same)
        if trainee.network.reader is not None and not lines:
            _fit_reader(trainee, source, settings)
        journal = Journal(out, lines) if place.first else None
        held_out = source.validation() if place.first else None
        validation = held_out.in_order(settings.classes) if held_out is not None and len(held_out) else None
        last = min(settings.epochs, epochs or settings.epochs)
        learns_from = settings.recipe.tutor if isinstance(settings.recipe, ScratchRecipe) else 0.0
        tutor = None
        if learns_from and len(lines) < last:
            tutor = learn_tutor(source.epoch(0), settings.augment, settings.seed)
        kept_at = time.monotonic()
        for epoch in range(len(lines), last):
            line = _one_epoch(trainee, source, tutor, validation, settings, place, epoch, said)
            if journal is None:
                continue
            journal.add(line)
            said(Progress(epoch, settings.epochs, 0, 0, line))
            if epoch + 1 == last or time.monotonic() - kept_at >= settings.keep_every_s:
                save_checkpoint(out, trainee.network, trainee.average, trainee.optimizer, same, journal.lines)
                export(out, trainee.average, settings, source.about, journal.lines, command)
                journal.flush()
                kept_at = time.monotonic()
        if journal is not None:
            journal.close()
        if place.world > 1:
            distributed.barrier()
        return place.first


def prepare(out: Path) -> None:
    """Make a run's folder, which may hold an unfinished run and nothing else. Raises OutputError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        if (out / CARD_FILE).exists() and not (out / CHECKPOINT_FILE).exists():
            raise OutputError(f"{out}: holds a model whose training is done; choose another folder")
        if not (out / CHECKPOINT_FILE).exists() and any(not _left_by_a_kill(file) for file in out.iterdir()):
            raise OutputError(f"{out}: is not empty, and holds no training to go on with; choose another folder")
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from error


def _left_by_a_kill(file: Path) -> bool:
    """Whether a run that was killed before its first checkpoint may have left this."""
    return file.name.startswith("events.") or file.suffix == ".partial" or file.name == HELD_OUT


def _trainee(settings: TrainSettings, place: Place) -> Trainee:
    """The network as the recipe starts it, on the device. Raises ModelError."""
    recipe = settings.recipe
    if isinstance(recipe, PaperRecipe) and recipe.backbone is None:
        raise ModelError(
            "recipe paper: starts from a pretrained ResNet-50 and learns nothing from random weights (its rate for the "
            "convolutions is 5e-6); name a checkpoint with --backbone FILE, or take --recipe scratch"
        )
    torch.manual_seed(settings.seed)
    network = settings.network.build(len(settings.classes), settings.crop_px)
    if recipe.backbone is not None:
        _start_from(network, recipe.backbone, recipe.backbone_sha256)
    network.to(place.device)
    channels_last(network)
    average = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    shared: torch.nn.Module = network
    if place.world > 1:
        shared = DistributedDataParallel(network, [place.device] if place.device.type == "cuda" else None)
    return Trainee(network, shared, average, make_optimizer(network, recipe))


def _fit_reader(trainee: Trainee, source: CropSource, settings: TrainSettings) -> None:
    """The small reader that the network carries learns at once, and then stays."""
    reader = trainee.network.reader
    if reader is None:
        return
    reader.load_state_dict(fit_reader(source.epoch(0), settings.augment, settings.seed).state_dict())
    for name, tensor in reader.state_dict().items():
        trainee.average[f"reader.{name}"].copy_(tensor)


def _start_from(network: CellNet, backbone: str, sha256: str | None) -> None:
    """Load a checkpoint's convolutions, or those of a model folder or a shipped model."""
    if "/" in backbone or "\\" in backbone or Path(backbone).is_file():
        if (Path(backbone) / CARD_FILE).is_file():
            load_backbone(network, Path(backbone) / load_card(Path(backbone)).weights.file)
        else:
            load_backbone(network, backbone, sha256)
        return
    folder = find_model(backbone)
    load_backbone(network, folder / load_card(folder).weights.file)


def identity(settings: TrainSettings, source: CropSource) -> str:
    """A hash of all that the weights depend on; neither where the data lie nor how fast this computer is.

    A checkpoint must agree in it to be gone on with, a finished model to be taken for that of these settings.
    """
    same = settings.model_dump_json(
        exclude={"threads": True, "keep_every_s": True, "curve": True, "source": {"data": True, "validation": True}}
    )
    return hashlib.sha256(f"{same}{source.fingerprint}".encode()).hexdigest()


def _one_epoch(
    trainee: Trainee,
    source: CropSource,
    tutor: Tutor | None,
    validation: LabelledCrops | None,
    settings: TrainSettings,
    place: Place,
    epoch: int,
    said: Said,
) -> Line:
    """Train one epoch and, given `validation` and where the settings ask for it, judge; the figures of the epoch."""
    began = time.perf_counter()
    loss, rate, shown = run_epoch(
        trainee,
        source.epoch(epoch),
        tutor,
        settings,
        place,
        epoch,
        lambda step, steps: said(Progress(epoch, settings.epochs, step, steps)),
    )
    loss = mean_over(loss, place)
    trained = time.perf_counter()
    line: Line = {
        "epoch": epoch + 1,
        "pixels": settings.pixels_of(epoch),
        "crops": shown,
        "learning_rate": rate,
        "train_loss": round(loss, 5),
    }
    if validation is not None and ((epoch + 1) % settings.judge_every == 0 or epoch + 1 == settings.epochs):
        score, validation_loss = _judge(trainee.average, validation, settings, place, epoch)
        line |= {
            "validation_loss": round(validation_loss, 5),
            "validation_balanced_accuracy": round(score, 5),
        }
    return line | {
        "seconds": round(time.perf_counter() - began, 1),
        "crops_per_s": round(shown / (trained - began), 1),
    }


def _judge(
    average: dict[str, Tensor], crops: LabelledCrops, settings: TrainSettings, place: Place, epoch: int
) -> tuple[float, float]:
    """Balanced accuracy and loss of the averaged weights on `crops`, at the epoch's size."""
    network = settings.network.build(len(settings.classes), settings.crop_px)
    network.load_state_dict(average)
    network.to(place.device)
    logits = _logits(network, crops.images, settings.pixels_of(epoch), place)
    loss = float(functional.cross_entropy(logits, torch.from_numpy(crops.labels)))
    predicted: NDArray[Any] = logits.argmax(dim=1).numpy()
    return balanced_accuracy(confusion(crops.labels, predicted, len(settings.classes))), loss


def _logits(network: CellNet, images: Pixels, pixels: int, place: Place) -> Tensor:
    channels_last(network.eval())
    with torch.inference_mode(), place.precision():
        return torch.cat([
            network(resized(pictures(images[start : start + _BATCH]).to(place.device), pixels)).float().cpu()
            for start in range(0, len(images), _BATCH)
        ])  # fmt: skip
