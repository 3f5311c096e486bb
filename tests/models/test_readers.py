"""Crops from whatever people have: what is read, what is said of it, and what is refused with its mend."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import tifffile

from hspc_live.core.chamber import (
    ChamberCell,
    ChamberFacts,
    ChamberOutcome,
    FieldObjects,
    Phase,
    Picture,
    Settled,
    Visit,
)
from hspc_live.core.crop import CropGeometry, cut
from hspc_live.core.errors import RecordingError, SettingsError
from hspc_live.core.values import (
    OBJECT_DTYPE,
    CameraInfo,
    CellOutcome,
    CellRecord,
    Classification,
    Frame,
    FrameResult,
    Modality,
    StageInfo,
    StageTarget,
)
from hspc_live.recording.chamber_writer import ChamberWriter
from hspc_live.recording.writer import RecordingWriter
from hspc_models.dataset import LabelledCrops, write_crops
from hspc_models.readers import joined, read_any

RNG = np.random.default_rng(4)
IMAGES = RNG.integers(0, 255, (6, 20, 20)).astype(np.uint8)
LABELS = np.array(["A", "B", "A", "C", "B", "A"])


def archive(path, **columns):
    np.savez(path, **({"image": IMAGES, "label": LABELS} | columns))
    return path


# ---- .npz -----------------------------------------------------------------------------------------------------------


def test_an_archive_with_its_groups_light_and_scale(tmp_path):
    path = archive(
        tmp_path / "a.npz",
        mouse=np.array([3, 3, 1, 1, 12, 12]),
        fluorescence_GFP=np.array([1.0, np.nan, 3, 4, 5, 6]),
        um_per_px=0.3,
    )
    crops = read_any(path, group_by="mouse")
    assert crops.names == ("A", "B", "C") and crops.labels.tolist() == [0, 1, 0, 2, 1, 0]
    assert [crops.group_name(g) for g in crops.groups] == ["3", "3", "1", "1", "12", "12"]
    assert crops.um_per_px == 0.3 and np.array_equal(crops.images, IMAGES)
    assert np.array_equal(crops.fluorescence["GFP"], [1, np.nan, 3, 4, 5, 6], equal_nan=True)
    assert crops.origins.files == ("a.npz",) and crops.origins.row.tolist() == list(range(6))
    alone = read_any(archive(tmp_path / "b.npz", mouse=np.arange(6)))
    assert alone.group_names == ("b",) and not alone.scaled
    assert "--group-by" in alone.notes[0] and "mouse" in alone.notes[0]


def test_numbers_are_classes_only_where_they_are_named(tmp_path):
    path = archive(tmp_path / "a.npz", label=np.array([0, 1, 0, 1, 10, 0]))
    with pytest.raises(RecordingError, match=r"a\.npz: label holds numbers \(0, 1, 10\).*--names 0=NAME,1=NAME"):
        read_any(path)
    with pytest.raises(RecordingError, match="numbers"):
        read_any(path, names={"0": "G1", "1": "S"})
    crops = read_any(path, names={"0": "G1", "1": "S", "10": "G2"})
    assert [crops.names[i] for i in crops.labels] == ["G1", "S", "G1", "S", "G2", "G1"]


def test_crops_without_labels_are_unlabelled_or_all_of_the_class_that_is_told(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, image=IMAGES, kind=LABELS)
    crops = read_any(path)
    assert crops.labels.tolist() == [-1] * 6 and crops.names == () and "predict only" in crops.notes[0]
    assert read_any(path, label="LT-HSC").names == ("LT-HSC",)
    assert read_any(path, label="kind").names == ("A", "B", "C")
    partly = read_any(archive(tmp_path / "b.npz", label=np.array(["A", "", "B", "A", " ", "B"])))
    assert partly.labels.tolist() == [0, -1, 1, 0, -1, 1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": np.where(np.arange(6)[:, None, None] == 2, np.nan, IMAGES)}, "1 of 6 crops have NaN.*rows 2"),
        ({"image": IMAGES / 255}, "floating point"),
        ({"image": np.stack([IMAGES, IMAGES // 2, IMAGES], -1)}, "colour pictures"),
        ({"image": IMAGES[0]}, r"expected \(n, S, S\)"),
        ({"image": IMAGES[:, :10]}, "20 × 10 pixels"),
        ({"image": IMAGES[:0], "label": LABELS[:0]}, "no crops"),
        ({"image": IMAGES.astype(np.int32) - 5}, "do not fit 16 bits"),
        ({"image": IMAGES > 3}, "no grey values"),
        ({"label": LABELS[:4]}, r"label is \(4,\), but image has 6 crops"),
        ({"label": np.array(LABELS, dtype=object)}, r"label holds Python objects \(a pickle\), which are never opened"),
        ({"um_per_px": -1.0}, "um_per_px must be one positive number"),
        ({"fluorescence_GFP": LABELS}, "expected numbers"),
    ],
)
def test_bad_archives_are_refused_by_name_with_a_mend(tmp_path, columns, message):
    with pytest.raises(RecordingError, match=rf"bad\.npz: .*{message}"):
        read_any(archive(tmp_path / "bad.npz", **columns))


def test_grey_in_disguise_and_whole_numbers_are_taken(tmp_path):
    for number, image in enumerate((np.stack([IMAGES] * 3, -1), IMAGES[..., None], IMAGES.astype(float) * 4)):
        crops = read_any(archive(tmp_path / f"{number}.npz", image=image))
        assert crops.images.dtype in (np.uint8, np.uint16) and crops.images.shape == IMAGES.shape


def test_a_missing_column_names_what_there_is(tmp_path):
    with pytest.raises(SettingsError, match="no array called mouse; it has image, label"):
        read_any(archive(tmp_path / "a.npz"), group_by="mouse")
    np.savez(tmp_path / "b.npz", label=LABELS)
    with pytest.raises(RecordingError, match="no array called image; it has label"):
        read_any(tmp_path / "b.npz")


def test_files_that_are_nothing_of_the_kind(tmp_path):
    for name, content in (("empty.npz", b""), ("noise.npz", b"PK\x03\x04" + bytes(200)), ("text.h5", b"hello")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(RecordingError, match=re.escape(name)):
            read_any(tmp_path / name)
    with pytest.raises(RecordingError, match="check the path"):
        read_any(tmp_path / "none.npz")
    whole = archive(tmp_path / "whole.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecordingError, match=r"cut\.npz"):
        read_any(tmp_path / "cut.npz")


# ---- folders --------------------------------------------------------------------------------------------------------


def tree(root, places, shape=(20, 20), dtype=np.uint8):
    for number, place in enumerate(places):
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = np.random.default_rng(number).integers(0, 255, shape).astype(dtype)
        cv2.imwrite(str(path), picture)
    return root


def test_folders_are_classes_and_folders_in_them_groups(tmp_path):
    root = tree(tmp_path / "set", ["LT/m1/a.png", "LT/m2/a.tif", "MPP/m1/b.png", "MPP/.hidden.png", "MPP/m2/c.png"])
    crops = read_any(root, group_by="folder", um_per_px=0.25)
    assert [crops.names[i] for i in crops.labels] == ["LT", "LT", "MPP", "MPP"]
    assert [crops.group_name(g) for g in crops.groups] == ["m1", "m2", "m1", "m2"]
    assert crops.origins.files == ("LT/m1/a.png", "LT/m2/a.tif", "MPP/m1/b.png", "MPP/m2/c.png")
    assert np.array_equal(crops.images[0], np.random.default_rng(0).integers(0, 255, (20, 20)))
    flat = read_any(tree(tmp_path / "flat", ["A/1.png", "B/1.png"]))
    assert flat.group_names == ("flat",) and "one group" in flat.notes[0]


def test_pictures_without_folders_have_no_class_unless_told(tmp_path):
    root = tree(tmp_path / "mixed", ["1.png", "2.png"])
    assert read_any(root).labels.tolist() == [-1, -1]
    assert read_any(root, label="MPP").names == ("MPP",)


def test_the_scale_that_pictures_state_is_taken(tmp_path):
    (tmp_path / "s" / "A").mkdir(parents=True)
    for name in ("1", "2"):
        tifffile.imwrite(
            tmp_path / "s" / "A" / f"{name}.ome.tif", IMAGES[0],
            metadata={"PhysicalSizeX": 0.2, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.2, "PhysicalSizeYUnit": "µm"},
        )  # fmt: skip
    assert read_any(tmp_path / "s").um_per_px == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("odd", "shape", "dtype", "message"),
    [
        ("B/odd.png", (24, 24), np.uint8, "24 × 24 pixels, but .* has 20 × 20"),
        ("B/odd.png", (20, 20), np.uint16, "uint16, but .* has uint8"),
        ("A/odd.png", (20, 24), np.uint8, "24 × 20 pixels; cut or pad"),
        ("A/odd.png", (20, 20, 3), np.uint8, "colour picture"),
        ("A/g/h/odd.png", (20, 20), np.uint8, "no deeper"),
        ("odd.png", (20, 20), np.uint8, "beside folders of classes"),
    ],
)
def test_a_folder_with_one_odd_picture_is_refused_by_its_name(tmp_path, odd, shape, dtype, message):
    root = tree(tmp_path / "set", ["A/1.png", "B/1.png"])
    tree(root, [odd], shape, dtype)
    with pytest.raises(RecordingError, match=message):
        read_any(root)


def test_a_class_without_pictures_and_a_broken_one_are_refused(tmp_path):
    root = tree(tmp_path / "set", ["A/1.png"])
    (root / "B").mkdir()
    with pytest.raises(RecordingError, match=r"B: no PNG or TIFF"):
        read_any(root)
    (root / "B" / "x.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    with pytest.raises(RecordingError, match=r"x\.png: a broken PNG"):
        read_any(root)
    (tmp_path / "none").mkdir()
    with pytest.raises(RecordingError, match="no folders of classes and no pictures"):
        read_any(tmp_path / "none")
    with pytest.raises(SettingsError, match="no column mouse"):
        read_any(root, group_by="mouse")


# ---- recordings -----------------------------------------------------------------------------------------------------

CAMERA = CameraInfo(96, 240, "uint8", 0.25, 200.0, Modality.DIC, 45.0)
PLACES = [(0, 100, 50), (1, 120, 48), (1, 60, 50), (2, 140, 47)]  # frame, x, y in pixels
SMALL = CropGeometry(32, 0.25)


def flow(path, *, record_frames=True):
    rng = np.random.default_rng(9)
    frames = rng.integers(90, 160, (3, 96, 240)).astype(np.uint8)
    background = rng.integers(110, 130, (96, 240)).astype(np.uint8)
    writer = RecordingWriter.create(
        path, run_id="r", settings_json="{}", camera=CAMERA, classes=("LT-HSC", "MPP"), card_yaml="",
        pipeline_id="0" * 64, versions={}, window=(40, 40), record_frames=record_frames,
    )  # fmt: skip
    if record_frames:
        writer.write_background(7, background, 1.0)
    for index in range(3):
        if record_frames:
            writer.write_frame(index, 5_000_000 * index, frames[index], 7)
        mine = sorted((x, y) for frame, x, y in PLACES if frame == index)
        objects = np.zeros(len(mine), OBJECT_DTYPE)
        objects["x_um"], objects["y_um"] = np.array(mine).T * 0.25
        windows, masks = np.zeros((len(mine), 40, 40), np.uint8), np.ones((len(mine), 40, 40), np.uint8)
        crops = np.zeros((len(mine), 64, 64), np.uint8)
        writer.write_result(FrameResult(index, 5_000_000 * index, objects, crops, windows, masks, 7))
    found = Classification(4, (0.9, 0.1), "LT-HSC", 3)
    followed = CellRecord(
        4, 0, 2, ((0, 0), (1, 1), (2, 0)), CellOutcome.PASSED, "", None, found, None, None, None, None, 12.0, 0, 0, None
    )
    writer.write_cells([followed])
    writer.close({}, {})
    return frames, background


def test_views_of_a_run_are_cut_as_they_were_live_and_know_their_cell(tmp_path):
    path = tmp_path / "run.rtdc"
    frames, background = flow(path)
    crops = read_any(path, label="LT-HSC", geometry=SMALL)
    assert crops.names == ("LT-HSC",) and crops.um_per_px == 0.25 and crops.group_names == ("run",)
    places = sorted(PLACES)
    assert crops.origins.row.tolist() == [0, 2, 3]  # the view in row 1 is of no cell
    for crop, row in zip(crops.images, (0, 2, 3), strict=True):
        frame, x, y = places[row]
        assert np.array_equal(crop, cut(frames[frame], background, x, y, 0.25, SMALL))
    assert crops.cells.tolist() == [4, 4, 4] and "1 views after a cell was decided left out" in crops.notes[-1]


def test_a_run_labels_nothing_by_itself(tmp_path):
    path = tmp_path / "run.rtdc"
    flow(path)
    nobody = read_any(path, geometry=SMALL)
    assert nobody.labels.tolist() == [-1] * 3 and any("--label" in note for note in nobody.notes)
    said = read_any(path, label="decision", geometry=SMALL)
    assert said.names == ("LT-HSC", "MPP") and said.labels.tolist() == [0, 0, 0]
    assert any("not what the cells were" in note for note in said.notes)
    with pytest.raises(RecordingError, match="numbers"):
        read_any(path, label="ml_class", geometry=SMALL)


def test_a_run_without_frames_is_refused_with_its_mend(tmp_path):
    flow(tmp_path / "run.rtdc", record_frames=False)
    with pytest.raises(RecordingError, match=r"record\.frames: true"):
        read_any(tmp_path / "run.rtdc")


def chamber(path):
    """Two visits, an accepted object and a rejected one in each; cells of both, with their light."""
    shape = (48, 64)
    camera = CameraInfo(*shape, "uint16", 0.325, 10.0, Modality.DIC, 45.0)
    stage = StageInfo((-500.0, 500.0), (-400.0, 400.0), 0.1, "stage")
    targets = tuple(StageTarget(number, 20.0 * number, 0.0) for number in range(2))
    facts = ChamberFacts(camera, stage, ("transmitted", "Evi1-GFP"), np.eye(2, 3), np.zeros((6, 6)), targets)
    writer = ChamberWriter.create(
        path, run_id="r", settings_json="{}", facts=facts, classes=("LT-HSC", "MPP"), card_yaml="um_per_px: 0.3\n",
        pipeline_id="0", versions={}, crop_px=32,
    )  # fmt: skip
    crops = np.random.default_rng(0).integers(0, 60_000, (2, 1, 32, 32)).astype(np.uint16)
    cells = []
    for number, target in enumerate(targets):
        pictures = tuple(
            Picture(name, Frame(2 * number + i, 10 * number + i, 0, np.zeros(shape, np.uint16)))
            for i, name in enumerate(facts.channels)
        )
        visit = Visit(number, Phase.SCAN, target, 0.0, 0.0, Settled("", 1, 0, 0.0), pictures)
        objects = np.zeros(2, OBJECT_DTYPE)
        objects["reject"] = (2, 0)
        none = np.empty((0, 0, 0), np.uint16)
        result = FrameResult(2 * number, 0, objects, crops[number], none, none.astype(np.uint8), 0)
        glow = {"Evi1-GFP": np.array([np.nan, 50.0 + number])}
        labels = np.zeros(shape, np.uint16)
        writer.field(visit, FieldObjects(result, np.ones(2, bool), ("cluster", ""), labels, glow))
        for view in (0, 1):
            found = Classification(0, (0.2, 0.8), "MPP", 1) if view and number else None
            features = {"glow:Evi1-GFP": 50.0 + number} if view else {}
            cells.append(
                ChamberCell(
                    2 * number + view, 0.0, 0.0, 0.1, 4.0, 0, number, view, ((number, view),), ChamberOutcome.PASSED,
                    "", None, found, features,
                )
            )  # fmt: skip
    writer.cells(cells)
    writer.close({}, {})
    return crops[:, 0]


def test_cells_of_a_chamber_come_with_their_light(tmp_path):
    path = tmp_path / "chamber.h5"
    images = chamber(path)
    crops = read_any(path, label="LT-HSC")
    assert np.array_equal(crops.images, images) and crops.um_per_px == 0.3 and crops.names == ("LT-HSC",)
    assert crops.fluorescence["Evi1-GFP"].tolist() == [50, 51] and crops.cells.tolist() == [1, 3]
    said = read_any(path, label="decision")
    assert said.labels.tolist() == [-1, 1] and said.names == ("LT-HSC", "MPP")
    assert read_any(path).labels.tolist() == [-1, -1]
    with pytest.raises(SettingsError, match="scale of its model"):
        read_any(path, um_per_px=0.2)


def test_real_rtdc_recordings_give_centred_cells():
    folder = os.environ.get("HSPC_REAL_DATA")
    if folder is None:
        pytest.skip("HSPC_REAL_DATA is not set")
    crops = read_any(Path(folder) / "streams" / "blood_minimal.rtdc")
    assert crops.images.shape == (28, 64, 64) and crops.um_per_px == 0.25
    inner = crops.images[:, 24:40, 24:40].reshape(28, -1).std(1)
    outer = crops.images[:, :8].reshape(28, -1).std(1)
    assert np.mean(inner > 2 * outer) > 0.9


# ---- our own files, and several sources -----------------------------------------------------------------------------


def test_our_own_file_comes_back_and_is_not_overruled(tmp_path):
    crops = replace(read_any(archive(tmp_path / "a.npz")), um_per_px=0.25)
    write_crops(tmp_path / "a.h5", crops)
    again = read_any(tmp_path / "a.h5")
    assert again.names == crops.names and again.group_names == ("a",) and again.notes == crops.notes
    with pytest.raises(SettingsError, match="settled when it was made"):
        read_any(tmp_path / "a.h5", label="MPP")
    with pytest.raises(SettingsError, match=r"0\.25 µm/px"):
        read_any(tmp_path / "a.h5", um_per_px=0.3)
    assert "mouse" in read_any(tmp_path / "a.h5", group_by="mouse").notes[-1]


def test_sources_join_by_name(tmp_path):
    one = read_any(archive(tmp_path / "one.npz", fluorescence_GFP=np.arange(6.0), cell=np.array([5, 5, 1, 1, 2, 2])))
    other = read_any(archive(tmp_path / "two.npz", label=np.array(["D", "A", "D", "A", "D", ""])))
    both = joined([one, other])
    assert [both.names[i] if i >= 0 else "" for i in both.labels] == [*LABELS, "D", "A", "D", "A", "D", ""]
    assert [both.group_name(g) for g in both.groups] == ["one"] * 6 + ["two"] * 6
    assert np.isnan(both.fluorescence["GFP"][6:]).all() and both.fluorescence["GFP"][:6].tolist() == list(range(6))
    assert len(set(both.cells)) == 9 and both.cells[0] == both.cells[1]
    assert [both.origins.files[f] for f in both.origins.file] == ["one.npz"] * 6 + ["two.npz"] * 6
    with pytest.raises(RecordingError, match=r"do not fit together.*--crop-px"):
        joined([one, replace(other, images=np.zeros((6, 24, 24), np.uint8))])


def test_a_file_that_leads_elsewhere_is_refused(tmp_path):
    crops = LabelledCrops(IMAGES, np.zeros(6, np.int64), ("A",), np.arange(6), 0.25, "x")
    write_crops(tmp_path / "a.h5", crops)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["image"]
        file["image"] = h5py.ExternalLink("other.h5", "/image")
    with pytest.raises(RecordingError, match="image leads out of the file"):
        read_any(tmp_path / "a.h5")
