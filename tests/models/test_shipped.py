"""The shipped model: whole, honest about itself, and as good on new cells as its card says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hspc_live.settings.devices import RigSettings
from hspc_live.settings.load import load
from hspc_live.settings.schema import TorchEager
from hspc_live.settings.shipped import shipped_config
from hspc_live.settings.twin import TwinFlowSettings
from hspc_live.twin.samples import sample_crops
from hspc_models.card import Card, check_fits, find_model, load_card
from hspc_models.metrics import balanced_accuracy, confusion
from hspc_models.open_engine import open_engine
from hspc_models.train_settings import load_train_settings


@pytest.fixture(scope="module")
def card() -> Card:
    return load_card(find_model("twin-lsm"))


def test_the_card_says_how_far_to_trust_it(card):
    assert card.validation is not None and card.cell_confusion is not None
    assert card.validation.balanced_accuracy >= 0.85
    assert card.validation.hog_balanced_accuracy is not None
    assert card.validation.balanced_accuracy >= card.validation.hog_balanced_accuracy + 0.05
    assert card.cell_confusion.thresholds == (0.34, 0.5, 0.7, 0.9)
    assert card.cell_confusion.kinds[:3] == card.classes
    for rows in zip(*card.cell_confusion.counts, strict=True):  # a threshold moves cells, it loses none
        assert len({sum(row) for row in rows}) == 1
    assert card.training.seed and "hspc_models.train" in card.training.command


def test_its_table_is_of_cells_as_the_shipped_rig_judges_them(card):
    """Predicted purity rests on the table: it must combine as many views, of cells as large, as the rig does."""
    rig = load(shipped_config("rigs/twin_flow"), [], {})
    made_with = load_train_settings(Path(__file__).parents[2] / "configs" / "train" / "lsm.yaml")
    assert card.cell_confusion.views == rig.sort.close.views == made_with.views
    assert made_with.source.segment == rig.segment


def test_it_fits_the_default_rig(card):
    assert check_fits(card, RigSettings(), TwinFlowSettings().um_per_px) == []


def test_new_cells_are_recognised_as_the_card_says(card):
    crops = sample_crops(TwinFlowSettings(seed=90210), 240, 90210)
    engine = open_engine(TorchEager(model="twin-lsm", device="cpu"))
    scores = engine.infer(crops.crops)
    engine.close()
    names = np.array([card.classes.index(name) for name in crops.kinds])
    table = confusion(names[crops.labels], scores.argmax(axis=1), len(card.classes))
    assert balanced_accuracy(table) >= card.validation.balanced_accuracy - 0.08
