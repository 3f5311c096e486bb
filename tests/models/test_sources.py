"""Training crops and test films of the twin: fresh, labelled with the truth, and never the same cells."""

from __future__ import annotations

import numpy as np
import pytest

from hspc_live.core.crop import CropGeometry
from hspc_live.settings.segment import BackgroundSettings, SegmentSettings
from hspc_live.settings.twin import TwinFlowSettings
from hspc_models.films import film
from hspc_models.sources import TwinCrops
from hspc_models.train_settings import TwinSource

CLASSES = ("LT-HSC", "ST-HSC", "MPP")


@pytest.fixture(scope="module")
def source() -> TwinCrops:
    settings = TwinSource(crops=40, validation=30, stranger_share=0.25)
    return TwinCrops(settings, CLASSES, CropGeometry(), seed=4)


def test_every_epoch_has_new_cells_and_repeats_on_demand(source):
    first, again, second = source.epoch(0), source.epoch(0), source.epoch(1)
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, second.images)
    assert len(first) == 40 and first.names[:3] == CLASSES
    assert np.bincount(first.labels)[:3].tolist() == [10, 10, 10]
    strangers = [first.names[label] for label in first.labels if label >= 3]
    assert sorted(set(strangers)) == ["dead", "doublet"] and len(strangers) == 10


def test_what_judges_was_never_trained_on(source):
    trained = {image.tobytes() for epoch in range(3) for image in source.epoch(epoch).images}
    for crops in (source.validation(), source.baseline()):
        assert not trained & {image.tobytes() for image in crops.images}


def test_a_film_shows_cells_in_the_middle_of_their_crops():
    twin = TwinFlowSettings(seed=3, events_per_s=15.0)
    crops = film(twin, SegmentSettings(), BackgroundSettings(), CropGeometry(), frames=120)
    assert len(np.unique(crops.groups)) >= 5
    cells = np.isin(crops.labels, [crops.names.index(name) for name in CLASSES])
    assert cells.mean() > 0.8
    weight = np.abs(crops.images[cells].astype(float) - 128) > 12
    middle = (np.arange(64) - 31.5)[None, :]
    for axis in (1, 2):
        offset = (weight.sum(axis=axis) * middle).sum(axis=1) / weight.sum(axis=(1, 2))
        assert np.median(np.abs(offset)) < 3.0
