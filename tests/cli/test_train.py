"""`hspc-live train` as a user meets it: what it prints, and what it says of input that it cannot learn from."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from hspc_live.core.errors import OutputError, SettingsError
from hspc_models.ablation import own_variant, variants
from hspc_models.card import load_card
from hspc_models.evaluate import evaluate
from hspc_models.train_settings import load_train_settings

CONFIG = Path(__file__).parents[2] / "configs" / "train" / "jurkat.yaml"
PHASES = ("--set", "recipe.phases=[{pixels: 16, epochs: 1}]")
REST = (
    *("--set", "recipe.batch=8", "--set", "symmetries=1", "--set", "threads=1"),
    *("--set", "classes=[a, b]", "--set", "crop_px=32"),
)
SMALL = (*PHASES, *REST)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)
    labels = np.array(["a", "b"])[np.arange(16) % 2]
    x = np.arange(32) / rng.uniform(0.9, 1.6, (16, 1)) + rng.uniform(0, 6.3, (16, 1))
    images = np.repeat((1000 + 300 * np.sin(x))[:, None, :], 32, axis=1)  # stripes, lying in every second crop
    images[::2] = images[::2].transpose(0, 2, 1)
    images = (images + rng.normal(0, 20, images.shape)).astype(np.uint16)
    path = tmp_path_factory.mktemp("data") / "crops.npz"
    np.savez(path, image=images, label=labels)
    return path


def report_in(folder: Path, *figures: str) -> None:
    """The folder holds these figures as PNG and SVG, metrics, and a page that has them and fetches nothing."""
    for name in figures:
        assert cv2.imread(str(folder / f"{name}.png")).std() > 3
        assert "<svg" in (folder / f"{name}.svg").read_text(encoding="utf-8")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/svg+xml") == len(figures) and not re.search(r"(src|href)=\"(?!data:)", page)
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


@pytest.mark.timeout(900)  # two trainings, which take seconds each, or minutes on a busy computer
def test_cross_validation_judges_network_and_hog_on_every_crop(crops, tmp_path, hspc_live):
    said = hspc_live("train", CONFIG, "--data", crops, "--out", tmp_path / "out", "--folds", 2, *SMALL, "--json")
    assert said.code == 0, said.err
    result = json.loads(said.out)
    assert set(result) >= {"model_dir", "seconds", "validation", "folds", "ceiling"}
    assert result["validation"]["n"] == 16 and len(result["folds"]) == 2
    assert result["validation"]["hog_balanced_accuracy"] > 0.8  # stripes are easy for it
    assert 0 <= result["validation"]["balanced_accuracy"] <= result["ceiling"]["believed"] <= 1
    report_in(tmp_path / "out", "folds", "confusion")
    assert len(json.loads((tmp_path / "out" / "metrics.json").read_text())["folds"]) == 2
    again = hspc_live("train", CONFIG, "--data", crops, "--out", tmp_path / "out", "--folds", 2, *SMALL)
    assert again.code == 0 and "each fold" in again.out  # what is done is not done again
    assert not list(tmp_path.rglob("checkpoint*"))
    assert result["model_dir"] is None  # none of them ships
    assert [load_card(Path(one)).training.crops for one in result["model_dirs"]] == [8, 8]
    # folds trained otherwise are not pooled with these
    changed = ("--set", "recipe.weight_decay=0.1")
    other = hspc_live("train", CONFIG, "--data", crops, "--out", tmp_path / "out", "--folds", 2, *SMALL, *changed)
    assert other.code == 4 and "predictions.npz: belongs to other settings or other crops" in other.err


def test_what_ships_learns_from_all_crops_and_says_whose_figures_it_carries(crops, tmp_path, hspc_live):
    out = tmp_path / "out"
    said = hspc_live("train", CONFIG, "--data", crops, "--out", out, "--set", "source.holdout=0.25", *SMALL, "--json")
    assert said.code == 0, said.err
    result = json.loads(said.out)
    assert result["model_dir"] == str(out) and result["learnt_from"] == {"judged": 12, "shipped": 16}
    assert result["validation"]["n"] == 4 and "was judged on none" in result["validation"]["data"]
    assert 0 <= result["validation"]["balanced_accuracy"] <= result["ceiling"]["believed"] <= 1
    assert {"radial_balanced_accuracy", "resnet_balanced_accuracy"} <= set(result["validation"])
    shipped, judged = load_card(out), load_card(out / "held-out")
    assert shipped.weights.sha256 != judged.weights.sha256 and shipped.temperature == judged.temperature
    assert "16 crops" in shipped.training.data and "12 crops" in judged.training.data
    assert shipped.validation.confusion == judged.validation.confusion
    lines = [json.loads(line) for line in (out / "training.jsonl").read_text().splitlines()]
    assert all("validation_balanced_accuracy" not in line for line in lines)  # of crops it has learnt from
    assert not list(out.rglob("checkpoint*"))
    again = ("train", CONFIG, "--data", crops, "--out", out, "--set", "source.holdout=0.25", *SMALL, "--json")
    told = hspc_live(*again)
    assert told.code != 0 and "training is done" in told.err
    # a kill between the end of the training and its page: the same command writes it, and trains nothing
    weights = (out / "model.safetensors").read_bytes()
    (out / "report.html").unlink()
    other = hspc_live(*again, "--set", "recipe.weight_decay=0.1")
    assert other.code == 4 and "other settings or other data" in other.err and not (out / "report.html").exists()
    told = hspc_live(*again)
    assert told.code == 0 and "epoch 1" not in told.err, told.err
    assert {**json.loads(told.out), "seconds": 0} == {**result, "seconds": 0}
    report_in(out, "training", "confusion")
    assert (out / "model.safetensors").read_bytes() == weights


@pytest.mark.timeout(900)
def test_an_ablation_shows_both(crops, tmp_path, hspc_live):
    said = hspc_live("train", CONFIG, "--data", crops, "--out", tmp_path / "out", "--ablation", *SMALL, "--json")
    assert said.code == 0, said.err
    result = json.loads(said.out)
    assert set(result["ablation"]) == {"as_taken", "turned"}
    assert "ends with crops averaged down to 16 × 16 pixels, and the model will be shown 32 × 32" in said.err
    assert result["validation"] == result["ablation"]["turned"]  # brightfield has no direction
    assert (tmp_path / "out" / "as_taken" / "card.yaml").exists()
    paired = result["comparison"]
    gap = paired["difference"]
    scores = [result["ablation"][name]["balanced_accuracy"] for name in ("as_taken", "turned")]
    assert paired["n"] == result["validation"]["n"] == 4 and "McNemar" in paired["test"]
    assert gap["value"] == pytest.approx(scores[1] - scores[0]) and gap["low"] <= gap["value"] <= gap["high"]
    report_in(tmp_path / "out", "ablation")
    report_in(tmp_path / "out" / "turned", "training", "confusion")
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())["figures"]
    assert set(figures["as_taken"]) == {"as_taken", "half_a_turn"}
    again = hspc_live("train", CONFIG, "--data", crops, "--out", tmp_path / "out", "--ablation", *SMALL)
    assert again.code == 0 and "turned minus as taken" in again.out  # what is done is not done again
    (tmp_path / "out" / "turned" / "report.html").unlink()  # as a kill leaves it
    again = hspc_live("train", CONFIG, "--data", crops, "--out", tmp_path / "out", "--ablation", *SMALL)
    assert again.code == 0 and "epoch 1" not in again.err
    report_in(tmp_path / "out" / "turned", "training", "confusion")
    # other cells would judge, some that the models of the folder learnt from; or the two would differ in more
    for changed in ("seed=5", "recipe.weight_decay=0.1"):
        other = hspc_live(
            "train", CONFIG, "--data", crops, "--out", tmp_path / "out", "--ablation", *SMALL, "--set", changed
        )
        assert other.code == 4 and "as_taken: holds a model of other settings or other data" in other.err


@pytest.mark.timeout(900)
def test_a_model_of_all_crops_has_the_figures_of_the_one_that_was_judged(crops, tmp_path, hspc_live, monkeypatch):
    out = tmp_path / "out"
    run = ("train", CONFIG, "--out", out, *SMALL, "--set", "source.refit=true", "--json")

    def killed(_: object) -> None:
        raise OutputError("the power failed")

    with monkeypatch.context() as power:
        power.setattr("hspc_models.sources.open_whole", killed)
        assert "the power failed" in hspc_live(*run, "--data", crops).err
    other = tmp_path / crops.name
    found = dict(np.load(crops))
    np.savez(other, image=found["image"][:, ::-1], label=found["label"])
    said = hspc_live(*run, "--data", other)  # of the same name and number, so that only the pixels tell
    assert said.code != 0 and "other settings or other data" in said.err
    said = hspc_live(*run, "--data", crops)
    assert said.code == 0, said.err
    assert "to be judged, " not in said.err  # that model was trained before the power failed
    result = json.loads(said.out)
    assert result["learnt_from"] == {"judged": 12, "shipped": 16} and result["validation"]["n"] == 4
    shipped, judged = load_card(out), load_card(out / "held-out")
    assert shipped.weights.sha256 != judged.weights.sha256 and shipped.training.crops == 16
    assert shipped.validation.confusion == judged.validation.confusion
    assert "this one learnt from all 16 and was judged on none" in shipped.validation.data
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "model in held-out judged on 4 crops" in page and "finished model" not in page
    assert not list(tmp_path.rglob("checkpoint*"))
    with pytest.raises(SettingsError, match="those that would judge it among them"):
        evaluate(out, load_train_settings(CONFIG, [*SMALL[1::2], *_of(crops)]))


def _of(crops: Path) -> list[str]:
    return ["source.kind=files", f"source.data={crops}", "source.refit=true"]


def test_the_shipped_dic_config_has_both_variants_and_one_position():
    settings = load_train_settings(CONFIG.with_name("lsm.yaml"), ["symmetries=4"])
    found = variants(settings)
    assert own_variant(settings) == "as_taken"  # the twin's shear does not turn
    assert [(one.augment.turn, one.augment.flip) for one in found.values()] == [("none", False), ("any", True)]
    assert {one.symmetries for one in found.values()} == {1}
    alike = {one.model_copy(update={"augment": settings.augment}).model_dump_json() for one in found.values()}
    assert len(alike) == 1


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        (("--set", "classes=[a, c]"), 3, r"crops.npz.*no crops of c; it has a, b"),
        (("--data", "nothing.npz"), 3, "nothing.npz"),
        (("--set", "crop_px=64", "--set", "recipe.phases=[{pixels: 64, epochs: 1}]"), 3, "shows 50% of the"),
        (("--backbone", "pickle.safetensors"), 5, "pickle.safetensors: not a safetensors file"),
        (("--recipe", "paper", "--set", "recipe.pixels=32"), 5, "--backbone FILE"),
        (("--folds", "9"), 3, "crops.npz.*folds|crops.npz.*8 crops"),
    ],
)
def test_bad_input_names_the_file_and_the_mend(crops, tmp_path, hspc_live, monkeypatch, changes, code, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pickle.safetensors").write_bytes(b"\x80\x04\x95cos\nsystem\n")
    small = [] if "paper" in changes else PHASES
    said = hspc_live("train", CONFIG, "--data", crops, "--out", "out", *REST, *small, *changes)
    assert said.code == code, said.err
    assert "Traceback" not in said.err
    assert re.search(words, said.err), said.err
    assert "(crops.npz)" not in said.err  # its path is said, and once is enough


def test_pixels_that_are_no_numbers_are_refused(tmp_path, hspc_live):
    images = np.full((8, 32, 32), 100.0)
    images[3, 4, 4] = np.nan
    np.savez(tmp_path / "crops.npz", image=images, label=np.array(["a", "b"] * 4))
    said = hspc_live("train", CONFIG, "--data", tmp_path / "crops.npz", "--out", tmp_path / "out", *SMALL)
    assert said.code == 3 and "crops.npz" in said.err and "Traceback" not in said.err
