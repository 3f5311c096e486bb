"""Optimisers and learning rates of the two recipes (`train_settings` says what each is), and the average that ships."""

from __future__ import annotations

import math
from typing import Any, assert_never

import torch
from torch import Tensor

from hspc_models.network import CellNet
from hspc_models.train_settings import PaperRecipe, Recipe, ScratchRecipe

_HEAD = "head."


def make_optimizer(network: CellNet, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over all parameters; each group's `initial_lr` is what `set_rates` scales."""
    optimizer: torch.optim.Optimizer
    match recipe:
        case ScratchRecipe():
            parameters = [p for p in network.parameters() if p.requires_grad]
            # weight decay is for weights: not for norms and biases (He et al. 2019, Bag of Tricks)
            groups: list[dict[str, Any]] = [
                {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
                {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
            ]
            optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
        case PaperRecipe():
            named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
            slow = recipe.learning_rate * recipe.convolution_share
            groups = [
                {"params": [p for name, p in named if not name.startswith(_HEAD)], "lr": slow},
                {"params": [p for name, p in named if name.startswith(_HEAD)]},
            ]
            # Adam, not AdamW: its weight decay is coupled, a term of the gradient
            optimizer = torch.optim.Adam(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
        case _:
            assert_never(recipe)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def rate_factor(recipe: Recipe, epochs: int, epochs_done: float, steps_done: int) -> float:
    """What the initial rates are multiplied with: warm-up over steps, then half a cosine (Loshchilov and Hutter 2017).

    1 throughout for the paper's recipe, which names no schedule.
    """
    match recipe:
        case ScratchRecipe():
            warm = min(1.0, (steps_done + 1) / (recipe.warm_up_steps + 1))
            return warm * 0.5 * (1 + math.cos(math.pi * epochs_done / epochs))
        case PaperRecipe():
            return 1.0
        case _:
            assert_never(recipe)


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Scale every group's rate; returns the largest."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    return max(float(group["lr"]) for group in optimizer.param_groups)


def at_once(recipe: Recipe) -> int:
    """Crops of a batch that go through the network together."""
    return min(recipe.batch, recipe.at_once) if isinstance(recipe, PaperRecipe) else recipe.batch


@torch.no_grad()
def follow(average: dict[str, Tensor], network: CellNet, recipe: Recipe, step: int) -> None:
    """Move the running average, faster at first, so that the random start is soon forgotten.

    The paper's recipe keeps no average: it is set to the weights themselves.
    """
    decay = recipe.average_decay if isinstance(recipe, ScratchRecipe) else 0.0
    share = 1.0 - min(decay, (1 + step) / (10 + step))
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            average[name].lerp_(tensor, share)
        else:
            average[name].copy_(tensor)
