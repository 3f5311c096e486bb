"""Evaluation: what the card says about a model's trustworthiness is made here, from cells that training never saw.

`python -m hspc_models.evaluate configs/train/lsm.yaml --model DIR` fits the temperature on the validation crops,
judges single views and whole cells on the test source, scores the calibration source for promises of purity to rest on,
and rewrites DIR/card.yaml and DIR/metrics.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hspc_live.core.errors import HspcError, SettingsError
from hspc_live.core.values import Pixels
from hspc_live.stages.gate import combine
from hspc_models.calibration import calibration_estimate, fit_temperature
from hspc_models.calibration_cells import calibration_cells, fit_stranger_limits, keep_cells, load_cells
from hspc_models.card import ABSTAIN, Card, CellConfusion, Validation, load_network, write_card
from hspc_models.dataset import LabelledCrops
from hspc_models.hog import hog_balanced_accuracy
from hspc_models.metrics import balanced_accuracy, confusion, softmax, wilson
from hspc_models.network import CellNet, channels_last, mean_logits, pictures
from hspc_models.sources import open_source
from hspc_models.train_settings import FileSource, TrainSettings, load_train_settings

METRICS_FILE = "metrics.json"
THRESHOLDS = (0.34, 0.5, 0.7, 0.9)
"""The paper's score thresholds."""


def evaluate(folder: Path, settings: TrainSettings) -> dict[str, Any]:
    """Judge the model in `folder`; returns the metrics, and leaves them in its card and in metrics.json.

    Single views are judged by the first view of each cell, so that the intervals rest on independent cells. Raises
    SettingsError for a model that learnt from the crops held out as well (`source.refit`).
    """
    torch.set_num_threads(settings.threads)
    card, network = load_network(folder)
    source = open_source(settings)
    if isinstance(settings.source, FileSource) and settings.source.refit and card.training.data != source.about:
        raise SettingsError(
            f"{folder}: the model learnt from {card.training.data}, those that would judge it among them; its figures "
            "are those of the model in its folder held-out. Judge it on other crops with `hspc-live evaluate`"
        )
    validation = source.validation().in_order(card.classes)
    temperature = fit_temperature(logits(network, validation.images, card.symmetries), validation.labels)
    test = source.test()
    if source.groups_are_cells:
        test = first_views(test, settings.views)
    scores = softmax(logits(network, test.images, card.symmetries), temperature)
    singles, single_scores = test, scores
    if source.groups_are_cells:
        first = np.unique(test.groups, return_index=True)[1]
        singles, single_scores = test.take(first), scores[first]
    known = np.array([name in card.classes for name in singles.names])[singles.labels]
    cells = singles.in_order(card.classes)
    table = confusion(cells.labels, single_scores[known].argmax(axis=1), len(card.classes))
    error = calibration_estimate(single_scores[known], cells.labels)
    figures = Validation(
        data=test.provenance,
        balanced_accuracy=balanced_accuracy(table),
        consistency={
            name: wilson(int(table[index, index]), int(table[index].sum())) for index, name in enumerate(card.classes)
        },
        confusion=tuple(tuple(row) for row in table.tolist()),
        expected_calibration_error=error.value,
        expected_calibration_error_interval=(error.low, error.high),
        hog_balanced_accuracy=hog_balanced_accuracy(source.baseline().in_order(card.classes), cells),
    )
    whole = cell_confusion(test, scores, card.classes, settings.views) if source.groups_are_cells else None
    shares = np.full(len(card.classes), 1 / len(card.classes)) if settings.oversample else source.shares()
    card = card.model_copy(
        update={
            "temperature": temperature,
            "validation": figures,
            "cell_confusion": whole,
            "score_shares": tuple(shares.tolist()) if shares.min() > 0 else None,
        }
    )
    card = _calibrated(folder, card, network, source.calibration(), settings.views)
    write_card(folder, card)
    report: dict[str, Any] = {"temperature": temperature, "single_views": figures.model_dump(mode="json")}
    if whole is not None:
        counted = np.asarray(whole.counts[0], np.int64)[: len(card.classes)]
        report["cells"] = whole.model_dump(mode="json") | {"balanced_accuracy": balanced_accuracy(counted)}
    for name in ("calibration", "strangers"):
        if (kept := getattr(card, name)) is not None:
            report[name] = kept.model_dump(mode="json")
    (folder / METRICS_FILE).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return report


def _calibrated(folder: Path, card: Card, network: CellNet, crops: LabelledCrops | None, views: int) -> Card:
    """`card` with new calibration cells beside it; without crops its old ones stay, and what hangs on them."""
    if crops is None:
        if card.calibration is None:
            return card
        cells = load_cells(folder, card)
    else:
        crops = first_views(crops, views)
        raw = logits(network, crops.images, card.symmetries)
        cells = calibration_cells(raw, crops.groups, crops.labels, crops.names, card.classes)
        about = keep_cells(folder, card, cells, "flow", crops.provenance)
        card = card.model_copy(update={"calibration": about})
    return card.model_copy(update={"strangers": fit_stranger_limits(cells, card.temperature)})


def first_views(crops: LabelledCrops, views: int) -> LabelledCrops:
    """At most the first `views` crops of every group: what the sort core asks the engine for."""
    order = np.argsort(crops.groups, kind="stable")
    starts = np.searchsorted(crops.groups[order], crops.groups[order], side="left")
    return crops.take(np.sort(order[np.arange(len(order)) - starts < views]))


def cell_confusion(
    crops: LabelledCrops, scores: NDArray[np.float64], classes: tuple[str, ...], views: int
) -> CellConfusion:
    """The table of whole cells: groups of `crops` with their first `views` combined, strangers' kinds included."""
    kinds = (*classes, *(name for name in crops.names if name not in classes))
    counts = np.zeros((len(THRESHOLDS), len(kinds), len(classes) + 1), np.int64)
    for group in np.unique(crops.groups):
        rows = np.flatnonzero(crops.groups == group)[:views]
        kind = kinds.index(crops.names[crops.labels[rows[0]]])
        combined = np.asarray(combine([tuple(row) for row in scores[rows].tolist()]))
        for index, threshold in enumerate(THRESHOLDS):
            column = int(combined.argmax()) if combined.max() >= threshold else len(classes)
            counts[index, kind, column] += 1
    return CellConfusion(
        data=f"{crops.provenance}; columns: {', '.join(classes)}, {ABSTAIN}",
        views=views,
        thresholds=THRESHOLDS,
        kinds=kinds,
        counts=tuple(tuple(tuple(row) for row in table) for table in counts.tolist()),
    )


def logits(network: CellNet, images: Pixels, symmetries: int = 1) -> NDArray[np.float32]:
    """Logits (n, classes) of crops (n, S, S), the mean over so many positions, in batches of 64."""
    channels_last(network.eval())
    with torch.inference_mode():
        batches = [
            mean_logits(network, pictures(images[start : start + 64]), symmetries).numpy()
            for start in range(0, len(images), 64)
        ]
    return np.concatenate(batches)


def main(arguments: list[str] | None = None) -> int:
    """Evaluate a trained model; the exit code says what went wrong (see `core.errors`)."""
    parser = argparse.ArgumentParser(prog="python -m hspc_models.evaluate", description="Evaluate a classifier.")
    parser.add_argument("config", type=Path, help="the training file the model was made with")
    parser.add_argument("--model", type=Path, required=True, help="folder with card.yaml")
    given = parser.parse_args(arguments)
    try:
        report = evaluate(given.model, load_train_settings(given.config))
    except HspcError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
