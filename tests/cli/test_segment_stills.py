"""segment: what a person or a script gets for a folder of pictures, good and bad."""

from __future__ import annotations

import errno
import json
import os

import cv2
import numpy as np
import pytest
import tifffile
from matplotlib.colors import to_rgb

from hspc_live.cli import still_files
from hspc_live.core.values import Modality
from hspc_live.recording.images import read_image
from hspc_live.report import style
from hspc_live.report.style import class_colours, new_figure, save
from hspc_live.settings.schema import TorchEager
from hspc_live.settings.segment import SegmentSettings
from hspc_live.stages.field import FieldSegmenter
from hspc_models.card import find_model, load_card
from hspc_models.open_engine import open_engine

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


@pytest.mark.parametrize("scale", ["nan", "0", "-1", "inf", "1e9"])
def test_a_pixel_size_that_is_none(hspc_live, folder, scale):
    said = hspc_live("segment", folder, "--um-per-px", scale, "--json")
    assert said.code == 2 and f"--um-per-px {float(scale):g}" in said.err and "0.001 to 100" in said.err
    assert json.loads(said.out)["exit_code"] == 2


def test_the_json_has_its_images_however_few_could_be_done(hspc_live, folder, tmp_path):
    (folder / "c.png").write_text("no picture")
    for paths in ([folder / "c.png"], [folder / "c.png", tmp_path / "missing.tif"], [tmp_path]):
        said = hspc_live("segment", *paths, "--um-per-px", 0.25, "--json")
        told = json.loads(said.out)
        assert said.code == 3 == told["exit_code"] and told["images"] == []
        assert [failed["file"] for failed in told["failed"]] == [str(path) for path in paths]
        assert all(failed["file"] in failed["error"] for failed in told["failed"])


def test_whole_numbers_in_floating_point_are_the_same_picture_and_that_is_said(hspc_live, folder, tmp_path):
    counts = tifffile.imread(folder / "b.tif")
    inside = tmp_path / "other types"
    inside.mkdir()
    for kind in ("float32", "float64", "int32", "uint32", "uint16"):
        tifffile.imwrite(inside / f"{kind}.tif", counts.astype(kind))
    said = hspc_live("segment", inside, "--um-per-px", 0.25, "--json", "--labels", tmp_path / "l")
    assert said.code == 0
    cells = [image["cells"] for image in json.loads(said.out)["images"]]
    assert all(found == cells[-1] for found in cells) and len(cells[-1]) == 2
    assert "float32.tif: float32 with whole numbers alone, read as 16 bits" in said.err and "uint16.tif" not in said.err


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


def both(folder, tmp_path, *more):
    return "segment", folder, "--um-per-px", 0.25, "--labels", tmp_path / "l", "--overlay", tmp_path / "o", *more


def test_run_again_the_new_results_are_there_and_no_old_one_is_left_for_a_file_that_now_fails(
    hspc_live, folder, tmp_path
):
    assert hspc_live(*both(folder, tmp_path)).code == 0
    old = (tmp_path / "o" / "a.png").read_bytes()
    (folder / "b.tif").write_text("now broken")
    assert hspc_live(*both(folder, tmp_path, "--max-um", 9)).code == 10
    for kind in ("l", "o"):
        assert [path.name for path in (tmp_path / kind).iterdir()] == ["a.png"]
    assert (tmp_path / "o" / "a.png").read_bytes() != old
    assert cv2.imread(str(tmp_path / "l" / "a.png"), cv2.IMREAD_UNCHANGED).max() == 5
    (folder / "a.png").write_text("broken, too")
    assert hspc_live(*both(folder / "a.png", tmp_path)).code == 3
    assert not [*(tmp_path / "l").iterdir(), *(tmp_path / "o").iterdir()]


