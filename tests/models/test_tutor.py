"""The tutor learns from few crops, doubts labels that looks contradict, and judges none that it has learnt from."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import safetensors.torch
import torch

from hspc_live.core.errors import RecordingError
from hspc_live.core.values import Modality
from hspc_models.augment import AugmentSettings
from hspc_models.card import Card, NetworkShape, Training, Weights, write_card
from hspc_models.network import CellNet, pictures, symmetry
from hspc_models.peers import NETWORK, RADIAL, RESNET, held_out_predictions
from hspc_models.sources import FiledCrops
from hspc_models.train_settings import FileSource, Phase, ScratchRecipe, TrainSettings
from hspc_models.tutor import fit_reader, learn_tutor, radial_predictions

CHANGES = AugmentSettings()


def test_it_tells_sizes_apart_and_leaves_the_random_state_alone(discs):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    found = radial_predictions(discs(40, 1), discs(20, 2), CHANGES, seed=1)
    assert (found == discs(20, 2).labels).all()
    assert torch.rand(1) == expected


def test_a_label_that_the_looks_contradict_is_doubted(discs):
    crops = discs(60, 1)
    crops.labels[:3] = 1 - crops.labels[:3]
    scores = learn_tutor(crops, CHANGES, seed=1).scores(crops.images, np.arange(60))
    assert scores.shape == (60, 2) and scores.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    own = scores[np.arange(60), crops.labels]
    assert own[:3].max() < 0.3 and np.median(own[3:]) > 0.7


def test_it_judges_the_picture_that_is_shown_by_who_has_not_seen_its_crop(discs):
    crops = discs(60, 1)
    tutor = learn_tutor(crops, CHANGES, seed=1)
    rows = np.array([7, 2, 7])
    # large discs in place of the crops: what counts is what is shown, in whatever order the rows come
    scores = tutor.scores(discs(60, 3).images[[1, 3, 5]], rows)
    assert scores[:, 1].min() > 0.7
    again = tutor.scores(discs(60, 3).images[[5]], rows[2:])
    np.testing.assert_allclose(again[0], scores[2], atol=1e-5)
    # with the machines of all other folds taken away, rows of one fold are still scored
    mine = np.flatnonzero(tutor.fold == 2)
    alone = [tutor.readers[2] if number == 2 else None for number in range(len(tutor.readers))]
    left = type(tutor)((*alone,), tutor.fold, 2)
    np.testing.assert_array_equal(left.scores(crops.images[mine], mine), tutor.scores(crops.images[mine], mine))


def test_the_same_seed_gives_the_same_tutor(discs):
    crops = discs(30, 4)
    one, two = (learn_tutor(crops, CHANGES, seed=3).scores(crops.images, np.arange(30)) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_a_class_of_one_crop_cannot_be_parted(discs):
    crops = discs(3, 1)
    with pytest.raises(RecordingError):
        learn_tutor(crops, CHANGES, seed=1)


def test_copies_of_a_picture_are_scored_by_who_has_seen_none_of_them(discs):
    """Five crops of the rarer class, but three pictures: fewer folds then, and no refusal."""
    crops = discs(20, 1)
    crops = crops.take(np.concatenate((np.flatnonzero(crops.labels == 0), np.flatnonzero(crops.labels == 1)[:5])))
    crops.images[[11, 13]] = crops.images[[10, 12]]
    tutor = learn_tutor(crops, CHANGES, seed=1)
    assert len(tutor.readers) == 3 and set(tutor.fold.tolist()) == {0, 1, 2}
    assert tutor.fold[10] == tutor.fold[11] and tutor.fold[12] == tutor.fold[13]
    crops.images[[11, 12, 13, 14]] = crops.images[10]
    with pytest.raises(RecordingError, match=r"large has 1 crop \(copies and views of one cell count once\)"):
        learn_tutor(crops, CHANGES, seed=1)


def test_a_network_that_carries_a_reader_sees_what_its_own_layers_do_not(discs):
    """Random layers tell nothing; the reader beside them does, whichever way the crop lies and in half precision."""
    torch.manual_seed(3)
    network = CellNet(2, head=(16,), rings_px=40)
    torch.nn.init.zeros_(network.head[-1].weight)  # its own answer: nothing
    network.reader.load_state_dict(
        {name: tensor.half() for name, tensor in fit_reader(discs(40, 1), CHANGES, 1).state_dict().items()}
    )
    crops = discs(20, 2)
    whole = pictures(crops.images)
    with torch.inference_mode():
        found = network.eval()(whole).argmax(dim=1).numpy()
        turned = network(symmetry(whole, 5).contiguous())
        alone = network(whole[:1])
        assert (found == crops.labels).all()
        torch.testing.assert_close(turned, network(whole), atol=1e-2, rtol=1e-2)
        torch.testing.assert_close(alone, network(whole)[:1], atol=1e-3, rtol=1e-3)
        # training is of the layers alone: the reader, which has seen these crops, would leave them nothing to learn
        learning = network.train()(whole)
    torch.testing.assert_close(learning, learning[:1].expand(20, 2))  # of whatever crop
    assert not any(parameter.requires_grad for parameter in network.reader.parameters())
    assert all(p.requires_grad for n, p in network.named_parameters() if not n.startswith("reader."))


def test_what_a_networks_own_layers_say_is_told_beside(discs, tmp_path):
    """The reader knows discs; layers with random weights do not, and are no echo of it."""
    network = CellNet(2, head=(16,), rings_px=40)
    network.reader.load_state_dict(fit_reader(discs(40, 1), CHANGES, 1).state_dict())
    torch.nn.init.zeros_(network.head[-1].weight)
    data = safetensors.torch.save(network.state_dict())
    (tmp_path / "model.safetensors").write_bytes(data)
    card = Card(
        name="x",
        version="1",
        classes=("small", "large"),
        modality=Modality.BRIGHTFIELD,
        um_per_px=0.5,
        crop_px=40,
        network=NetworkShape(head=(16,), rings=True),
        weights=Weights(sha256=hashlib.sha256(data).hexdigest(), dtype="float32"),
        training=Training(data="none", seed=1, crops=0, epochs=0, command="none"),
    )
    write_card(tmp_path, card)
    judged = discs(20, 2)
    settings = TrainSettings(
        name="x",
        version="1",
        classes=("small", "large"),
        crop_px=40,
        source=FileSource(kind="files", data=tmp_path),
        recipe=ScratchRecipe(kind="scratch", phases=(Phase(pixels=40, epochs=1),)),
    )
    found = held_out_predictions(tmp_path, FiledCrops(discs(40, 1), judged, "discs"), settings)
    assert (found[NETWORK] == judged.labels).all() and (found[RADIAL] == judged.labels).all()
    assert len(set(found[RESNET].tolist())) == 1


def test_what_it_is_shown_changed_it_does_not_trust(discs):
    """The finest grain alone tells these classes; shown crops of every focus and noise it is less sure of that."""
    crops, soft = discs(80, 1), discs(40, 2)
    rng = np.random.default_rng(5)
    for one in (crops, soft):
        disc = discs(2, 9).images[0].astype(np.float64)
        fine = rng.normal(0, 1, one.images.shape) * np.where(one.labels == 0, 8, 14)[:, None, None]
        one.images[:] = (disc[None] * 0.4 + 800 + fine).astype(np.uint16)
    plain = AugmentSettings(noise=0, slope=0)
    shown = AugmentSettings(noise=0.4, slope=0, focus=1.0)
    whole = pictures(soft.images)[:, 0]
    sure, doubting = (fit_reader(crops, settings, 1)(whole).softmax(1).amax(1).mean() for settings in (plain, shown))
    assert doubting < sure - 0.05
