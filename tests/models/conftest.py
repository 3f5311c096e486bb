"""A small trained-looking model on disk: a real ResNet-50 with random weights, its card and its hash."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import safetensors.torch
import torch

from hspc_live.core.values import Modality
from hspc_models.card import Card, NetworkShape, Training, Weights, write_card
from hspc_models.network import CellNet


def save_model(folder: Path, network: CellNet, *, channels: int = 1, temperature: float = 1.0) -> Card:
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    data = safetensors.torch.save(state)
    (folder / "model.safetensors").write_bytes(data)
    card = Card(
        name="random",
        version="0",
        classes=("LT-HSC", "ST-HSC", "MPP"),
        modality=Modality.DIC,
        um_per_px=0.25,
        crop_px=64,
        shear_axis_deg=45.0,
        objective="20x/0.8",
        network=NetworkShape(channels=channels, head=(32,)),
        weights=Weights(sha256=hashlib.sha256(data).hexdigest()),
        temperature=temperature,
        training=Training(data="none", seed=1, crops=0, epochs=0, command="none"),
    )
    write_card(folder, card)
    return card


def random_network(channels: int = 1, seed: int = 1) -> CellNet:
    """Random weights, every residual branch alive (training starts with the branches switched off)."""
    torch.manual_seed(seed)
    network = CellNet(3, channels=channels, head=(32,))
    for name, parameter in network.named_parameters():
        if name.endswith("bn3.weight"):
            torch.nn.init.uniform_(parameter, 0.1, 0.5)
    return network


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, random_network())
    return folder
