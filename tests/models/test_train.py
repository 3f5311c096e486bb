"""Training really trains, survives a kill, works among processes, and says what it cannot do."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tensorboardX.proto.event_pb2 import Event

from hspc_live.core.errors import ModelError, OutputError
from hspc_models.card import NetworkShape, find_model, load_card, load_network
from hspc_models.checkpoint import CHECKPOINT_FILE, load_checkpoint
from hspc_models.dataset import write_crops
from hspc_models.sources import FiledCrops, open_source
from hspc_models.train import train
from hspc_models.train_settings import FileSource, PaperRecipe, Phase, ScratchRecipe, TrainSettings, load_train_settings
from hspc_models.tutor import fit_reader

RUN = """\
name: stripes
version: "1"
classes: [standing, lying]
crop_px: 32
source: {kind: files, data: crops.h5, holdout: 0.25}
recipe:
  kind: scratch
  phases: [{pixels: 16, epochs: 2}, {pixels: 32, epochs: 1}]
  batch: 4
  mixup: 0.2
augment: {turn: none, scale: 0.1, contrast: 0.1}
keep_every_s: 0
threads: 1
"""


def settings(**changes: object) -> TrainSettings:
    return TrainSettings(
        name="stripes",
        version="1",
        classes=("standing", "lying"),
        crop_px=32,
        source=FileSource(kind="files", data=Path("crops.h5")),
        recipe=ScratchRecipe(kind="scratch", phases=(Phase(pixels=16, epochs=1),), batch=4),
        threads=1,
    ).model_copy(update=changes)


@pytest.fixture(scope="module")
def crops(stripes) -> FiledCrops:
    learnt, judged = (stripes(n, seed).in_order(("standing", "lying")) for n, seed in ((8, 1), (4, 2)))
    return FiledCrops(learnt, judged, "crops.h5")


@pytest.fixture(autouse=True)
def no_checkpoints(tmp_path):
    """400 MB each."""
    yield
    for checkpoint in tmp_path.rglob(CHECKPOINT_FILE):
        checkpoint.unlink()


@pytest.fixture(scope="module")
def config(stripes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_crops(folder / "crops.h5", stripes(16, 1))
    (folder / "run.yaml").write_text(RUN)
    return folder / "run.yaml"


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", "from hspc_live.cli import main; main()", "train", *map(str, arguments)]


def result(*arguments: object) -> dict:
    done = subprocess.run(command(*arguments, "--json"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def wait_for(path: Path, process: subprocess.Popen) -> None:
    while not path.exists():
        assert process.poll() is None, "training ended before it could be killed"
        time.sleep(0.005)


@pytest.mark.timeout(900)  # starts three processes, which take seconds each, or minutes on a busy computer
def test_a_killed_run_ends_with_the_same_weights(config, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    said = result(config, "--out", whole)
    assert said["model_dir"] == str(whole) and said["seconds"] > 0
    assert set(said["validation"]) >= {"balanced_accuracy", "macro_f1"} and said["validation"]["n"] == 4
    process = subprocess.Popen(command(config, "--out", killed), stderr=subprocess.DEVNULL)
    wait_for(killed / CHECKPOINT_FILE, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    again = result(config, "--out", killed)
    assert load_card(whole).weights.sha256 == load_card(killed).weights.sha256
    assert again["validation"] == said["validation"]
    card, network = load_network(killed)
    assert (card.training.epochs, card.training.crops, card.classes) == (3, 36, ("standing", "lying"))
    assert all(bool(torch.isfinite(p).all()) for p in network.parameters())
    lines = [json.loads(line) for line in (killed / "training.jsonl").read_text().splitlines()]
    assert [(line["epoch"], line["pixels"]) for line in lines] == [(1, 16), (2, 16), (3, 32)]
    assert scalars(killed)["train_loss"] == pytest.approx([line["train_loss"] for line in lines])
    assert not (killed / CHECKPOINT_FILE).exists()  # 400 MB that nobody needs any more


def scalars(folder: Path) -> dict[str, list[float]]:
    """What TensorBoard would draw: the last value of each step of each curve."""
    found: dict[str, dict[int, float]] = {}
    for path in sorted(folder.glob("events.*"), key=lambda path: path.stat().st_mtime_ns):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return {tag: [values[step] for step in sorted(values)] for tag, values in found.items()}


@pytest.mark.timeout(900)
def test_two_processes_share_the_work(config, tmp_path):
    out = tmp_path / "shared"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29611"]
    runner = [
        "--no-python",
        *command(config, "--out", out, "--set", "recipe.phases=[{pixels: 16, epochs: 2}]", "--json"),
    ]
    done = subprocess.run(
        [*torchrun, *runner], capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["validation"]["n"] == 4  # one object, from one process
    card, network = load_network(out)
    assert card.training.crops == 24  # every crop once an epoch, whoever had it
    assert all(bool(torch.isfinite(p).all()) for p in network.parameters())


def test_the_papers_recipe_starts_from_a_checkpoint_only(crops, tmp_path):
    with pytest.raises(ModelError, match=r"recipe paper: starts from a pretrained ResNet-50.*--backbone"):
        train(settings(recipe=PaperRecipe(kind="paper", pixels=16)), crops, tmp_path / "out", "test")


def test_the_papers_recipe_accumulates_a_batch_and_moves_convolutions_little(crops, tmp_path):
    recipe = PaperRecipe(kind="paper", backbone="twin-lsm", pixels=16, epochs=1, batch=8, at_once=4)
    out = tmp_path / "out"
    train(settings(recipe=recipe, precision="bfloat16"), crops, out, "test")
    start, trained = load_network(find_model("twin-lsm"))[1], load_network(out)[1]
    moved = (trained.conv1.weight - start.conv1.weight).abs().max().item()
    # one step of Adam moves a weight by its rate; the file holds half precision
    assert 0 < moved < 1e-3
    line = json.loads((out / "training.jsonl").read_text())
    assert (line["learning_rate"], line["crops"]) == (5e-4, 8)


def test_a_folder_with_another_run_is_left_alone(crops, tmp_path):
    out = tmp_path / "out"
    train(settings(), crops, out, "test", epochs=1)
    with pytest.raises(OutputError, match="other settings or other data"):
        train(settings(seed=9), crops, out, "test")
    (out / CHECKPOINT_FILE).unlink()
    with pytest.raises(OutputError, match="training is done"):
        train(settings(), crops, out, "test")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(OutputError, match="not empty"):
        train(settings(), crops, tmp_path, "test")


def test_a_broken_checkpoint_is_named(tmp_path):
    (tmp_path / CHECKPOINT_FILE).write_bytes(b"\x80\x04.")
    with pytest.raises(OutputError, match=rf"{CHECKPOINT_FILE}: cannot read the checkpoint.*delete it"):
        load_checkpoint(tmp_path, torch.nn.Linear(1, 1), {}, torch.optim.SGD([torch.zeros(1)]), "")


def test_training_in_bfloat16_learns_too(crops, tmp_path):
    phases = (Phase(pixels=32, epochs=6),)
    recipe = ScratchRecipe(
        kind="scratch", phases=phases, backbone="twin-lsm", batch=4, average_decay=0, warm_up_steps=0
    )
    train(settings(recipe=recipe, precision="bfloat16", judge_every=6), crops, tmp_path / "out", "test")
    lines = [json.loads(line) for line in (tmp_path / "out" / "training.jsonl").read_text().splitlines()]
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]
    assert "validation_loss" not in lines[0] and "validation_loss" in lines[-1]


def test_the_sources_of_a_file_are_what_the_settings_say(config):
    source = open_source(load_train_settings(config))
    assert "12 crops (standing 6, lying 6); 4 others judge" in source.remarks[0]
    trained = {image.tobytes() for image in source.epoch(0).images}
    assert not trained & {image.tobytes() for image in source.test().images}


def test_the_reader_of_rings_is_fitted_once_kept_and_shipped(crops, tmp_path, monkeypatch):
    """A run that stops and goes on ends with the reader, and the weights, of one that did not."""
    recipe = ScratchRecipe(kind="scratch", phases=(Phase(pixels=32, epochs=2),), batch=4, tutor=0.5)
    rings = settings(recipe=recipe, network=NetworkShape(rings=True))
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    train(rings, crops, whole, "test")
    train(rings, crops, parted, "test", epochs=1)
    train(rings, crops, parted, "test")
    assert load_card(whole).weights.sha256 == load_card(parted).weights.sha256
    card, network = load_network(whole)
    assert card.network.rings and network.reader is not None
    fitted = fit_reader(crops.epoch(0), rings.augment, rings.seed)
    torch.testing.assert_close(network.reader.twins[1][0].weight, fitted.twins[1][0].weight, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(network.reader.middle, fitted.middle, atol=1e-3, rtol=1e-3)
    # once more, as after a kill when all epochs were done: no tutor is fitted that nobody would ask
    before = (whole / "model.safetensors").read_bytes()
    monkeypatch.setattr("hspc_models.train.learn_tutor", None)
    assert train(rings, crops, whole, "test") and (whole / "model.safetensors").read_bytes() == before
