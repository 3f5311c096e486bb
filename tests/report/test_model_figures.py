"""An evaluation's figures and page from its metrics alone, however many classes, and where little is known."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from hspc_live.core.values import Modality
from hspc_live.report.model_figures import draw_model_figures
from hspc_live.report.model_page import write_model_page
from hspc_live.report.page import metrics_text
from hspc_models.card import Card, Training, Weights
from hspc_models.dataset import LabelledCrops
from hspc_models.judged import choose, judged, strangers_judged


def metrics_of(classes, labels, strangers=0, only=None):
    rng = np.random.default_rng(3)
    card = Card(
        name="m", version="1", classes=classes, modality=Modality.DIC, um_per_px=0.25, crop_px=32,
        weights=Weights(sha256="0" * 64), training=Training(data="t", seed=1, crops=0, epochs=0, command=""),
    )  # fmt: skip
    labels = np.concatenate((labels, np.full(strangers, len(classes), np.int64)))
    images = rng.integers(0, 255, (len(labels), 32, 32)).astype(np.uint8)
    names = (*classes, "dust") if strangers else classes
    crops = LabelledCrops(images, labels, names, np.zeros(len(labels), np.int64), 0.25, "f.npz")
    chosen = choose(crops, card, only)
    raw = rng.normal(0, 1, (len(chosen.cells), len(classes)))
    raw[np.arange(len(raw)), chosen.cells.labels] += 2
    found = judged(card, chosen, raw) | {
        "strangers": strangers_judged(card, chosen.strangers, rng.normal(0, 1, (len(chosen.strangers), len(classes)))),
        "controls": {"why": "none <here>"},
        "overlap": {"checked": False, "why": "no file"},
        "model": {"name": "m", "version": "1", "sha256": "0" * 64, "trained_on": "t"},
        "data": {"file": "f.npz", "crops": len(crops)},
        "missing_classes": list(chosen.missing),
        "left_out": chosen.left_out,
        "notes": [],
        "warnings": ["look & see"],
    }
    return json.loads(metrics_text(found))


MANY = tuple(f"a class with quite a long name {number}" for number in range(8))


@pytest.mark.parametrize(
    ("metrics", "missing"),
    [
        (lambda: metrics_of(("A", "B"), np.arange(60) % 2, strangers=6), {"controls", "against", "beside"}),
        (lambda: metrics_of(MANY, np.arange(80) % 8), {"controls", "strangers", "against", "beside"}),
        (lambda: metrics_of(("A", "B", "C"), np.array([1])), {"controls", "roc", "strangers", "against", "beside"}),
        (
            lambda: metrics_of(("A", "B", "C"), np.arange(30) % 3, only=["C", "A"]),
            {"controls", "strangers", "against", "beside"},
        ),
    ],
)
def test_what_is_known_is_drawn_and_the_page_holds_it(metrics, missing, tmp_path):
    found = metrics()
    figures = draw_model_figures(found, tmp_path, "f.npz")
    names = {path.stem for path in figures}
    everything = {
        "confusion",
        "rates",
        "controls",
        "roc",
        "reliability",
        "thresholds",
        "strangers",
        "against",
        "beside",
    }
    assert names == everything - missing
    for path in figures:
        if path.suffix == ".svg":
            ET.parse(path)
    write_model_page(tmp_path, found, figures, "f.npz")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/svg+xml") == len(names)
    assert "none &lt;here&gt;" in page and "look &amp; see" in page
    for name in found["confusion_rows"]:
        assert page.count(f"<td>{name}</td>") >= 1
