"""Labelled crops survive the file, and a wrong file says what is wrong."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest

from hspc_live.core.errors import OutputError, RecordingError
from hspc_models.dataset import LabelledCrops, Origins, read_crops, write_crops


def some_crops(n=6, dtype=np.uint16):
    rng = np.random.default_rng(0)
    images = rng.integers(0, np.iinfo(dtype).max, (n, 32, 32)).astype(dtype)
    return LabelledCrops(images, np.arange(n) % 3, ("µ", "B", "C"), np.arange(n) // 2, 0.25, "made up")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_round_trip(tmp_path, dtype):
    crops = some_crops(dtype=dtype)
    write_crops(tmp_path / "crops.h5", crops)
    back = read_crops(tmp_path / "crops.h5")
    assert back.images.dtype == dtype and np.array_equal(back.images, crops.images)
    assert np.array_equal(back.labels, crops.labels) and np.array_equal(back.groups, crops.groups)
    assert (back.names, back.um_per_px, back.provenance) == (crops.names, 0.25, "made up")


def test_nothing_is_overwritten(tmp_path):
    write_crops(tmp_path / "crops.h5", some_crops())
    with pytest.raises(OutputError, match=r"crops\.h5"):
        write_crops(tmp_path / "crops.h5", some_crops())


def test_classes_come_in_the_cards_order():
    some = some_crops().in_order(("C", "µ"))
    assert some.labels.tolist() == [1, 0, 1, 0] and some.names == ("C", "µ")
    with pytest.raises(RecordingError, match=r"no crops of D; .*Add crops of it, or change classes"):
        some_crops().in_order(("C", "D"))


def spoil(path, key, value):
    with h5py.File(path, "r+") as file:
        if key in file:
            del file[key]
            if value is not None:
                file[key] = value
        else:
            file.attrs[key] = value


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", "else", "format is not"),
        ("label", np.zeros(3, np.int64), "different lengths"),
        ("label", np.full(6, 7), "outside label_names"),
        ("image", np.zeros((6, 32, 32), np.float32), "float32"),
        ("group", None, "cannot read"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path, key, value, message):
    path = tmp_path / "crops.h5"
    write_crops(path, some_crops())
    spoil(path, key, value)
    with pytest.raises(RecordingError, match=message):
        read_crops(path)


def test_not_hdf5(tmp_path):
    (tmp_path / "crops.h5").write_bytes(b"")
    with pytest.raises(RecordingError, match=r"crops\.h5"):
        read_crops(tmp_path / "crops.h5")


def test_everything_that_is_known_of_crops_comes_back(tmp_path):
    crops = replace(
        some_crops(),
        um_per_px=float("nan"),
        labels=np.array([0, -1, 2, 0, 1, -1]),
        group_names=("mouse 1", "Maus ä", "3"),
        fluorescence={"GFP/a": np.array([1, np.nan, 3, 4, 5, 6], np.float32), "CD48": np.arange(6, dtype=np.float32)},
        origins=Origins(("a.npz", "ß.npz"), np.array([0, 0, 1, 1, 1, 1]), np.array([3, 4, 0, 1, 2, 5])),
        cells=np.array([1, 1, 2, 2, 3, 3]),
        notes=("resampled",),
    )
    write_crops(tmp_path / "crops.h5", crops)
    back = read_crops(tmp_path / "crops.h5")
    assert not back.scaled and back.labels.tolist() == crops.labels.tolist() and back.notes == crops.notes
    assert back.group_names == crops.group_names and back.cells.tolist() == crops.cells.tolist()
    assert list(back.fluorescence) == ["GFP/a", "CD48"]
    assert np.array_equal(back.fluorescence["GFP/a"], crops.fluorescence["GFP/a"], equal_nan=True)
    assert back.origins.files == crops.origins.files and back.origins.row.tolist() == [3, 4, 0, 1, 2, 5]
    some = back.in_order(("C", "µ"))
    assert some.labels.tolist() == [1, 0, 1] and some.fluorescence["CD48"].tolist() == [0, 2, 3]
    assert some.origins.file.tolist() == [0, 1, 1] and some.cells.tolist() == [1, 2, 2]


def test_files_of_the_first_version_are_read(tmp_path):
    with h5py.File(tmp_path / "old.h5", "w") as file:
        some = some_crops()
        file["image"], file["label"], file["group"] = some.images, some.labels, some.groups
        file.attrs.update(format="hspc-crops-1", label_names=list(some.names), um_per_px=0.25, provenance="old")
    back = read_crops(tmp_path / "old.h5")
    assert np.array_equal(back.images, some.images) and back.group_names == () and back.origins is None


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    broken = replace(some_crops(), notes=("\ud800",))  # no UTF-8: fails after the pictures were written
    with pytest.raises(UnicodeEncodeError):
        write_crops(tmp_path / "crops.h5", broken)
    assert list(tmp_path.iterdir()) == []
