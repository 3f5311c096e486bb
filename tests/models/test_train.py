"""Training really trains, survives a kill, and says what it cannot do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hspc_live.core.errors import OutputError, SettingsError
from hspc_models.card import load_card, load_network
from hspc_models.checkpoint import CHECKPOINT_FILE
from hspc_models.dataset import LabelledCrops, write_crops
from hspc_models.evaluate import cell_confusion, evaluate, first_views
from hspc_models.train import learning_rate, soft_targets, train
from hspc_models.train_settings import FileSource, Phase, TrainSettings, load_train_settings

CONFIGS = Path(__file__).parents[2] / "configs" / "train"


def stripes(n: int, seed: int) -> LabelledCrops:
    """Two classes that a look tells apart: stripes along x or along y."""
    rng = np.random.default_rng(seed)
    wave = (60 * np.sin(np.arange(32) * np.pi / 4 + rng.uniform(0, 6.3, (n, 1)))).astype(np.float32)
    lying, standing = np.repeat(wave[:, :, None], 32, 2), np.repeat(wave[:, None, :], 32, 1)
    labels = np.arange(n) % 2
    images = np.where(labels[:, None, None] == 0, lying, standing) + 128 + rng.normal(0, 5, (n, 32, 32))
    return LabelledCrops(images.astype(np.uint8), labels, ("lying", "standing"), np.arange(n), 0.25, "stripes")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> FileSource:
    folder = tmp_path_factory.mktemp("crops")
    write_crops(folder / "train.h5", stripes(8, 1))
    write_crops(folder / "validation.h5", stripes(4, 2))
    return FileSource(kind="files", train=folder / "train.h5", validation=folder / "validation.h5")


def settings(files: FileSource, **changes: object) -> TrainSettings:
    return TrainSettings(
        name="stripes",
        version="1",
        classes=("standing", "lying"),
        crop_px=32,
        source=files,
        phases=(Phase(pixels=16, epochs=1), Phase(pixels=32, epochs=1)),
        batch=4,
        warm_up_steps=2,
    ).model_copy(update=changes)


@pytest.fixture
def out(tmp_path: Path):
    yield tmp_path / "out"
    for checkpoint in tmp_path.rglob(CHECKPOINT_FILE):  # 400 MB each
        checkpoint.unlink()


def test_a_killed_run_ends_with_the_same_weights(files, out, tmp_path):
    whole, parts = out, tmp_path / "parts"
    train(settings(files), whole, "test")
    train(settings(files), parts, "test", epochs=1)
    assert load_card(parts).training.epochs == 1
    train(settings(files), parts, "test")
    assert load_card(whole).weights.sha256 == load_card(parts).weights.sha256
    card, network = load_network(whole)
    assert (card.training.epochs, card.training.crops, card.classes) == (2, 16, ("standing", "lying"))
    assert all(bool(torch.isfinite(p).all()) for p in network.parameters())
    lines = [json.loads(line) for line in (parts / "training.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["pixels"]) for line in lines] == [(1, 16), (2, 32)]
    assert all(line["train_loss"] > 0 and line["seconds"] >= 0 for line in lines)
    with pytest.raises(OutputError, match="other settings"):
        train(settings(files, seed=9), parts, "test")


def test_the_rate_warms_up_and_falls_to_nothing(files):
    run = settings(files, warm_up_steps=10, learning_rate=1.0)
    assert learning_rate(run, 0.0, 0) == pytest.approx(1 / 11)
    assert learning_rate(run, 1.0, 500) == pytest.approx(0.5)
    assert learning_rate(run, 2.0, 1000) == pytest.approx(0.0)


def test_strangers_are_to_score_every_class_alike():
    crops = LabelledCrops(
        np.zeros((3, 8, 8), np.uint8), np.array([0, 1, 2]), ("a", "dead", "b"), np.arange(3), 0.25, "x"
    )
    targets = soft_targets(crops, ("b", "a"), smoothing=0.2)
    np.testing.assert_allclose(targets, [[0.1, 0.9], [0.5, 0.5], [0.9, 0.1]], atol=1e-6)


def test_cells_are_judged_whole_with_strangers_among_them():
    names = ("a", "b", "dead")
    groups = np.array([1, 1, 1, 1, 2, 3])
    crops = LabelledCrops(np.zeros((6, 8, 8), np.uint8), np.array([0, 0, 0, 0, 1, 2]), names, groups, 0.25, "a film")
    scores = np.array([[0.9, 0.1], [0.6, 0.4], [0.9, 0.1], [0.0, 1.0], [0.2, 0.8], [0.6, 0.4]])
    table = cell_confusion(crops, scores, ("a", "b"), views=3)
    at = dict(zip(table.thresholds, table.counts, strict=True))
    assert table.kinds == names and table.views == 3  # the fourth view of cell 1 came after it was closed
    assert at[0.5] == ((1, 0, 0), (0, 1, 0), (1, 0, 0))
    assert at[0.7] == ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    assert at[0.9] == ((0, 0, 1), (0, 0, 1), (0, 0, 1))


def test_shipped_training_files_load():
    shipped = sorted(CONFIGS.glob("*.yaml"))
    assert shipped
    for path in shipped:
        assert load_train_settings(path).epochs >= 1


def test_a_mistake_in_a_training_file_names_file_and_key(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("name: x\nversion: 1.0\nclasses: [a, b]\nsource: {kind: twin, crop: 3}\nphases: [{epochs: 1}]\n")
    with pytest.raises(SettingsError, match=r"(?s)run\.yaml:2: version.*run\.yaml:4: source\.crop"):
        load_train_settings(path)
    with pytest.raises(SettingsError, match=r"none\.yaml: there is no such"):
        load_train_settings(tmp_path / "none.yaml")


def test_only_the_first_views_of_a_cell_count():
    groups = np.array([7, 3, 7, 7, 3, 7, 7])
    images = np.arange(7, dtype=np.uint8).reshape(7, 1, 1)
    crops = LabelledCrops(images, np.zeros(7, np.int64), ("a", "b"), groups, 0.25, "x")
    assert first_views(crops, 3).images.ravel().tolist() == [0, 1, 2, 3, 4]


def test_evaluation_fills_the_card(files, model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    names = load_card(folder).classes
    rng = np.random.default_rng(3)
    images = rng.integers(0, 255, (24, 64, 64)).astype(np.uint8)
    crops = LabelledCrops(images, np.arange(24) % 3, names[::-1], np.arange(24), 0.25, "noise")
    for name in ("train.h5", "validation.h5"):
        write_crops(tmp_path / name, crops)
    source = FileSource(kind="files", train=tmp_path / "train.h5", validation=tmp_path / "validation.h5")
    report = evaluate(folder, settings(source, classes=names, crop_px=64))
    card = load_card(folder)
    assert card.validation is not None and card.temperature == report["temperature"]
    assert [sum(row) for row in card.validation.confusion] == [8, 8, 8]
    assert card.validation.hog_balanced_accuracy == 1.0  # judged on what it was fitted on
    assert card.cell_confusion is None  # filed groups need not be cells
    assert json.loads((folder / "metrics.json").read_text()) == report
