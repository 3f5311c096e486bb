"""Evaluation judges whole cells with strangers among them, and fills the card."""

from __future__ import annotations

import json
import shutil

import numpy as np

from hspc_live.settings.twin import CellMix, TwinFlowSettings
from hspc_models.calibration_cells import load_cells
from hspc_models.card import load_card, load_network
from hspc_models.dataset import LabelledCrops, write_crops
from hspc_models.evaluate import cell_confusion, evaluate, first_views, logits
from hspc_models.sources import open_source
from hspc_models.train_settings import FileSource, Phase, ScratchRecipe, TrainSettings, TwinSource


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


def test_only_the_first_views_of_a_cell_count():
    groups = np.array([7, 3, 7, 7, 3, 7, 7])
    images = np.arange(7, dtype=np.uint8).reshape(7, 1, 1)
    crops = LabelledCrops(images, np.zeros(7, np.int64), ("a", "b"), groups, 0.25, "x")
    assert first_views(crops, 3).images.ravel().tolist() == [0, 1, 2, 3, 4]


def test_evaluation_fills_the_card(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    names = load_card(folder).classes
    rng = np.random.default_rng(3)
    images = rng.integers(0, 255, (24, 64, 64)).astype(np.uint8)
    crops = LabelledCrops(images, np.arange(24) % 3, names[::-1], np.arange(24), 0.25, "noise")
    for name in ("train.h5", "validation.h5"):
        write_crops(tmp_path / name, crops)
    source = FileSource(kind="files", data=tmp_path / "train.h5", validation=tmp_path / "validation.h5")
    settings = TrainSettings(
        name="noise",
        version="1",
        classes=names,
        source=source,
        recipe=ScratchRecipe(kind="scratch", phases=(Phase(epochs=1),)),
    )
    report = evaluate(folder, settings)
    card = load_card(folder)
    assert card.validation is not None and card.temperature == report["temperature"]
    assert [sum(row) for row in card.validation.confusion] == [8, 8, 8]
    assert card.validation.hog_balanced_accuracy == 1.0  # judged on what it was fitted on
    assert card.cell_confusion is None  # filed groups need not be cells
    low, high = card.validation.expected_calibration_error_interval
    assert low <= card.validation.expected_calibration_error <= high
    assert card.score_shares == (1 / 3, 1 / 3, 1 / 3)
    assert card.calibration is None and card.strangers is None  # the temperature saw all that was held out
    assert json.loads((folder / "metrics.json").read_text()) == report


def test_films_of_other_seeds_calibrate_a_model_of_the_twin(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    twin = TwinFlowSettings(height_px=128, mix=CellMix(lt_hsc=0.3, st_hsc=0.3, mpp=0.3, dead=0.1))
    source = TwinSource(twin=twin, crops=60, validation=30, films=1, film_frames=60, calibration_films=1)
    settings = TrainSettings(
        name="noise", version="1", classes=load_card(folder).classes, source=source, views=2, threads=1,
        recipe=ScratchRecipe(kind="scratch", phases=(Phase(epochs=1),)),
    )  # fmt: skip
    report = evaluate(folder, settings)
    card = load_card(folder)
    cells = load_cells(folder, card)
    assert report["calibration"]["counts"] == list(card.calibration.counts) and sum(card.calibration.counts[:3]) > 3
    assert card.calibration.taken == "flow" and cells.views == card.calibration.views == 2
    crops = first_views(open_source(settings).calibration(), 2)
    again = logits(load_network(folder)[1], crops.images)
    assert np.allclose(np.sort(cells.logits, axis=0), np.sort(again, axis=0), atol=1e-3)
    judged = first_views(open_source(settings).test(), 2)
    assert len(judged) != len(crops) or not np.array_equal(judged.images, crops.images)
    assert len(card.strangers.limits) == 2
