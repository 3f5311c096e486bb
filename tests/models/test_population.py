"""Shares of a population: intervals that hold the groups' spread, the confusion taken off, declared shares checked."""

from __future__ import annotations

import numpy as np
import pytest

from hspc_live.core.errors import RecordingError, SettingsError
from hspc_models.apply import apply_model
from hspc_models.card import Validation, load_card
from hspc_models.dataset import LabelledCrops
from hspc_models.population import corrected_by_card, declared_shares, shares_at

NAMES = ("LT-HSC", "ST-HSC", "MPP")


def scores_of(columns, best):
    scores = np.repeat((1 - np.asarray(best, float))[:, None] / 2, 3, 1)
    scores[np.arange(len(columns)), columns] = best
    return scores


def test_shares_and_abstention_at_a_threshold():
    columns = np.array([0] * 30 + [1] * 50 + [2] * 20)
    found = shares_at(scores_of(columns, np.where(columns == 2, 0.6, 0.95)), 0.7, NAMES, None)
    assert found.called == 80 and found.abstained.rate == 0.2
    assert found.shares["LT-HSC"].rate == 30 / 80 and found.shares["MPP"].rate == 0
    assert found.shares["LT-HSC"].low < 30 / 80 < found.shares["LT-HSC"].high
    nothing = shares_at(scores_of(columns, np.full(100, 0.5)), 0.9, NAMES, None)
    assert nothing.called == 0 and nothing.abstained.rate == 1


def test_mice_that_differ_widen_every_interval(model_folder):
    columns = np.repeat([0, 1, 0, 1, 0, 1], 50)
    mice = np.arange(300) // 50
    scores = scores_of(columns, np.full(300, 0.9))
    alone, of_mice = shares_at(scores, 0, NAMES, None), shares_at(scores, 0, NAMES, mice)
    width = [one.shares["LT-HSC"].high - one.shares["LT-HSC"].low for one in (alone, of_mice)]
    assert width[1] > 3 * width[0]
    card = with_table(load_card(model_folder), [[80, 10, 10], [10, 80, 10], [10, 10, 80]])
    ends = [corrected_by_card(columns, card, units)[0].shares[0] for units in (None, mice)]
    assert ends[1].high - ends[1].low > 2 * (ends[0].high - ends[0].low)


def with_table(card, table):
    figures = Validation(
        data="d", balanced_accuracy=0.8, consistency={}, confusion=table, expected_calibration_error=0.0
    )
    return card.model_copy(update={"validation": figures})


def test_confusion_is_taken_off(model_folder):
    bare = load_card(model_folder)
    assert corrected_by_card(np.array([0, 1]), bare, None)[0] is None
    card = with_table(bare, [[800, 200, 0], [100, 900, 0], [0, 0, 1000]])
    predicted = np.repeat([0, 1, 2], [150, 650, 200])  # of 100 LT-HSC, 700 ST-HSC, 200 MPP
    found, doubt = corrected_by_card(predicted, card, None)
    assert [share.value for share in found.shares] == pytest.approx([0.1, 0.7, 0.2], abs=0.01) and not doubt
    assert found.shares[0].low < 0.1 < found.shares[0].high < 0.15
    alike = with_table(bare, [[340, 330, 330], [330, 340, 330], [330, 330, 340]])
    assert "mostly noise" in corrected_by_card(predicted, alike, None)[1]
    assert (
        "no cell of MPP" in corrected_by_card(predicted, with_table(bare, [[1, 0, 0], [0, 1, 0], [0, 0, 0]]), None)[1]
    )


def test_declared_shares():
    assert declared_shares([], NAMES) is None
    assert declared_shares(["LT-HSC=0.2,MPP=0.5"], NAMES).tolist() == pytest.approx([0.2, 0.3, 0.5])
    assert declared_shares(["LT-HSC=0.2", "ST-HSC=0.3", "MPP=0.5"], NAMES).sum() == pytest.approx(1)
    for wrong, named in (("LT-HSC=0.2", "name every"), ("B=1", "classes are LT-HSC"), ("LT-HSC=x,MPP=0", "no share"),
                         ("LT-HSC=0.9,MPP=0.5", "sum to 1"), ("MPP=0.2,MPP=0.8", "twice")):  # fmt: skip
        with pytest.raises(SettingsError, match=named):
            declared_shares([wrong], NAMES)


def test_a_model_is_opened_with_the_crops_it_can_judge(model_folder):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 255, (6, 80, 80)).astype(np.uint8)
    crops = LabelledCrops(images, np.array([0, 1, 2, -1, 0, 1]), ("B", "MPP", "LT-HSC"), np.arange(6), 0.2, "some")
    applied = apply_model(model_folder, crops)
    assert applied.labels.tolist() == [-1, 2, 0, -1, -1, 2]
    assert any("resampled" in note for note in applied.notes) and any("no B" in note for note in applied.notes)
    scores = applied.scores_of()
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(applied.scores_of(np.array([4, 1])), scores[[4, 1]], atol=1e-4)
    with pytest.raises(RecordingError, match="no crops"):
        apply_model(model_folder, crops.take(np.array([], int)))
