"""`dataset make` and `dataset inspect` as a user types them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from hspc_models.dataset import read_crops


def archive(path, n=60, size=40, **columns):
    rng = np.random.default_rng(size)
    np.savez(
        path,
        **{
            "image": rng.integers(0, 4000, (n, size, size)).astype(np.uint16),
            "label": np.array(["G1", "S", "µ"])[np.arange(n) % 3],
            "mouse": np.arange(n) % 5,
        }
        | columns,
    )
    return path


def test_an_archive_becomes_a_file_that_training_reads(hspc_live, tmp_path):
    out = tmp_path / "crops.h5"
    said = hspc_live("dataset", "make", archive(tmp_path / "a.npz"), "--group-by", "mouse", "--out", out, "--json")
    found = json.loads(said.out)
    assert said.code == 0 and found["classes"] == {"G1": 20, "S": 20, "µ": 20} and len(found["groups"]) == 5
    assert found["um_per_px"] is None
    crops = read_crops(out)
    assert len(crops) == 60 and crops.group_names == ("0", "1", "2", "3", "4") and not crops.scaled
    again = hspc_live("dataset", "make", tmp_path / "a.npz", "--out", out)
    assert again.code == 4 and "nothing is ever overwritten" in again.err


def test_several_sources_brought_to_one_geometry(hspc_live, tmp_path):
    (tmp_path / "set" / "MPP").mkdir(parents=True)
    for number in range(3):
        picture = np.random.default_rng(number).integers(0, 65535, (80, 80)).astype(np.uint16)
        cv2.imwrite(str(tmp_path / "set" / "MPP" / f"{number}.png"), picture)
    archive(tmp_path / "a.npz", size=80)
    sources = [f"LT-HSC={tmp_path / 'b.npz'}", tmp_path / "set"]
    np.savez(tmp_path / "b.npz", image=np.load(tmp_path / "a.npz")["image"])
    told = ["--um-per-px", "0.2", "--crop-px", "64", "--crop-um-per-px", "0.25"]
    said = hspc_live("dataset", "make", *sources, *told, "--out", tmp_path / "c.h5", "--json")
    found = json.loads(said.out)
    assert said.code == 0 and found["classes"] == {"LT-HSC": 60, "MPP": 3}
    assert (found["crop_px"], found["um_per_px"]) == (64, 0.25)
    assert any("resampled" in note for note in found["notes"])
    assert hspc_live("dataset", "make", *sources, "--crop-px", "64", "--out", tmp_path / "d.h5").code == 2


def test_inspect_shows_what_is_in_a_file(hspc_live, tmp_path):
    path = archive(tmp_path / "a.npz", fluorescence_GFP=np.arange(60.0))
    said = hspc_live(
        "dataset", "inspect", path, "--group-by", "mouse", "--um-per-px", "0.3", "--threshold", "GFP=30",
        "--expect", "S=GFP", "--out", tmp_path / "seen", "--json",
    )  # fmt: skip
    found = json.loads(said.out)
    assert said.code == 0 and found["expected_signal"]["n"] == 20 and found["expected_signal"]["share"] == 0.5
    assert sorted(p.name for p in (tmp_path / "seen").iterdir()) == [
        "contact_sheet.png", "contact_sheet.svg", "metrics.json", "report.html", "signal.png", "signal.svg",
    ]  # fmt: skip
    page = (tmp_path / "seen" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image") == 2 and "http" not in page.replace("http://www.w3.org", "") and "50.0 %" in page
    assert json.loads((tmp_path / "seen" / "metrics.json").read_text())["classes"] == found["classes"]
    picture = cv2.imread(str(tmp_path / "seen" / "contact_sheet.png"))
    assert picture.shape[1] > 1000 and picture.std() > 20
    words = (tmp_path / "seen" / "contact_sheet.svg").read_text(encoding="utf-8")
    assert "<!-- 5 µm " in words and "<!-- n = 20 -->" in words
    person = hspc_live("dataset", "inspect", path)
    assert person.code == 0 and "60 crops" in person.out and "only one group" in person.err


@pytest.mark.parametrize(
    ("columns", "options", "code", "words"),
    [
        ({"label": np.arange(60)}, [], 3, ["bad.npz", "numbers", "--names"]),
        ({"label": np.arange(60) % 2}, ["--names", "0=G1,0=S"], 2, ["--names"]),
        ({"image": np.full((60, 40, 40), np.nan)}, [], 3, ["bad.npz", "NaN"]),
        ({}, ["--group-by", "cage"], 2, ["bad.npz", "cage", "mouse"]),
        ({}, ["--threshold", "GFP=x"], 2, ["--threshold"]),
        ({}, ["--expect", "GFP"], 2, ["CLASS=CHANNEL"]),
    ],
)
def test_bad_input_is_refused_with_its_mend(hspc_live, tmp_path, columns, options, code, words):
    said = hspc_live("dataset", "inspect", archive(tmp_path / "bad.npz", **columns), *options, "--json")
    assert said.code == code
    assert all(word in said.err for word in words) and "Traceback" not in said.err


def test_numbers_with_names_and_one_crop_only(hspc_live, tmp_path):
    path = archive(tmp_path / "a.npz", n=1, label=np.array([1]))
    said = hspc_live("dataset", "inspect", path, "--names", "1=S", "--out", tmp_path / "seen", "--json")
    assert said.code == 0 and json.loads(said.out)["classes"] == {"S": 1}


def test_the_real_crops_are_read_and_their_confounding_named(hspc_live, tmp_path):
    folder = os.environ.get("HSPC_REAL_DATA")
    if folder is None:
        pytest.skip("HSPC_REAL_DATA is not set")
    path = Path(folder) / "crops" / "jurkat_phases.npz"
    said = hspc_live("dataset", "make", path, "--group-by", "source", "--out", tmp_path / "j.h5", "--json")
    found = json.loads(said.out)
    assert found["classes"] == {"G1": 625, "G2": 634, "Prophase": 405, "S_phase": 632}
    assert found["duplicates"]["different_pictures"] == 2296
    assert any("come from one group only" in warning for warning in found["warnings"])
