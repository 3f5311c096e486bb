"""One epoch of training: batches, their augmentation, the gradient step, and the running average.

Every random number comes from the settings' seed, the epoch's number and the process's rank, so an epoch that a kill
cut short is repeated exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, distributed
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from hspc_live.core.errors import ModelError
from hspc_models.augment import augment
from hspc_models.dataset import LabelledCrops
from hspc_models.network import CellNet, pictures
from hspc_models.places import Place
from hspc_models.recipes import at_once, follow, rate_factor, set_rates
from hspc_models.targets import mixed, oversampled, soft_targets
from hspc_models.train_settings import ScratchRecipe, TrainSettings
from hspc_models.tutor import Tutor

_GRADIENT_NORM = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class Trainee:
    """What training changes. `shared` is what forward passes call: the network, or its wrapper among processes."""

    network: CellNet
    shared: torch.nn.Module
    average: dict[str, Tensor]
    optimizer: torch.optim.Optimizer


def run_epoch(
    trainee: Trainee,
    crops: LabelledCrops,
    tutor: Tutor | None,
    settings: TrainSettings,
    place: Place,
    epoch: int,
    said: Callable[[int, int], None],
) -> tuple[float, float, int]:
    """One pass over `crops`, rarer classes repeated; the mean loss, the last rate, and the crops shown.

    `tutor` says what the recipe mixes into the targets, if it does.
    `said(step, steps)` hears of every step. Raises ModelError if the loss is no longer a number.
    """
    seed = settings.seed * 1_000_003 + epoch
    torch.manual_seed(seed + 7919 * place.rank)  # dropout
    order = torch.Generator().manual_seed(seed)
    generator = torch.Generator(place.device).manual_seed(seed + 7919 * place.rank)
    rng = np.random.default_rng([settings.seed, epoch])
    targets = _targets(crops, settings)
    rows = oversampled(crops.labels, len(settings.classes), rng) if settings.oversample else np.arange(len(crops))
    shuffled = torch.from_numpy(rows)[torch.randperm(len(rows), generator=order)]
    # equal shares for all processes; two crops each at least, or the norms would have no variance
    batches = [batch[: len(batch) - len(batch) % place.world] for batch in torch.split(shuffled, settings.recipe.batch)]
    batches = [batch for batch in batches if len(batch) >= 2 * place.world]
    trainee.network.train()
    losses: list[float] = []
    rate = 0.0
    for index, batch in enumerate(batches):
        step = epoch * len(batches) + index
        rate = set_rates(
            trainee.optimizer, rate_factor(settings.recipe, settings.epochs, epoch + index / len(batches), step)
        )
        mine = batch[place.rank :: place.world]
        losses.append(_step(trainee, crops, tutor, mine, targets, settings, place, epoch, generator, rng))
        if not math.isfinite(losses[-1]):
            raise ModelError(f"training: the loss became {losses[-1]} in epoch {epoch + 1}; lower recipe.learning_rate")
        follow(trainee.average, trainee.network, settings.recipe, step)
        said(index + 1, len(batches))
    return float(np.mean(losses)), rate, sum(len(batch) for batch in batches)


def _targets(crops: LabelledCrops, settings: TrainSettings) -> Tensor:
    recipe = settings.recipe
    if not isinstance(recipe, ScratchRecipe):
        return soft_targets(crops, settings.classes, 0.0)
    return soft_targets(crops, settings.classes, recipe.label_smoothing, recipe.smooth_to)


def _step(
    trainee: Trainee,
    crops: LabelledCrops,
    tutor: Tutor | None,
    rows: Tensor,
    targets: Tensor,
    settings: TrainSettings,
    place: Place,
    epoch: int,
    generator: torch.Generator,
    rng: np.random.Generator,
) -> float:
    """One step of the optimiser on this process's share of a batch, in as many parts as memory asks for; its loss."""
    recipe = settings.recipe
    trainee.optimizer.zero_grad()
    parts = torch.tensor_split(rows, math.ceil(len(rows) / at_once(recipe)))
    total = 0.0
    for number, part in enumerate(parts):
        whole = pictures(crops.images[part.numpy()]).to(place.device, non_blocking=True)
        shown = augment(whole, settings.augment, generator)
        wanted = targets[part].to(place.device)
        if isinstance(recipe, ScratchRecipe) and recipe.mixup:
            shown, wanted = mixed(shown, wanted, recipe.mixup, rng)
        if isinstance(recipe, ScratchRecipe) and tutor is not None:
            said = torch.from_numpy(tutor.scores(shown[:, 0].cpu().numpy(), part.numpy()))
            wanted = wanted.lerp(said.to(place.device), recipe.tutor)
        inputs = resized(shown, settings.pixels_of(epoch))
        # gradients travel between processes once a step
        alone = (
            trainee.shared.no_sync()
            if isinstance(trainee.shared, DistributedDataParallel) and number < len(parts) - 1
            else nullcontext()
        )
        with alone:
            with place.precision():
                logits = trainee.shared(inputs)
            loss = functional.cross_entropy(logits.float(), wanted) * (len(part) / len(rows))
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward untyped
        total += loss.item()
    if isinstance(recipe, ScratchRecipe):
        torch.nn.utils.clip_grad_norm_(trainee.network.parameters(), _GRADIENT_NORM)
    trainee.optimizer.step()
    return total


def mean_over(value: float, place: Place) -> float:
    """The mean of a number over all processes."""
    if place.world == 1:
        return value
    whole = torch.tensor(value, device=place.device)
    distributed.all_reduce(whole)
    return cast("float", whole.item()) / place.world


def resized(whole: Tensor, pixels: int) -> Tensor:
    """Pictures (n, 1, S, S) averaged down to `pixels` × `pixels`, channels last."""
    if whole.shape[-1] != pixels:
        whole = functional.interpolate(whole, size=(pixels, pixels), mode="area")
    return whole.contiguous(memory_format=torch.channels_last)
