"""A small trained-looking model on disk: a real ResNet-50 with random weights, its card and its hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from hspc_live.core.values import Modality
from hspc_models.calibration_cells import CalibrationCells, fit_stranger_limits, keep_cells
from hspc_models.card import Card, NetworkShape, Training, Weights, write_card
from hspc_models.dataset import LabelledCrops
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
def stripes() -> Callable[..., LabelledCrops]:
    """`stripes(n, seed)`: crops of two classes in turn that a look tells apart, stripes along x or along y."""

    def make(n: int, seed: int, edge: int = 32) -> LabelledCrops:
        rng = np.random.default_rng(seed)
        wave = (60 * np.sin(np.arange(edge) * np.pi / 4 + rng.uniform(0, 6.3, (n, 1)))).astype(np.float32)
        lying, standing = np.repeat(wave[:, :, None], edge, 2), np.repeat(wave[:, None, :], edge, 1)
        labels = np.arange(n) % 2
        images = np.where(labels[:, None, None] == 0, lying, standing) + 128 + rng.normal(0, 5, (n, edge, edge))
        return LabelledCrops(images.astype(np.uint8), labels, ("lying", "standing"), np.arange(n), 0.25, "stripes")

    return make


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, random_network())
    return folder


class Gauss:
    """Models with a card and calibration cells, but with weights that nobody opens: three Gaussian classes."""

    CLASSES = ("LT-HSC", "ST-HSC", "MPP")
    KINDS = (*CLASSES, "dead")
    SHARES = (0.3, 0.3, 0.36, 0.04)

    def draw(self, rng: np.random.Generator, n: int, views: int = 2, apart: float = 2.6) -> CalibrationCells:
        """`n` cells of mixed kinds with 1 to `views` looks each; dead ones look like nothing in particular."""
        kind = rng.choice(4, n, p=self.SHARES)
        looks = rng.integers(1, views + 1, n)
        cell = np.repeat(np.arange(n), looks)
        # a cell's looks differ less than cells do
        centre = (apart * np.eye(4)[kind])[:, :3] + rng.normal(size=(n, 3))
        logits = apart * (centre[cell] + 0.4 * rng.normal(size=(len(cell), 3)))
        return CalibrationCells(logits.astype(np.float32), cell, kind.astype(np.int64), self.KINDS)

    def save(
        self, folder: Path, cells: CalibrationCells | None, *, limits: bool = True, taken: str = "flow", **update: Any
    ) -> Card:
        """The folder of a model with these calibration cells."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").write_bytes(b"nobody opens this")
        card = Card(
            name="gauss",
            version="1",
            classes=self.CLASSES,
            modality=Modality.DIC,
            um_per_px=0.25,
            shear_axis_deg=45.0,
            weights=Weights(sha256=hashlib.sha256(b"nobody opens this").hexdigest()),
            score_shares=(1 / 3, 1 / 3, 1 / 3),
            training=Training(data="none", seed=1, crops=0, epochs=0, command="none"),
        )
        if cells is not None:
            about = keep_cells(folder, card, cells, taken, "cells of a test")
            strangers = fit_stranger_limits(cells, card.temperature) if limits else None
            card = card.model_copy(update={"calibration": about, "strangers": strangers})
        card = card.model_copy(update=update)
        write_card(folder, card)
        return card


@pytest.fixture(scope="session")
def gauss() -> Gauss:
    return Gauss()


@pytest.fixture(scope="session")
def discs() -> Callable[[int, int], LabelledCrops]:
    """`discs(n, seed)`: crops of small and large bright discs in turn, with noise."""

    def make(n: int, seed: int) -> LabelledCrops:
        rng = np.random.default_rng(seed)
        axis = np.arange(40) - 19.5
        labels = np.arange(n) % 2
        radius = np.where(labels == 0, 8, 13) + rng.normal(0, 0.5, n)
        inside = np.hypot(axis[:, None], axis[None, :])[None] < radius[:, None, None]
        images = (1000 + 300 * inside + rng.normal(0, 30, (n, 40, 40))).astype(np.uint16)
        return LabelledCrops(images, labels, ("small", "large"), np.arange(n), 0.5, "discs")

    return make