def test_what_no_earlier_run_wrote_is_never_overwritten(hspc_live, folder, tmp_path):
    """Outlines drawn by hand, an overlay where a label image would go, a text: refused before anything is done."""
    hand = cv2.imencode(".png", np.zeros((9, 9), np.uint16))[1].tobytes()
    assert hspc_live(*both(folder, tmp_path)).code == 0
    overlay = (tmp_path / "o" / "b.png").read_bytes()
    for place, data in (("l", hand), ("l", b"old"), ("l", overlay), ("o", hand)):
        mine = tmp_path / place / "b.png"
        kept = mine.read_bytes()
        mine.write_bytes(data)
        (tmp_path / place / "others.png").write_bytes(hand)
        said = hspc_live(*both(folder, tmp_path))
        assert said.code == 4 and str(mine) in said.err and "nothing is overwritten" in said.err
        assert mine.read_bytes() == data and (tmp_path / "l" / "a.png").exists()
        mine.write_bytes(kept)
    assert hspc_live(*both(folder, tmp_path)).code == 0
    assert (tmp_path / "l" / "others.png").read_bytes() == hand


def test_label_images_and_overlays_beside_the_pictures_are_no_pictures(hspc_live, folder, tmp_path):
    """Run again on the folder that holds both, the same cells come out; a label image that is named is refused."""
    (folder / "a.png").unlink()
    again = ("segment", folder, "--um-per-px", 0.25, "--labels", folder, "--json")
    first = json.loads(hspc_live(*again).out)["images"]
    assert hspc_live("segment", folder / "b.tif", "--um-per-px", 0.25, "--overlay", tmp_path / "o").code == 0
    (tmp_path / "o" / "b.png").rename(folder / "overlay.png")
    for command in (again, (*again[:4], "--json")):
        said = hspc_live(*command)
        assert said.code == 0, said.err
        found = json.loads(said.out)["images"]
        assert [(image["file"], image["cells"]) for image in found] == [(str(folder / "b.tif"), first[0]["cells"])]
        assert all(f"{folder / name}: left out" in said.err for name in ("b.png", "overlay.png"))
    said = hspc_live("segment", folder / "b.tif", folder / "b.png", *again[2:])
    assert said.code == 10 and "give the picture itself" in said.err
    assert [entry["file"] for entry in json.loads(said.out)["failed"]] == [str(folder / "b.png")]
    assert cv2.imread(str(folder / "b.png"), cv2.IMREAD_UNCHANGED).max() == 2
    (folder / "b.tif").unlink()
    assert hspc_live(*again).code == 3, "nothing but results in it"


@pytest.mark.parametrize("option", ["--labels", "--overlay"])
def test_what_is_done_is_told_when_a_file_can_no_longer_be_written(hspc_live, folder, tmp_path, monkeypatch, option):
    """As where the disk fills up in the middle: half a file is removed, and the cells of the others are not lost."""
    (folder / "b.tif").rename(folder / "0.tif")
    cv2.imwrite(str(folder / "c.png"), field(CELLS[:3]))
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    signed, saved = still_files.png.signed, style.save

    def no_room_for_five_cells(data, software):
        if cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).max() == 5:
            raise full
        return signed(data, software)

    def no_room_for_a(figure, path, software):
        saved(figure, path, software)
        if path.name == "a.png":
            path.write_bytes(path.read_bytes()[:1000])
            raise full

    if option == "--labels":
        monkeypatch.setattr(still_files.png, "signed", no_room_for_five_cells)
    else:
        monkeypatch.setattr(style, "save", no_room_for_a)
    out = tmp_path / "out"
    said = hspc_live("segment", folder, "--um-per-px", 0.25, option, out, "--json")
    assert said.code == 10 and str(out / "a.png") in said.err
    told = json.loads(said.out)
    assert [len(image["cells"]) for image in told["images"]] == [2, 3]
    [failed] = told["failed"]
    assert failed["file"] == str(folder / "a.png") and "No space left" in failed["error"]
    assert sorted(path.name for path in out.iterdir()) == ["0.png", "c.png"]
    said = hspc_live("segment", folder / "a.png", "--um-per-px", 0.25, option, out, "--json")
    assert said.code == 4 and json.loads(said.out)["images"] == []


