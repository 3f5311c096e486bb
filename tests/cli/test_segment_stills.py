"""segment: what a person or a script gets for a folder of pictures, good and bad."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import tifffile
from matplotlib.colors import to_rgb

from hspc_live.report.style import class_colours

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


def test_what_is_wrong_is_said_once(hspc_live, folder, tmp_path):
    said = hspc_live("segment", tmp_path / "missing", "--um-per-px", 0.25)
    assert said.code == 3 and said.err.count("missing") == 1
    (folder / "c.png").write_text("no picture")
    said = hspc_live("segment", folder / "c.png", tmp_path / "missing", "--um-per-px", 0.25)
    assert said.code == 3 and said.err.count("c.png") == 1 and said.err.count("missing") == 1
    assert "none of the 2 files" in said.err


@pytest.mark.parametrize(("scale", "words"), [("2", "2.2 pixels across"), ("0.005", "whole picture is 2.1 × 2 µm")])
def test_a_pixel_size_that_cannot_be_is_asked_about(hspc_live, folder, scale, words):
    said = hspc_live("segment", folder / "a.png", "--um-per-px", scale)
    assert said.code == 2 and words in said.err and "is the pixel size right?" in said.err


def test_a_picture_that_shows_nothing_is_said_and_no_error(hspc_live, tmp_path):
    for name, grey in (("flat", 90), ("black", 0), ("white", 255)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((100, 100), grey, np.uint8))
    said = hspc_live("segment", tmp_path, "--um-per-px", 0.25)
    assert said.code == 0
    assert all(words in said.err for words in ("same grey", "is black", "overexposed"))


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(hspc_live, folder, tmp_path):
    (tmp_path / "file").touch()
    for option in ("--labels", "--overlay"):
        said = hspc_live("segment", folder, "--um-per-px", 0.25, option, tmp_path / "file")
        assert said.code == 4 and "is a file" in said.err and "a.png" not in said.out
    said = hspc_live("segment", folder, "--um-per-px", 0.25, "--labels", "/proc/nowhere")
    assert said.code == 4 and "/proc/nowhere" in said.err


def test_files_of_an_earlier_run_are_replaced_and_others_stay(hspc_live, folder, tmp_path):
    labels = tmp_path / "l"
    labels.mkdir()
    (labels / "a.png").write_text("old")
    (labels / "mine.png").write_text("precious")
    assert hspc_live("segment", folder, "--um-per-px", 0.25, "--labels", labels).code == 0
    assert cv2.imread(str(labels / "a.png"), cv2.IMREAD_UNCHANGED).max() == 5
    assert (labels / "mine.png").read_text() == "precious"


def test_the_table_names_every_image_in_full(hspc_live, folder, tmp_path, monkeypatch):
    """At 80 columns a folder would leave no room for the names, and all lines would look alike."""
    monkeypatch.setenv("COLUMNS", "80")
    said = hspc_live("segment", folder, "--um-per-px", 0.25)
    assert "a.png" in said.out and "b.tif" in said.out and "…" not in said.out


def test_with_a_model_accepted_cells_have_the_colour_of_their_class(hspc_live, folder, tmp_path):
    said = hspc_live(
        "segment", folder / "a.png", "--um-per-px", 0.25, "--classify", "twin-lsm", "--overlay", tmp_path, "--json"
    )
    assert said.code == 0, said.err
    told = {cell["predicted"] for cell in json.loads(said.out)["images"][0]["cells"]}
    picture = cv2.imread(str(tmp_path / "a.png")).astype(int)
    for name, colour in class_colours(("LT-HSC", "ST-HSC", "MPP")).items():
        near = np.abs(picture - 255 * np.array(to_rgb(colour))[::-1]).max(axis=2) < 12
        assert bool(near.sum() > 100) is (name in told), name
