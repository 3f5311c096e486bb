"""The network as a graph with a dynamic batch: what engines that compile it start from.

Normalisation, grey-to-channels, the mean over symmetries, temperature and softmax are part of it (`ScoringNet`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch.export import Dim, ExportedProgram, export

from hspc_models.card import Card
from hspc_models.network import CellNet, ScoringNet

Precision = Literal["fp32", "fp16"]


def scoring_net(card: Card, network: CellNet, precision: Precision = "fp32") -> ScoringNet:
    """The whole graph in evaluation mode. With fp16 the ResNet-50 and its head are in half precision, and nothing else.

    Statistics of a crop, the softmax and a ring reader need single precision (`radial`).
    """
    network = network.float()
    if precision == "fp16":
        network = network.half()
        if network.reader is not None:
            network.reader.float()
    return ScoringNet(network, card.temperature, card.symmetries).eval()


def exported(module: ScoringNet, crop_px: int, largest: int, device: torch.device | None = None) -> ExportedProgram:
    """`module` as a program that takes crops (n, S, S) float32 for every n of 1 to `largest`, at least 2."""
    crops = torch.zeros((2, crop_px, crop_px), device=device)
    batch = Dim("batch", min=1, max=max(2, largest))
    with quiet_export():
        return export(module, (crops,), dynamic_shapes=({0: batch},))


@contextmanager
def quiet_export() -> Iterator[None]:
    """Without torch 2.13's warning about a class of its own, which it copies whenever a program is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*LeafSpec.*")
        yield