def test_a_figure_of_another_command_is_no_overlay_of_an_earlier_run(hspc_live, folder, tmp_path):
    (tmp_path / "o").mkdir()
    figure = save(new_figure(2.0), tmp_path / "o" / "a.png").read_bytes()
    said = hspc_live("segment", folder, "--um-per-px", 0.25, "--overlay", tmp_path / "o")
    assert said.code == 4 and "nothing is overwritten" in said.err
    assert (tmp_path / "o" / "a.png").read_bytes() == figure


def test_whether_a_folder_can_be_written_is_tried_without_touching_what_lies_there(hspc_live, folder, tmp_path):
    (tmp_path / "l").mkdir()
    (tmp_path / "l" / ".writable").write_text("mine")
    assert hspc_live(*both(folder, tmp_path)).code == 0
    assert (tmp_path / "l" / ".writable").read_text() == "mine"
    assert {p.name for p in (tmp_path / "l").iterdir()} == {".writable", "a.png", "b.png"}


def test_a_link_that_leads_nowhere_or_round_is_named_and_the_others_are_done(hspc_live, folder, tmp_path):
    (folder / "c.png").symlink_to(folder / "moved away.png")
    (folder / "d.png").symlink_to(folder / "d.png")
    said = hspc_live(*both(folder, tmp_path, "--json"))
    assert said.code == 10
    told = json.loads(said.out)
    assert len(told["images"]) == 2
    assert [entry["file"] for entry in told["failed"]] == [str(folder / "c.png"), str(folder / "d.png")]


@pytest.mark.parametrize("names", [("a.png", "a.tif"), ("a.png", "A.tiff")])
def test_two_pictures_of_one_stem_do_not_share_a_label_image(hspc_live, tmp_path, names):
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / names[1], field())
    cv2.imwrite(str(tmp_path / "in" / names[0]), field(CELLS[:2]))
    said = hspc_live(*both(tmp_path / "in", tmp_path))
    assert said.code == 4 and all(name in said.err for name in names)
    assert not (tmp_path / "l").exists()
    assert hspc_live("segment", tmp_path / "in", "--um-per-px", 0.25).code == 0, "no label images, no clash"


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


def test_the_scores_of_each_cell_are_those_of_its_own_crop(hspc_live, folder, tmp_path):
    """Crops of the same segmentation, put through the model one at a time, whatever batches the command makes."""
    cells = [*CELLS[:4], (250, 300, 34)]  # the last is too large, and has no scores
    cv2.imwrite(str(folder / "a.png"), field(cells))
    said = hspc_live(
        "segment", folder / "a.png", "--um-per-px", 0.25, "--max-um", 14, "--classify", "twin-lsm", "--json"
    )
    assert said.code == 0, said.err
    told = json.loads(said.out)["images"][0]["cells"]
    card, engine = load_card(find_model("twin-lsm")), open_engine(TorchEager(model="twin-lsm"))
    table = hspc_live("segment", folder / "a.png", "--um-per-px", 0.25, "--max-um", 14, "--classify", "twin-lsm").out
    for name in {cell["predicted"] for cell in told if cell["accepted"]}:
        assert f"{name} {sum(cell.get('predicted') == name for cell in told)}" in table  # what a person sees of it
    settings = SegmentSettings(max_diameter_um=14.0)
    result = FieldSegmenter(settings, 0.25, Modality.DIC, card.geometry).field(read_image(folder / "a.png").pixels)
    crops = iter(result.frame.crops)
    rows = result.frame.objects[result.whole]
    assert len(told) == len(rows) == 5 and len(result.frame.crops) == 4
    for cell, row in zip(told, rows, strict=True):
        assert (cell["x_px"], cell["y_px"]) == pytest.approx((row["x_um"] / 0.25, row["y_um"] / 0.25), abs=0.01)
        if not cell["accepted"]:
            assert "scores" not in cell and "predicted" not in cell
            continue
        [scores] = engine.infer(next(crops)[np.newaxis])
        assert tuple(cell["scores"]) == card.classes
        assert list(cell["scores"].values()) == pytest.approx(scores.tolist(), abs=2e-4)
        assert cell["predicted"] == card.classes[int(scores.argmax())]
    said = [cell["scores"]["MPP"] for cell in told if cell["accepted"]]
    assert max(said) - min(said) > 0.01, "a wrong order would be seen"
