"""Training files: the shipped ones load, and a mistake in one is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hspc_live.core.errors import SettingsError
from hspc_models.network import CellNet
from hspc_models.recipes import make_optimizer, rate_factor, set_rates
from hspc_models.train_settings import FileSource, PaperRecipe, Phase, ScratchRecipe, load_train_settings

CONFIGS = Path(__file__).parents[2] / "configs" / "train"
RUN = """\
name: x
version: 1.0
classes: [a, b]
source: {kind: twin, crop: 3}
recipe: {kind: scratch, phases: [{epochs: 1}]}
"""


def test_shipped_training_files_load():
    shipped = sorted(CONFIGS.glob("*.yaml"))
    assert {path.stem for path in shipped} >= {"lsm", "ya", "mpp", "jurkat"}
    for path in shipped:
        assert load_train_settings(path).epochs >= 1


def test_a_mistake_in_a_training_file_names_file_and_key(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(RUN)
    with pytest.raises(SettingsError, match=r"(?s)run\.yaml:2: version.*run\.yaml:4: source\.crop"):
        load_train_settings(path)
    with pytest.raises(SettingsError, match=r"none\.yaml: there is no such"):
        load_train_settings(tmp_path / "none.yaml")
    with pytest.raises(SettingsError, match=r"command line: recipe\.rate: unknown key"):
        load_train_settings(CONFIGS / "lsm.yaml", ["recipe.rate=3"])


def test_real_crops_take_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = load_train_settings(CONFIGS / "jurkat.yaml").source
    assert isinstance(shipped, FileSource) and shipped.data.is_absolute() and ".." not in shipped.data.parts
    given = load_train_settings(CONFIGS / "lsm.yaml", ["source.kind=files", "source.data=mine.h5"]).source
    assert isinstance(given, FileSource) and given.data == Path("mine.h5")  # as typed: of the current folder


def test_the_paper_is_taken_to_the_letter():
    recipe = load_train_settings(CONFIGS / "lsm.yaml", ["recipe.kind=paper"]).recipe
    assert isinstance(recipe, PaperRecipe)
    assert (recipe.batch, recipe.epochs, recipe.weight_decay) == (512, 20, 0.05)
    optimizer = make_optimizer(CellNet(3), recipe)
    assert type(optimizer) is torch.optim.Adam  # whose weight decay is coupled
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([5e-6, 5e-4])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05, 0.05]
    set_rates(optimizer, rate_factor(recipe, 20, 19.9, 0))
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([5e-6, 5e-4])


def test_the_rate_warms_up_and_falls_to_nothing():
    recipe = ScratchRecipe(kind="scratch", phases=(Phase(epochs=2),), warm_up_steps=10)
    assert rate_factor(recipe, 2, 0.0, 0) == pytest.approx(1 / 11)
    assert rate_factor(recipe, 2, 1.0, 500) == pytest.approx(0.5)
    assert rate_factor(recipe, 2, 2.0, 1000) == pytest.approx(0.0)
