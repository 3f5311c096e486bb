"""The card decides what is loaded, and refuses what does not fit."""

from __future__ import annotations

import shutil

import pytest
import safetensors.torch
import torch
import yaml

from hspc_live.core.errors import ModelError
from hspc_live.core.values import Modality
from hspc_live.settings.devices import RigSettings
from hspc_models.card import CellConfusion, check_fits, find_model, load_card, load_network, write_card


@pytest.fixture
def folder(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "model")


def test_half_precision_on_disk_float32_in_memory(model_folder):
    card, network = load_network(model_folder)
    assert card.classes == ("LT-HSC", "ST-HSC", "MPP")
    assert network.conv1.weight.dtype == torch.float32 and not network.training
    stored = safetensors.torch.load_file(model_folder / "model.safetensors")["conv1.weight"]
    assert stored.dtype == torch.float16 and torch.equal(network.conv1.weight, stored.float())


def test_changed_weights_are_refused_before_they_are_opened(folder):
    weights = folder / "model.safetensors"
    expected = load_card(folder).weights.sha256
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    for load in (load_card, load_network):
        with pytest.raises(ModelError, match=rf"model\.safetensors.*SHA-256 is [0-9a-f]{{64}}, .*{expected}"):
            load(folder)


def edit(folder, **changes):
    path = folder / "card.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clases": []}, "clases"),
        ({"classes": ["A", "A"]}, "classes must differ"),
        ({"um_per_px": "wide"}, "um_per_px"),
        ({"weights": {"sha256": "0" * 64, "file": "../other"}}, "beside the card"),
        ({"weights": {"sha256": "0" * 64, "file": "gone.safetensors"}}, "gone.safetensors"),
        ({"network": {"channels": 1, "head": [64]}}, r"head\.0"),
        ({"network": {"channels": 1, "head": [32, 32]}}, "head"),
    ],
)
def test_a_card_with_a_mistake_says_where(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(ModelError, match=message):
        load_network(folder)


def test_a_card_that_is_no_yaml(folder):
    (folder / "card.yaml").write_text("a: [")
    with pytest.raises(ModelError, match="not YAML"):
        load_card(folder)


def test_models_are_found_by_folder_and_by_name(folder):
    assert find_model(folder) == folder
    with pytest.raises(ModelError, match=r"no model 'nonesuch'"):
        find_model("nonesuch")


def test_what_of_a_rig_does_not_fit(model_folder):
    card = load_card(model_folder)
    assert check_fits(card, RigSettings(), 0.25) == []
    assert check_fits(card, RigSettings(shear_axis_deg=405.0 - 3), 0.26) == []
    wrong = RigSettings(modality=Modality.BRIGHTFIELD, shear_axis_deg=225.0, objective="60x/1.4")
    found = " | ".join(check_fits(card, wrong, 0.5))
    for word in ("modality", "shear axis", "scale", "objective"):
        assert word in found
    assert "unknown" in check_fits(card, RigSettings(shear_axis_deg=None), 0.25)[0]


def test_tables_of_cells_must_fit_the_classes(model_folder, tmp_path):
    card = load_card(model_folder)
    with pytest.raises(ValueError, match="one table a threshold"):
        CellConfusion(data="x", thresholds=(0.5,), kinds=("a",), counts=())
    three = CellConfusion(data="x", thresholds=(0.5,), kinds=("LT-HSC", "dead"), counts=(((1, 2, 3), (0, 0, 1)),))
    write_card(tmp_path, card.model_copy(update={"cell_confusion": three}))
    with pytest.raises(ModelError, match="column a class"):
        load_card(tmp_path)
