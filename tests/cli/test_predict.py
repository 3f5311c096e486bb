"""`predict` and `explain` as a user types them, with a small model of random weights."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch

from hspc_live.core.crop import CropGeometry
from hspc_live.core.values import Modality
from hspc_live.settings.twin import TwinFlowSettings
from hspc_live.twin.samples import sample_crops
from hspc_models.card import Card, NetworkShape, Training, Validation, Weights, write_card
from hspc_models.dataset import LabelledCrops, write_crops
from hspc_models.fitting import fitted
from hspc_models.network import CellNet, pictures

CLASSES = ("ST-HSC", "LT-HSC", "µ <b>")


def weigh(folder: Path, data: bytes) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(data)
    card = Card(
        name="small",
        version="1",
        classes=CLASSES,
        modality=Modality.DIC,
        um_per_px=0.5,
        crop_px=32,
        network=NetworkShape(channels=1, head=(8,)),
        weights=Weights(sha256=hashlib.sha256(data).hexdigest(), dtype="float32"),
        training=Training(data="none", seed=1, crops=0, epochs=0, command="none"),
        validation=Validation(
            data="d",
            balanced_accuracy=0.8,
            consistency={},
            confusion=((40, 5, 5), (5, 40, 5), (5, 5, 40)),
            expected_calibration_error=0.0,
        ),
    )
    write_card(folder, card)


@pytest.fixture(scope="module")
def seen():
    return sample_crops(TwinFlowSettings(seed=4), 48, 4)


@pytest.fixture(scope="module")
def model(seen, tmp_path_factory):
    """Random weights, the last layer stretched so that it calls the cells by all three names."""
    cells = LabelledCrops(seen.crops, seen.labels, seen.kinds, seen.cells, 0.25, "twin")
    small, _ = fitted(cells, CropGeometry(32, 0.5))
    torch.manual_seed(2)
    network = CellNet(3, head=(8,)).eval()
    with torch.no_grad():
        found = network(pictures(small.images))
        scale = 2 / found.std(dim=0)
        network.head[-1].weight.mul_(scale[:, None])
        network.head[-1].bias.sub_(found.mean(dim=0)).mul_(scale)
    folder = tmp_path_factory.mktemp("model")
    weigh(folder, safetensors.torch.save(network.state_dict()))
    return folder


@pytest.fixture(scope="module")
def mixed(seen, tmp_path_factory):
    """Cells that nobody has labelled, with a glow; of the last nothing was measured."""
    glow = np.random.default_rng(1).lognormal(4, 0.8, 48).astype(np.float32)
    glow[-1] = np.nan
    path = tmp_path_factory.mktemp("data") / "mixed.h5"
    crops = LabelledCrops(
        seen.crops, np.full(48, -1), (), np.arange(48) % 4, 0.25, "mixed",
        group_names=("m1", "m2", "m3", "m4"), fluorescence={"Evi1 GFP": glow},
    )  # fmt: skip
    write_crops(path, crops)
    return path


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def checked_report(out, found):
    """The folder holds what the JSON says, figures as PNG and SVG, and a page that fetches nothing."""
    named = {Path(file).name for file in found["files"]}
    assert named == {path.name for path in out.iterdir()} >= {"metrics.json", "report.html"}
    pictures = sorted(out.glob("*.png"))
    assert {path.stem for path in pictures} == {path.stem for path in out.glob("*.svg")}
    for path in pictures:
        assert cv2.imread(str(path)).std() > 3
    html = (out / "report.html").read_text(encoding="utf-8")
    assert "<b>" not in html and "http" not in html and html.count("data:image/png") == len(pictures)


def test_a_mixed_population(hspc_live, tmp_path, model, mixed):
    out = tmp_path / "out"
    said = hspc_live("predict", model, "--data", mixed, "--out", out, "--top", "10", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    rows = rows_of(out / "predictions.csv")
    assert list(rows[0])[:5] == ["index", "predicted", *(f"score:{name}" for name in CLASSES)]
    assert [row["index"] for row in rows] == [str(n) for n in range(48)]
    for row in rows:
        scores = [float(row[f"score:{name}"]) for name in CLASSES]
        assert sum(scores) == pytest.approx(1, abs=1e-4) and row["predicted"] == CLASSES[int(np.argmax(scores))]
    for name in CLASSES:
        assert found["shares"][name] == pytest.approx(sum(row["predicted"] == name for row in rows) / 48)
    assert sum(found["shares"].values()) == pytest.approx(1) and max(found["shares"].values()) < 0.9
    assert sum(one["value"] for one in found["corrected_shares"].values()) == pytest.approx(1)
    assert [step["threshold"] for step in found["thresholds"]] == [0.34, 0.5, 0.7, 0.9]
    assert {row["group"] for row in rows} == {"m1", "m2", "m3", "m4"} and rows[-1]["fluorescence:Evi1 GFP"] == ""
    glow = found["fluorescence"]["Evi1 GFP"]
    assert (glow["measured"], glow["unmeasured"], glow["top"]["n"]) == (47, 1, 5)
    best = rows_of(out / "top_10_percent_Evi1_GFP.csv")
    light = sorted((float(row["fluorescence:Evi1 GFP"]) for row in rows[:-1]), reverse=True)
    assert [float(row["fluorescence:Evi1 GFP"]) for row in best] == light[:5]
    assert all(rows[int(row["index"])]["predicted"] == row["predicted"] for row in best)
    brightest = rows[int(best[0]["index"])]["predicted"]
    assert glow["all_one_class"][0]["class"] == brightest
    checked_report(out, found)
    assert hspc_live("predict", model, "--data", mixed, "--out", out).code == 4


def test_a_declared_population_and_thresholds_of_ones_own(hspc_live, tmp_path, model, mixed):
    plain, told = (
        json.loads(hspc_live("predict", model, "--data", mixed, "--out", tmp_path / name, "--json", *more).out)
        for name, *more in (
            ("a", "--threshold", "0.4"),
            ("b", "--threshold", "0.4", "--prevalence", "LT-HSC=0,ST-HSC=0.5"),
        )
    )
    assert plain["declared_shares"] is None and told["declared_shares"]["µ <b>"] == pytest.approx(0.5)
    assert told["shares"]["LT-HSC"] == 0 and [step["threshold"] for step in told["thresholds"]] == [0.4]
    assert told["corrected_shares"] == plain["corrected_shares"]
    wrong = hspc_live("predict", model, "--data", mixed, "--out", tmp_path / "c", "--prevalence", "LT=1")
    assert wrong.code == 2 and "CLASS=SHARE" in wrong.err and not (tmp_path / "c").exists()


def test_other_sizes_and_no_light(hspc_live, tmp_path, model, seen):
    np.savez(tmp_path / "plain.npz", image=seen.crops[:9])
    said = hspc_live("predict", model, "--data", tmp_path / "plain.npz", "--out", tmp_path / "o", "--json")
    assert said.code == 0 and json.loads(said.out)["fluorescence"] == {}
    assert "cut to the middle" in said.err and "scale of the crops is unknown" in said.err
    np.savez(tmp_path / "small.npz", image=seen.crops[:9, 20:36, 20:36])
    small = hspc_live("predict", model, "--data", tmp_path / "small.npz", "--out", tmp_path / "p")
    assert small.code == 3 and "small.npz" in small.err and "cut them larger" in small.err


def test_input_that_cannot_be_judged(hspc_live, tmp_path, model, seen):
    holes = seen.crops[:4].astype(float)
    holes[2, 5, 5] = np.nan
    np.savez(tmp_path / "nan.npz", image=holes)
    np.savez(tmp_path / "none.npz", image=seen.crops[:0])
    np.savez(tmp_path / "good.npz", image=seen.crops[:4])
    for data, code, words in (("nan", 3, "NaN"), ("none", 3, "no crops"), ("absent", 3, "check the path")):
        for command in ("predict", "explain"):
            said = hspc_live(command, model, "--data", tmp_path / f"{data}.npz", "--out", tmp_path / "out")
            assert said.code == code and words in said.err and f"{data}.npz" in said.err
    buffer = tmp_path / "pickle"
    torch.save({"a": torch.zeros(2)}, buffer)
    weigh(tmp_path / "bad", buffer.read_bytes())
    for folder in (tmp_path / "bad", tmp_path / "nowhere"):
        said = hspc_live("predict", folder, "--data", tmp_path / "good.npz", "--out", tmp_path / "out")
        assert said.code == 5 and str(folder) in said.err


def test_what_the_network_looks_at(hspc_live, tmp_path, model, seen):
    names = ("ST-HSC", "other", "LT-HSC")
    path = tmp_path / "cells.h5"
    write_crops(path, LabelledCrops(seen.crops, np.arange(48) % 3, names, np.arange(48), 0.25, "cells"))
    out = tmp_path / "out"
    told = ["--per-class", "2", "--layer", "layer1", "--plane-cells", "30", "--json"]
    said = hspc_live("explain", model, "--data", path, "--out", out, *told)
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert list(found["inside_outline_fraction"]) == list(CLASSES)
    assert found["inside_outline_fraction"]["µ <b>"] is None and found["attention"]["µ <b>"]["n"] == 0
    assert found["cells_by"] == "true class" and "knows no other" in said.err and "Score-CAM of 4 crops" in said.err
    for name, label in (("ST-HSC", 0), ("LT-HSC", 2)):
        one = found["attention"][name]
        assert one["n"] + one["no_outline"] + one["no_map"] == 2
        assert all(row % 3 == label for row in found["rows"][name])
        assert 0 <= one["inside"]["value"] <= 1 and 0 < one["even_attention"] < one["sharpest_possible"] <= 1
    assert set(found["pca"]) == {"raw_pixels", "features", "n", "chance"}
    assert found["pca"]["chance"] == 0.5  # of three classes two have cells
    checked_report(out, found)


def test_one_unlabelled_crop_is_explained(hspc_live, tmp_path, model, seen):
    np.savez(tmp_path / "one.npz", image=seen.crops[:1])
    said = hspc_live(
        "explain", model, "--data", tmp_path / "one.npz", "--um-per-px", "0.25", "--layer", "layer1",
        "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["cells_by"] == "predicted class" and "resampled" in said.err
    assert sum(one["n"] + one["no_outline"] for one in found["attention"].values()) == 1
    checked_report(tmp_path / "out", found)
