"""segment: what a person or a script gets for a folder of pictures, good and bad."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import tifffile

CELLS = [(80, 90, 18), (220, 80, 22), (330, 210, 16), (100, 250, 20), (250, 300, 24)]


def field(cells=CELLS, dtype=np.uint8):
    """A DIC picture of smooth globes."""
    ys, xs = np.indices((400, 420), dtype=np.float32)
    depth = np.zeros(xs.shape, np.float32)
    for x, y, radius in cells:
        depth += np.sqrt(np.maximum(1 - ((xs - x) ** 2 + (ys - y) ** 2) / radius**2, 0)) * radius / 20
    depth = cv2.GaussianBlur(depth, (0, 0), 1)
    noise = np.random.default_rng(0).normal(0, 1.2, xs.shape)
    light = 110 + 250 * (np.gradient(depth, axis=0) + np.gradient(depth, axis=1)) + noise
    return np.clip(np.rint(light), 0, 255).astype(dtype)


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "in"
    inside.mkdir()
    cv2.imwrite(str(inside / "a.png"), field())
    tifffile.imwrite(inside / "b.tif", field(CELLS[:2], np.uint16) * 100)
    return inside


def test_a_folder_of_pictures(hspc_live, folder, tmp_path):
    said = hspc_live(
        "segment", folder, "--um-per-px", 0.25, "--labels", tmp_path / "l", "--overlay", tmp_path / "o", "--json"
    )
    assert said.code == 0
    first, second = json.loads(said.out)["images"]
    assert [first["file"], second["file"]] == [str(folder / "a.png"), str(folder / "b.tif")]
    assert (len(first["cells"]), len(second["cells"])) == (5, 2)
    labels = cv2.imread(str(tmp_path / "l" / "a.png"), cv2.IMREAD_UNCHANGED)
    assert labels.dtype == np.uint16 and labels.max() == 5
    for number, cell in enumerate(first["cells"], start=1):
        ys, xs = np.nonzero(labels == number)
        assert (cell["x_px"], cell["y_px"]) == pytest.approx((xs.mean(), ys.mean()), abs=0.1)
        assert cell["area_um2"] == pytest.approx(len(xs) * 0.0625, rel=0.01)
        assert cell["accepted"] is (cell["reason"] is None)
    assert first["ms"] > 0 and first["modality"] == "dic"
    assert {p.name for p in (tmp_path / "o").iterdir()} == {"a.png", "b.png"}


def test_an_unreadable_file_among_good_ones(hspc_live, folder):
    (folder / "c.png").write_text("no picture")
    said = hspc_live("segment", folder, "--um-per-px", 0.25, "--json")
    assert said.code == 10 and "c.png" in said.err
    result = json.loads(said.out)
    assert len(result["images"]) == 2
    assert [entry["file"] for entry in result["failed"]] == [str(folder / "c.png")]


def test_one_image_without_a_scale_does_not_keep_the_others_from_being_done(hspc_live, folder):
    for name in ("c", "e"):
        tifffile.imwrite(
            folder / f"{name}.ome.tif", field(), metadata={"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}, ome=True
        )
    said = hspc_live("segment", folder, "--json")
    assert said.code == 10
    result = json.loads(said.out)
    assert [entry["file"].rpartition("/")[2] for entry in result["images"]] == ["c.ome.tif", "e.ome.tif"]
    assert all("--um-per-px" in entry["error"] for entry in result["failed"]) and len(result["failed"]) == 2


def test_the_pixel_size_is_asked_for_and_never_guessed(hspc_live, folder, tmp_path):
    said = hspc_live("segment", folder)
    assert said.code == 2 and "--um-per-px" in said.err and "a.png" in said.err
    told = tmp_path / "told.ome.tif"
    tifffile.imwrite(told, field(), ome=True, metadata={"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5})
    said = hspc_live("segment", told, "--max-um", 40, "--json")
    assert said.code == 0 and json.loads(said.out)["images"][0]["um_per_px"] == 0.5


def test_outputs_never_replace_an_input_or_each_other(hspc_live, folder, tmp_path):
    before = (folder / "a.png").read_bytes()
    said = hspc_live("segment", folder, "--um-per-px", 0.25, "--labels", folder)
    assert said.code == 4 and (folder / "a.png").read_bytes() == before
    tifffile.imwrite(folder / "a.tif", field())
    said = hspc_live("segment", folder, "--um-per-px", 0.25, "--labels", tmp_path / "l")
    assert said.code == 4 and "a.png" in said.err
    same = tmp_path / "same"
    assert hspc_live("segment", folder / "b.tif", "--um-per-px", 0.25, "--labels", same, "--overlay", same).code == 4


def test_sizes_that_contradict_each_other(hspc_live, folder):
    said = hspc_live("segment", folder, "--um-per-px", 0.25, "--min-um", 9, "--max-um", 5)
    assert said.code == 2 and "min_diameter_um" in said.err
