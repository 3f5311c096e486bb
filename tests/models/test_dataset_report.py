"""What `inspect` says of a set: figures that can be counted by hand, and warnings where a scientist would want them."""

from __future__ import annotations

import numpy as np
import pytest

from hspc_live.core.errors import SettingsError
from hspc_models.dataset import LabelledCrops
from hspc_models.dataset_report import summarise
from hspc_models.duplicates import Duplicates, find_duplicates

LABELS = np.repeat([0, 1], 60)


def made(**changes) -> LabelledCrops:
    images = np.random.default_rng(0).integers(40, 200, (120, 32, 32)).astype(np.uint8)
    told = {
        "images": images,
        "labels": LABELS,
        "names": ("LT-HSC", "MPP"),
        "groups": np.tile([0, 1, 2], 40),
        "um_per_px": 0.25,
        "provenance": "made up",
        "group_names": ("m1", "m2", "m3"),
    } | changes
    return LabelledCrops(**told)


def said(crops, thresholds=None, expected=None, copies=None):
    return summarise(crops, copies or Duplicates((), (), np.arange(len(crops))), thresholds or {}, expected or {})


def test_a_good_set_is_counted_and_not_warned_of():
    found = said(made())
    assert found["classes"] == {"LT-HSC": 60, "MPP": 60} and found["n"] == 120 and found["width_um"] == 8.0
    assert found["groups"]["m2"] == {"LT-HSC": 20, "MPP": 20} and found["warnings"] == []


def test_classes_that_only_one_group_has_are_named():
    [warning] = said(made(groups=LABELS.copy(), group_names=("day 1", "day 2")))["warnings"]
    assert "LT-HSC from day 1" in warning and "MPP from day 2" in warning
    groups = np.where(LABELS == 1, 2, np.arange(120) % 2)
    [warning] = said(made(groups=groups))["warnings"]
    assert "MPP from m3" in warning and "LT-HSC" not in warning
    [warning] = said(made(groups=np.zeros(120, np.int64)))["warnings"]
    assert "only one group" in warning


def test_copies_across_classes_and_groups_are_named():
    crops = made()
    crops.images[70] = crops.images[5]  # another class and group
    crops.images[6] = crops.images[9][::-1] // 2 + 30  # the same class and group
    found = said(crops, copies=find_duplicates(crops.images))
    assert found["duplicates"] | {"largest": 0} == {
        "exact_sets": 1, "exact_copies": 1, "near_sets": 1, "near_copies": 1, "different_pictures": 118,
        "across_classes": 1, "across_groups": 1, "near_searched": True, "largest": 0,
    }  # fmt: skip
    assert found["duplicates"]["largest"] == [[5, 70], [6, 9]]
    assert "2 of 120 crops are copies" in found["warnings"][0]
    assert any("one of their labels is wrong" in warning for warning in found["warnings"])


def test_light_that_spoils_pictures_is_named():
    crops = made(images=made().images.astype(np.uint16) * 10)
    crops.images[:4, :8, :8] = 4095  # 12 bits
    crops.images[7] = 700
    found = said(crops)
    assert found["intensity"]["clipped_bright"] == 4 and found["intensity"]["flat"] == 1
    assert any("4 of 120 crops are clipped at the bright end (4095)" in warning for warning in found["warnings"])
    assert any("one single grey" in warning for warning in found["warnings"])


def test_small_classes_unknown_ones_and_scales_are_named():
    labels = LABELS.copy()
    labels[:20] = -1
    warnings = said(made(labels=labels, um_per_px=float("nan")))["warnings"]
    assert any("LT-HSC: only 40 crops" in warning for warning in warnings)
    assert any("20 crops have no class" in warning for warning in warnings)
    assert any("--um-per-px" in warning for warning in warnings)


def test_the_share_of_cells_with_the_expected_signal():
    rng = np.random.default_rng(1)
    light = rng.normal(0, 10, 120).astype(np.float32)
    light[:60] = 400
    light[:6] = 0
    light[6:10] = np.nan
    crops = made(fluorescence={"GFP": light})
    found = said(crops, expected={"LT-HSC": "GFP"})
    shining = found["fluorescence"]["GFP"]["LT-HSC"]
    assert shining["measured"] == 56 and shining["positive"] == 50
    assert 15 < shining["threshold"] < 45  # three standard deviations of the noise
    assert found["expected_signal"]["share"] == pytest.approx(50 / 56) and found["expected_signal"]["n"] == 56
    assert found["expected_signal"]["low"] < 50 / 56 < found["expected_signal"]["high"]
    assert found["fluorescence"]["GFP"]["MPP"]["share"] < 0.05
    dim = said(crops, {"GFP": 500.0}, {"LT-HSC": "GFP"})
    assert dim["expected_signal"]["share"] == 0 and "fewer than the paper's 96 %" in dim["warnings"][-1]


def test_no_threshold_is_guessed_without_noise_to_tell_it_from():
    crops = made(fluorescence={"GFP": np.full(120, 300, np.float32)})
    found = said(crops)
    assert found["fluorescence"] == {} and "--threshold GFP=COUNTS" in found["warnings"][-1]
    with pytest.raises(SettingsError, match="no fluorescence of CD48; its channels: GFP"):
        said(crops, {"CD48": 3.0})
    with pytest.raises(SettingsError, match="no class HSC; its classes: LT-HSC, MPP"):
        said(crops, expected={"HSC": "GFP"})
