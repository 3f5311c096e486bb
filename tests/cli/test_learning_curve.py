"""`hspc-live learning-curve` as a user types it: numbers, figure, page; a kill; and what it says of bad input."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

CONFIG = Path(__file__).parents[2] / "configs" / "train" / "jurkat.yaml"
SMALL = (
    *("--set", "recipe.phases=[{pixels: 16, epochs: 2}]", "--set", "recipe.batch=8", "--set", "symmetries=1"),
    *("--set", "threads=1", "--set", "classes=[a, b]", "--set", "crop_px=32", "--set", "curve.epochs=1"),
)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)
    n = 40
    x = np.arange(32) / rng.uniform(0.9, 1.6, (n, 1)) + rng.uniform(0, 6.3, (n, 1))
    images = np.repeat((1000 + 300 * np.sin(x))[:, None, :], 32, axis=1)  # stripes, lying in every second crop
    images[::2] = images[::2].transpose(0, 2, 1)
    images = (images + rng.normal(0, 20, images.shape)).astype(np.uint16)
    path = tmp_path_factory.mktemp("data") / "crops.npz"
    np.savez(path, image=images, label=np.array(["a", "b"])[np.arange(n) % 2], mouse=np.arange(n) % 5)
    return path


def test_peers_leave_numbers_a_figure_and_a_page(crops, tmp_path, hspc_live):
    out = tmp_path / "out"
    told = ("--set", "curve.network=false", "--set", "curve.fractions=[0.3,0.5,0.75,1]", "--set", "curve.repeats=2")
    by_mouse = ("--set", "source.group_by=mouse", "--set", "source.by=group")
    command = ("learning-curve", CONFIG, "--data", crops, "--out", out, *SMALL, *told, *by_mouse)
    said = hspc_live(*command, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert (found["n_train"], found["n_judged"]) == (32, 8)  # one mouse of five judges, and that is said
    assert any("one group only judges" in remark for remark in found["remarks"])
    for one in found["classifiers"].values():
        assert len(one["points"]) == 4 and one["fit"]["at_twice"]["crops"] == 2 * found["n_train"]
        low, value, high = (one["fit"]["at_twice"][key] for key in ("low", "value", "high"))
        assert low <= value <= high
    assert json.loads((out / "metrics.json").read_text())["classifiers"] == found["classifiers"]
    assert cv2.imread(str(out / "learning_curve.png")).std() > 3 and "<svg" in (out / "learning_curve.svg").read_text()
    page = (out / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(?!data:)", page) and page.count("data:image/svg+xml") == 1
    again = hspc_live(*command)  # what is done is not done again
    assert again.code == 0 and "foretold" in again.out and "1 of 8" not in again.err


@pytest.mark.timeout(900)
def test_a_killed_curve_ends_with_the_same_figures(crops, tmp_path, hspc_live):
    told = ("--set", "curve.fractions=[0.5,1]", "--set", "curve.repeats=1", "--set", "curve.peers=false")
    arguments = ["learning-curve", CONFIG, "--data", crops, *SMALL, *told, "--set", "keep_every_s=0"]
    killed = tmp_path / "killed"
    program = [sys.executable, "-c", "from hspc_live.cli import main; main()"]
    process = subprocess.Popen([*program, *map(str, arguments), "--out", str(killed)], stderr=subprocess.DEVNULL)
    second = killed / "trainings" / "repeat-1" / "fraction-1" / "training"
    while not second.exists():
        assert process.poll() is None, "the curve ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = hspc_live(*arguments, "--out", killed, "--json")
    whole = hspc_live(*arguments, "--out", tmp_path / "whole", "--json")
    assert again.code == whole.code == 0, again.err + whole.err
    assert "1 of 2" not in again.err and "2 of 2" in again.err  # the first was kept
    assert json.loads(again.out)["classifiers"] == json.loads(whole.out)["classifiers"]
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        (("--set", "classes=[a, c]"), 3, r"crops\.npz.*no crops of c; it has a, b"),
        (("--data", "nothing.npz"), 3, r"nothing\.npz"),
        (("--set", "curve.fractions=[0.5,0.2]"), 2, "fractions must rise"),
        (("--set", "curve.fractions=[0.5,1.5]"), 2, "curve.fractions"),
        (
            ("--set", "curve.fractions=[0.01,1]", "--set", "curve.draw=groups", "--set", "source.group_by=cage"),
            2,
            "cage",
        ),
        (("--set", "curve.draw=groups"), 2, "come in 1 group; name a column"),
        (("--recipe", "paper"), 2, "No such option"),
        (("--budget", "0"), 2, "--budget"),
        (("--backbone", "pickle.safetensors"), 5, r"pickle\.safetensors: not a safetensors file"),
    ],
)
def test_bad_input_names_the_file_and_the_mend(crops, tmp_path, hspc_live, monkeypatch, changes, code, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pickle.safetensors").write_bytes(b"\x80\x04\x95cos\nsystem\n")
    said = hspc_live("learning-curve", CONFIG, "--data", crops, "--out", "out", *SMALL, *changes)
    assert said.code == code, said.err
    assert "Traceback" not in said.err and re.search(words, said.err), said.err
