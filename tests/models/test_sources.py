"""Training crops and test films of the twin: fresh, labelled with the truth, and never the same cells."""

from __future__ import annotations

import numpy as np
import pytest

from hspc_live.core.crop import CropGeometry
from hspc_live.core.errors import RecordingError, SettingsError
from hspc_live.settings.segment import BackgroundSettings, SegmentSettings
from hspc_live.settings.twin import TwinFlowSettings
from hspc_models.dataset import write_crops
from hspc_models.films import film
from hspc_models.sources import TwinCrops, open_folds, open_source
from hspc_models.train_settings import FileSource, TrainSettings, TwinSource

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


def test_classes_that_one_kind_plays_do_not_differ():
    roles = TwinSource(crops=30, strangers=(), played_by={"MPP2": "MPP", "MPP3": "MPP"}, films=1, film_frames=60)
    crops = TwinCrops(roles, ("MPP2", "MPP3", "LT-HSC"), CropGeometry(), seed=4)
    assert crops.epoch(0).names == ("MPP2", "MPP3", "LT-HSC")
    assert np.bincount(crops.epoch(0).labels).tolist() == [10, 10, 10]
    assert crops.remarks == ("the digital twin: MPP as MPP2, MPP as MPP3",)
    seen = crops.test()
    cells = {name: set(seen.groups[seen.labels == index].tolist()) for index, name in enumerate(seen.names)}
    assert cells["MPP2"] and cells["MPP3"] and not cells["MPP"]
    assert not cells["MPP2"] & cells["MPP3"]  # a cell plays one class, in all its views


def test_a_class_that_the_twin_does_not_have_is_named_with_the_mend():
    with pytest.raises(SettingsError, match=r"the digital twin has no young; .*--data FILE"):
        TwinCrops(TwinSource(), ("young", "MPP"), CropGeometry(), seed=1)
    with pytest.raises(SettingsError, match=r"played_by: aged must be one of the classes"):
        TwinCrops(TwinSource(played_by={"aged": "MPP"}), CLASSES, CropGeometry(), seed=1)


def filed(path, **changes) -> TrainSettings:
    return TrainSettings.model_validate(
        {
            "name": "stripes",
            "version": "1",
            "classes": ["standing", "lying"],
            "crop_px": 32,
            "source": {"kind": "files", "data": path},
            "recipe": {"kind": "scratch", "phases": [{"pixels": 16, "epochs": 1}]},
        }
        | changes
    )


def test_filed_crops_are_split_and_brought_to_the_models_size(stripes, tmp_path):
    write_crops(tmp_path / "large.h5", stripes(20, 1, edge=36))
    source = open_source(filed(tmp_path / "large.h5"))
    assert (len(source.epoch(0)), len(source.test())) == (16, 4)
    assert source.epoch(0).images.shape == (16, 32, 32) and source.epoch(0).names == ("standing", "lying")
    assert any("crops of 36 × 36 px" in remark for remark in source.remarks)
    judge = FileSource(kind="files", data=tmp_path / "large.h5", validation=tmp_path / "other.h5")
    write_crops(tmp_path / "other.h5", stripes(6, 2))
    source = open_source(filed(tmp_path / "large.h5", source=judge))
    assert (len(source.epoch(0)), len(source.test())) == (20, 6)


def test_what_cannot_be_learnt_from_is_named(stripes, tmp_path):
    write_crops(tmp_path / "one.h5", stripes(1, 1))
    with pytest.raises(RecordingError, match=r"one\.h5.*1 crop cannot be split"):
        open_source(filed(tmp_path / "one.h5"))
    write_crops(tmp_path / "few.h5", stripes(8, 1))
    with pytest.raises(RecordingError, match=r"few\.h5.*no crops of sitting; it has lying, standing"):
        open_source(filed(tmp_path / "few.h5", classes=["standing", "sitting"]))
    with pytest.raises(RecordingError, match=r"none\.h5"):
        open_source(filed(tmp_path / "none.h5"))
    with pytest.raises(SettingsError, match="fresh cells for every run"):
        open_folds(filed("x", source={"kind": "twin"}, classes=["LT-HSC", "MPP"]), 2)


def test_folds_judge_every_crop_once(stripes, tmp_path):
    write_crops(tmp_path / "crops.h5", stripes(12, 1))
    parts = open_folds(filed(tmp_path / "crops.h5"), 3)
    assert sorted(np.concatenate([rows for _, rows in parts]).tolist()) == list(range(12))
    for source, rows in parts:
        assert (len(source.epoch(0)), len(rows)) == (8, 4)
        assert len({image.tobytes() for crops in (source.epoch(0), source.test()) for image in crops.images}) == 12
