"""segment: what it is not sure of reaches a script and a person."""

from __future__ import annotations

import json

import cv2
import numpy as np


def test_a_field_that_does_not_tell_its_contrast_says_so(hspc_live, tmp_path):
    empty = np.random.default_rng(0).normal(110, 1.5, (300, 320))
    cv2.imwrite(str(tmp_path / "empty.png"), np.rint(empty).astype(np.uint8))
    said = hspc_live("segment", tmp_path / "empty.png", "--um-per-px", 0.25, "--json")
    assert said.code == 0
    assert json.loads(said.out)["images"][0]["doubts"] == ["contrast"]
    assert "--modality" in said.err
    told = hspc_live("segment", tmp_path / "empty.png", "--um-per-px", 0.25, "--modality", "dic", "--json")
    assert json.loads(told.out)["images"][0]["doubts"] == []
    assert "--modality" not in told.err
