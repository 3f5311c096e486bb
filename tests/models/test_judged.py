"""What is judged, in whose class order, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hspc_live.core.errors import ModelError, RecordingError, SettingsError
from hspc_live.core.values import Modality
from hspc_models.card import Card, Training, Weights
from hspc_models.dataset import LabelledCrops
from hspc_models.judged import choose, judged, overlap, strangers_judged
from hspc_models.side_by_side import class_order, two_data_sets, two_models

CLASSES = ("LT-HSC", "ST-HSC", "MPP")


def card(classes=CLASSES, name="m"):
    return Card(
        name=name,
        version="1",
        classes=classes,
        modality=Modality.DIC,
        um_per_px=0.25,
        crop_px=32,
        weights=Weights(sha256="0" * 64),
        training=Training(data="none", seed=1, crops=0, epochs=0, command="none"),
    )


def crops(labels, names, groups=None, seed=0):
    labels = np.asarray(labels, np.int64)
    images = np.random.default_rng(seed).integers(0, 255, (len(labels), 32, 32)).astype(np.uint8)
    groups = np.zeros(len(labels), np.int64) if groups is None else np.asarray(groups, np.int64)
    return LabelledCrops(images, labels, tuple(names), groups, 0.25, "file.npz")


def sure_of(columns, classes=3, by=3.0):
    raw = np.zeros((len(columns), classes))
    raw[np.arange(len(columns)), columns] = by
    return raw


@settings(max_examples=15, deadline=None)
@given(st.permutations(CLASSES), st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_the_order_of_classes_is_the_cards_whatever_the_files(order, cells):
    """`cells`: (true column, predicted column) in the card's order."""
    truth, said = (np.array(column) for column in zip(*cells, strict=True))
    chosen = choose(crops([order.index(CLASSES[t]) for t in truth], order), card())
    metrics = judged(card(), chosen, sure_of(said))
    assert metrics["n"] == len(cells) == np.sum(metrics["confusion"])
    assert metrics["confusion_rows"] == [name for name in CLASSES if name in CLASSES[truth.min() : truth.max() + 1]
                                         and CLASSES.index(name) in truth]  # fmt: skip
    for name, row in zip(metrics["confusion_rows"], metrics["confusion"], strict=True):
        column = CLASSES.index(name)
        assert row == [int(((truth == column) & (said == c)).sum()) for c in range(3)]
        assert metrics["consistency_rate"][name] == pytest.approx(row[column] / sum(row))
        low, high = metrics["intervals"]["consistency_rate"][name]
        assert low <= metrics["consistency_rate"][name] <= high
    assert metrics["balanced_accuracy"] == pytest.approx(np.mean(list(metrics["consistency_rate"].values())))


def test_strangers_and_unlabelled_crops_do_not_count_as_cells_of_a_class():
    data = crops([0, 1, 2, 3, 3, -1], ("LT-HSC", "MPP", "ST-HSC", "dead"))
    chosen = choose(data, card())
    assert len(chosen.cells) == 3 and chosen.left_out == {"no class": 1}
    assert chosen.stranger_rows.tolist() == [3, 4] and not chosen.missing
    found = strangers_judged(card(), chosen.strangers, sure_of([0, 2], by=1.0))["dead"]
    assert found["n"] == 2 and found["taken_for"] == {"LT-HSC": 1, "ST-HSC": 0, "MPP": 1}
    assert [one["rate"] for one in found["abstained"]] == [0.0, 0.0, 1.0, 1.0]  # the best score is 0.576


def test_a_missing_class_is_named_and_a_restricted_evaluation_keeps_the_scores():
    data = crops([0, 1] * 10, ("LT-HSC", "MPP"))
    chosen = choose(data, card())
    assert chosen.missing == ("ST-HSC",) and chosen.present == ("LT-HSC", "MPP")
    only = choose(data, card(), ["MPP"])
    assert len(only.cells) == 10 and only.left_out == {"LT-HSC": 10}
    metrics = judged(card(), only, sure_of([1] * 4 + [2] * 6))
    assert metrics["confusion"] == [[0, 4, 6]] and metrics["consistency_rate"] == {"MPP": 0.6}
    assert np.isnan(metrics["auc"]["MPP"]) and "MPP only" in metrics["verdict"]["words"]


