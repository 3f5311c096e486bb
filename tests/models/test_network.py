"""The network takes torchvision's checkpoints, and nothing that could run code."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import safetensors.torch
import torch

from hspc_live.core.errors import ModelError
from hspc_models.network import CellNet, ScoringNet, backbone_names, load_backbone, symmetry


def torchvision_names() -> list[str]:
    """torchvision's parameter names of resnet50 without fc, by its rule."""

    def norm(name: str) -> list[str]:
        return [f"{name}.weight", f"{name}.bias"]

    names = ["conv1.weight", *norm("bn1")]
    for layer, blocks in enumerate((3, 4, 6, 3), 1):
        for block in range(blocks):
            at = f"layer{layer}.{block}"
            for number in (1, 2, 3):
                names += [f"{at}.conv{number}.weight", *norm(f"{at}.bn{number}")]
            if block == 0:
                names += [f"{at}.downsample.0.weight", *norm(f"{at}.downsample.1")]
    return names


def backbone(network: CellNet) -> dict[str, torch.Tensor]:
    return {name: network.state_dict()[name].clone() for name in backbone_names(network)}


@pytest.fixture(scope="module")
def donor() -> CellNet:
    torch.manual_seed(3)
    network = CellNet(3, channels=3)
    for name, tensor in network.state_dict().items():  # running statistics as after training
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.1)
        if name.endswith("bn3.weight"):
            tensor.fill_(0.2)
    return network.eval()


@pytest.fixture(scope="module")
def checkpoint(donor: CellNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "resnet50.pth"
    fc = {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    torch.save(backbone(donor) | fc, path)
    return path


def test_parameters_are_torchvisions(donor):
    ours = [name for name, _ in donor.named_parameters() if not name.startswith("head.")]
    assert ours == torchvision_names()
    assert len(ours) == 159  # 161 with fc
    assert sum(p.numel() for n, p in donor.named_parameters() if not n.startswith("head.")) == 23_508_032


def test_stride_sits_in_the_three_by_three(donor):
    first = donor.get_submodule("layer2.0")
    assert first.conv1.stride == (1, 1) and first.conv2.stride == (2, 2)


def test_a_checkpoint_carries_over_to_a_grey_network(donor, checkpoint):
    grey = CellNet(3, channels=1)
    load_backbone(grey, checkpoint)
    picture = torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(grey.eval().features(picture), donor.features(picture), rtol=1e-3, atol=1e-4)


def test_from_a_url_only_with_its_hash(donor, checkpoint):
    network = CellNet(3, channels=3)
    with pytest.raises(ModelError, match="needs its sha256"):
        load_backbone(network, checkpoint.as_uri())
    with pytest.raises(ModelError, match="expected 000"):
        load_backbone(network, checkpoint.as_uri(), "0" * 64)
    load_backbone(network, checkpoint.as_uri(), hashlib.sha256(checkpoint.read_bytes()).hexdigest())
    assert torch.equal(network.conv1.weight, donor.conv1.weight)


def test_safetensors_and_nested_state_dicts(donor, tmp_path):
    safetensors.torch.save_file(backbone(donor), tmp_path / "a.safetensors")
    torch.save({"state_dict": {f"module.{k}": v for k, v in backbone(donor).items()}}, tmp_path / "b.pth")
    for name in ("a.safetensors", "b.pth"):
        network = CellNet(3, channels=3)
        load_backbone(network, tmp_path / name)
        assert torch.equal(network.get_parameter("layer4.2.conv3.weight"), donor.get_parameter("layer4.2.conv3.weight"))


class Payload:
    """What an attacker would put into a pickle: code that runs while it is read."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('the payload ran')",))


def test_a_pickle_with_code_is_refused(tmp_path):
    torch.save({"conv1.weight": Payload()}, tmp_path / "bad.pth")
    with pytest.raises(ModelError, match=r"bad\.pth: refused.*not opened.*as safetensors") as refused:
        load_backbone(CellNet(3), tmp_path / "bad.pth")
    assert "\x1b" not in str(refused.value)  # torch's own words are coloured, and tell how to open it all the same


@pytest.mark.parametrize("name", ["junk.pth", "junk.safetensors"])
def test_junk_is_no_checkpoint(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x00" * 100)
    with pytest.raises(ModelError, match=name):
        load_backbone(CellNet(3), tmp_path / name)
    with pytest.raises(ModelError, match="cannot read"):
        load_backbone(CellNet(3), tmp_path / ("no" + name))


def test_a_missing_or_misshapen_tensor_is_named(donor, tmp_path):
    state = backbone(donor)
    del state["layer3.5.bn2.running_var"]
    safetensors.torch.save_file(state, tmp_path / "short.safetensors")
    with pytest.raises(ModelError, match=r"layer3\.5\.bn2\.running_var"):
        load_backbone(CellNet(3), tmp_path / "short.safetensors")
    state = backbone(donor) | {"layer1.0.conv2.weight": torch.zeros(1)}
    safetensors.torch.save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(ModelError, match=r"layer1\.0\.conv2\.weight"):
        load_backbone(CellNet(3), tmp_path / "odd.safetensors")


def test_dropout_works_in_training_only(donor):
    features = torch.ones(1, 2048)
    donor.head.train()
    assert not torch.equal(donor.head(features), donor.head(features))
    donor.head.eval()
    assert torch.equal(donor.head(features), donor.head(features))


def test_scores_do_not_depend_on_gain_and_offset(donor):
    scoring = ScoringNet(donor, temperature=1.0).eval()
    crops = torch.randint(60, 120, (3, 64, 64), generator=torch.Generator().manual_seed(0)).float()
    with torch.inference_mode():
        torch.testing.assert_close(scoring(crops), scoring(crops * 7 + 300), rtol=1e-3, atol=1e-4)


def test_temperature_softens(donor):
    crops = torch.randint(0, 255, (4, 64, 64), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        sharp, soft = (ScoringNet(donor, t).eval()(crops) for t in (0.5, 5.0))
    assert (sharp.max(1).values > soft.max(1).values).all()
    assert torch.equal(sharp.argmax(1), soft.argmax(1))


def test_turned_and_mirrored_crops_score_alike_where_positions_are_combined(donor):
    crops = torch.randint(0, 255, (2, 40, 40), generator=torch.Generator().manual_seed(0))
    alone, combined = ScoringNet(donor, 1.0).eval(), ScoringNet(donor, 1.0, symmetries=8).eval()
    with torch.inference_mode():
        for which in range(1, 8):
            torch.testing.assert_close(combined(symmetry(crops, which)), combined(crops), rtol=1e-3, atol=1e-5)
        assert not torch.allclose(alone(symmetry(crops, 5)), alone(crops), rtol=1e-3, atol=1e-5)
