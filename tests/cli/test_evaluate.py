"""`hspc-live evaluate` as a user meets it: numbers, figures, page, and what it says of input it cannot judge."""

from __future__ import annotations

import csv
import hashlib
import json
import pickle
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from hspc_live.cli import main
from hspc_models.calibration_cells import load_cells
from hspc_models.card import load_card
from hspc_models.metrics import softmax

CONFIG = Path(__file__).parents[2] / "configs" / "train" / "jurkat.yaml"
SMALL = (
    *("--set", "recipe.phases=[{pixels: 16, epochs: 1}]", "--set", "recipe.batch=8", "--set", "symmetries=1"),
    *("--set", "threads=1", "--set", "classes=[a, b]", "--set", "crop_px=32"),
)
FIGURES = ("confusion", "rates", "controls", "roc", "reliability", "thresholds", "strangers", "against", "beside")


def stripes(path, n=24, seed=1, **columns):
    rng = np.random.default_rng(seed)
    x = np.arange(32) / rng.uniform(0.9, 1.6, (n, 1)) + rng.uniform(0, 6.3, (n, 1))
    images = np.repeat((1000 + 300 * np.sin(x))[:, None, :], 32, axis=1)
    images[::2] = images[::2].transpose(0, 2, 1)
    images = (images + rng.normal(0, 20, images.shape)).astype(np.uint16)
    np.savez(path, **{"image": images, "label": np.array(["a", "b"])[np.arange(n) % 2]} | columns)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model trained by the real command: one epoch is enough, for it need not be good."""
    folder = tmp_path_factory.mktemp("trained")
    before = sys.argv
    sys.argv = ["hspc-live", "train", str(CONFIG), "--data", str(stripes(folder / "t.npz")), "--out",
                str(folder / "model"), *SMALL]  # fmt: skip
    try:
        main()
    except SystemExit as ended:
        assert not ended.code
    finally:
        sys.argv = before
    return folder / "model"


def test_a_report_has_every_number_figure_and_prediction(model, tmp_path, hspc_live):
    labels = np.array(["a", "b", "a", "b", "a<b>"])[np.arange(25) % 5]
    data = stripes(tmp_path / "d.npz", 25, 2, label=labels, mouse=np.arange(25) % 3)
    other = stripes(tmp_path / "e.npz", 16, 3, mouse=np.arange(16) % 3)
    out = tmp_path / "out"
    told = ("--group-by", "mouse", "--against", model, "--beside", other, "--trained-on", data)
    said = hspc_live("evaluate", model, "--data", data, "--out", out, *told, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["n"] == 20 == np.sum(found["confusion"])
    rates = [row[i] / sum(row) for i, row in enumerate(found["confusion"])]
    assert list(found["consistency_rate"].values()) == pytest.approx(rates)
    assert found["balanced_accuracy"] == pytest.approx(np.mean(rates))
    assert set(found["auc"]) == {"a", "b"} and 0 <= found["macro_f1"] <= 1
    assert found["ece_interval"][0] <= found["ece"] <= found["ece_interval"][1]
    assert found["strangers"]["a<b>"]["n"] == 5  # apart from the cells
    assert found["overlap"]["copies"] == 20 and any("copies" in warning for warning in found["warnings"])
    assert set(found["controls"]["classifiers"]) == {"network", "size only", "background only", "HOG"}
    assert found["against"]["comparison"]["difference"]["value"] == 0 and found["against"]["comparison"]["p"] == 1
    assert set(found["beside"]["consistency_rate"]) == {"a", "b"}
    assert json.loads((out / "metrics.json").read_text())["confusion"] == found["confusion"]
    for name in FIGURES:
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (out / f"{name}.svg").read_text()
    page = (out / "report.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "<b>" not in page and "a&lt;b&gt;" in page
    assert page.count("data:image/svg+xml") == len(FIGURES)
    rows = list(csv.DictReader((out / "predictions.csv").read_text(encoding="utf-8").splitlines()))
    assert [int(row["index"]) for row in rows] == list(range(25))
    for row in rows:
        scores = {name: float(row[f"score:{name}"]) for name in ("a", "b")}
        assert sum(scores.values()) == pytest.approx(1, abs=1e-4) and row["predicted"] == max(scores, key=scores.get)
    again = hspc_live("evaluate", model, "--data", data, "--out", out)
    assert again.code == 4 and "not empty" in again.err


def test_labelled_crops_calibrate_a_model(model, tmp_path, hspc_live):
    """What was judged lies beside the card, strangers too, each mouse a group, the crops of a cell its looks."""
    own = shutil.copytree(model, tmp_path / "own")
    cell = np.arange(60) // 2
    columns = {"label": np.array(["a", "b", "odd"])[cell % 3], "mouse": cell % 5}
    data = stripes(tmp_path / "d.npz", 60, 2, **columns)
    um_per_px = load_card(own).um_per_px
    told = ("--data", data, "--out", tmp_path / "out", "--calibrate", "--group-by", "mouse", "--um-per-px", um_per_px)
    said = hspc_live("evaluate", own, *told, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    kept = found["calibrated"]
    assert any("Name its training crops with --trained-on" in warning for warning in found["warnings"])
    card = load_card(own)
    assert kept["calibration"]["counts"] == [20, 20, 20] and kept["calibration"]["kinds"] == ["a", "b", "odd"]
    assert card.calibration.groups == 5 and card.calibration.taken == "crops" and card.strangers.calibrated_on == 40
    assert "not compared with what the model learnt from; 5 groups" in card.calibration.data
    cells = load_cells(own, card)
    rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").read_text(encoding="utf-8").splitlines()))
    scores = softmax(cells.logits, card.temperature)
    for row, own_scores, kind in zip(rows, scores, cells.kind, strict=True):
        assert float(row["score:a"]) == pytest.approx(own_scores[0], abs=1e-4) and row["label"] == cells.kinds[kind]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ((), 2, "the scale of .* is not known; give it with --um-per-px"),
        (("--um-per-px", "3.5"), 2, "crops of another microscope cannot calibrate it"),
        (("--um-per-px", "OWN", "--classes", "a"), 2, "--calibrate: judge all crops, without --classes"),
        (
            ("--um-per-px", "OWN", "--trained-on", "d.npz"),
            2,
            "24 of 24 cells are copies of crops that the model learnt",
        ),
    ],
)
def test_crops_that_no_promise_can_rest_on_are_refused(model, tmp_path, hspc_live, monkeypatch, options, code, words):
    monkeypatch.chdir(tmp_path)
    own = shutil.copytree(model, tmp_path / "own")
    before = (own / "card.yaml").read_bytes()
    stripes(tmp_path / "d.npz")
    options = tuple(str(load_card(own).um_per_px) if one == "OWN" else one for one in options)
    said = hspc_live("evaluate", own, "--data", "d.npz", "--out", "out", "--calibrate", *options)
    assert said.code == code and re.search(words, said.err.replace("\n", " ")), said.err
    assert (own / "card.yaml").read_bytes() == before and not (own / "calibration.safetensors").exists()


def test_a_calibration_of_one_mouse_says_so_beside_every_promise(model, tmp_path, hspc_live):
    own = shutil.copytree(model, tmp_path / "own")
    data = stripes(tmp_path / "d.npz", 24, 2, mouse=np.full(24, 7))
    told = ("--out", tmp_path / "out", "--calibrate", "--group-by", "mouse", "--um-per-px", load_card(own).um_per_px)
    said = hspc_live("evaluate", own, "--data", data, *told)
    assert said.code == 0, said.err
    assert "learnt from; one group, or none was told)" in load_card(own).calibration.data


def test_a_shipped_model_is_not_calibrated_in_its_place(tmp_path, hspc_live):
    image = np.random.default_rng(1).integers(0, 255, (6, 64, 64)).astype(np.uint8)
    np.savez(tmp_path / "d.npz", image=image, label=np.array(["LT-HSC", "ST-HSC", "MPP"] * 2))
    told = ("--data", tmp_path / "d.npz", "--out", tmp_path / "out", "--calibrate", "--um-per-px", 0.25)
    said = hspc_live("evaluate", "twin-lsm", *told)
    assert said.code == 2 and "copy" in said.err, said.err


def test_one_crop_of_one_class_is_judged_and_nothing_is_claimed(model, tmp_path, hspc_live):
    data = stripes(tmp_path / "d.npz", 1)
    said = hspc_live("evaluate", model, "--data", data, "--out", tmp_path / "out", "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["n"] == 1 and found["auc"] == {"a": None} and found["missing_classes"] == ["b"]
    low, high = found["intervals"]["consistency_rate"]["a"]
    assert high - low > 0.7 and "why" in found["controls"]
    assert any("no cells of b" in warning for warning in found["warnings"])


def test_classes_mixed_up_with_their_background_are_warned_of(model, tmp_path, hspc_live):
    path = stripes(tmp_path / "d.npz", 40, 4)
    images = np.load(path)["image"].copy()
    images[::2] += 900  # class a was filmed at another light
    data = stripes(tmp_path / "e.npz", 40, 4, image=images)
    said = hspc_live("evaluate", model, "--data", data, "--classes", "a,b", "--out", tmp_path / "out")
    assert said.code == 0, said.err
    assert "MIXED UP" in said.err and "balanced accuracy" in said.out


@pytest.mark.parametrize(
    ("columns", "options", "code", "words"),
    [
        ({"label": np.array(["G1"] * 24)}, (), 3, r"d\.npz: no crop is of a class of model .*it has G1"),
        ({"label": np.arange(24) % 2}, (), 3, "--names"),
        ({"image": np.full((24, 32, 32), np.nan)}, (), 3, r"d\.npz.*NaN"),
        ({"image": np.ones((24, 12, 12), np.uint16)}, (), 3, r"d\.npz: crops are 12 × 12 px"),
        ({}, ("--classes", "a,c"), 2, "has no class c; it has a, b"),
        ({}, ("--classes", "a,"), 2, "--classes a,: write every class once"),
        ({}, ("--group-by", "mouse"), 2, r"d\.npz: no array called mouse"),
        ({}, ("--against", "twin-lsm"), 5, "twin-lsm has the classes LT-HSC, ST-HSC, MPP"),
        ({}, ("--data", "text.h5"), 3, r"text\.h5: no crops in it"),
        ({}, ("--beside", "none.npz"), 3, r"none\.npz cannot be opened"),
    ],
)
def test_bad_input_names_the_file_and_the_mend(model, tmp_path, hspc_live, monkeypatch, columns, options, code, words):
    monkeypatch.chdir(tmp_path)
    Path("text.h5").write_text("hello")
    stripes(tmp_path / "d.npz", **columns)
    said = hspc_live("evaluate", model, "--data", "d.npz", "--out", "out", *options)
    assert said.code == code, said.err
    assert "Traceback" not in said.err and re.search(words, said.err), said.err
    assert not Path("out").exists()


@pytest.mark.parametrize(("rehash", "words"), [(False, "SHA-256"), (True, "not a safetensors file")])
def test_weights_that_are_a_pickle_are_never_opened(model, tmp_path, hspc_live, rehash, words):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    data = pickle.dumps({"head.0.weight": 1})
    (folder / "model.safetensors").write_bytes(data)
    if rehash:
        card = re.sub(r"sha256: \w+", f"sha256: {hashlib.sha256(data).hexdigest()}", (folder / "card.yaml").read_text())
        (folder / "card.yaml").write_text(card)
    said = hspc_live("evaluate", folder, "--data", stripes(tmp_path / "d.npz"), "--out", tmp_path / "out")
    assert said.code == 5 and "model.safetensors" in said.err and words in said.err and "Traceback" not in said.err