@pytest.mark.parametrize(
    ("names", "only", "error", "words"),
    [
        (("G1", "S"), None, RecordingError, "file.npz: no crop is of a class of model m .* it has G1, S"),
        (("LT-HSC", "MPP"), ["LT-HSC", "B"], SettingsError, "has no class B; it has LT-HSC, ST-HSC, MPP"),
        (("LT-HSC", "MPP"), ["LT-HSC", "ST-HSC"], RecordingError, "no crops of ST-HSC; it has LT-HSC, MPP"),
    ],
)
def test_classes_that_do_not_fit_are_named(names, only, error, words):
    with pytest.raises(error, match=words):
        choose(crops([0, 1], names), card(), only)


def test_intervals_are_taken_over_groups_where_there_are_some():
    truth = np.arange(200) % 2
    groups = np.repeat(np.arange(5), 40)
    said = np.where(groups < 2, 1 - truth, truth)  # all wrong in two of five groups
    single = judged(card(), choose(crops(truth, ("LT-HSC", "MPP")), card()), sure_of(said * 2))
    grouped = judged(card(), choose(crops(truth, ("LT-HSC", "MPP"), groups), card()), sure_of(said * 2))
    assert single["balanced_accuracy"] == grouped["balanced_accuracy"] == pytest.approx(0.6)
    wide, narrow = (m["intervals"]["balanced_accuracy"] for m in (grouped, single))
    assert wide[1] - wide[0] > 2 * (narrow[1] - narrow[0])
    assert (grouped["units"], single["units"]) == ({"are": "groups", "n": 5}, {"are": "cells", "n": 200})


def test_copies_of_training_crops_are_counted_also_when_turned():
    data = crops([0, 1, 2] * 4, CLASSES)
    training = crops([0, 1, 2] * 4, CLASSES, seed=1)
    training.images[:3] = np.rot90(data.images[:3], axes=(1, 2))
    training.images[3] = data.images[7]
    assert overlap(choose(data, card()), training, card())["copies"] == 4


def test_two_models_are_compared_in_the_first_ones_class_order():
    first, second = card(), card(("MPP", "LT-HSC", "ST-HSC"), "other")
    assert class_order(first, second) == [1, 2, 0]
    chosen = choose(crops([0, 1, 2] * 5, CLASSES), first)
    right = chosen.cells.labels
    same = two_models(first, second, chosen, sure_of(right), sure_of([(label + 1) % 3 for label in right]))
    assert same.difference.value == 0 and same.p == 1
    worse = two_models(first, second, chosen, sure_of(right), sure_of(right))  # read in its own order: all wrong
    assert worse.difference.value == -1 and worse.only_first == 15 and worse.p < 0.001
    with pytest.raises(ModelError, match="other has the classes A, B"):
        class_order(first, card(("A", "B"), "other"))


def test_two_data_sets_are_compared_by_shares_and_where_labelled_by_consistency():
    chosen = choose(crops([0, 1, 2] * 20, CLASSES, np.arange(60) % 4), card())
    truth, other = chosen.cells.labels, np.zeros(60, np.int64)
    groups = (chosen.cells.groups, chosen.cells.groups)
    plain = two_data_sets(CLASSES, ("x", "y"), (truth, other), (chosen, None), groups)
    assert "consistency_rate" not in plain
    assert plain["shares"]["LT-HSC"]["rates"]["x"]["rate"] == pytest.approx(1 / 3)
    assert plain["shares"]["LT-HSC"]["difference"]["stars"] == "***"
    labelled = two_data_sets(CLASSES, ("x", "y"), (truth, other), (chosen, chosen), groups)
    assert labelled["consistency_rate"]["MPP"]["difference"]["difference"]["value"] == -1
    assert labelled["consistency_rate"]["MPP"]["by_group"] is not None
    tests = [one["difference"] for one in plain["shares"].values()]
    assert max(test["p_holm"] for test in tests) > max(test["p"] for test in tests)  # three classes, three tests
