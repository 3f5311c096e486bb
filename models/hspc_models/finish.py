"""The end of a training run: the card's figures, the command's report, and the checkpoint thrown away."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from hspc_live.core.errors import ModelError, OutputError
from hspc_models.card import CARD_FILE, load_card, write_card
from hspc_models.ceiling import believed_ceiling
from hspc_models.checkpoint import CHECKPOINT_FILE, end_checkpoint, ended_identity
from hspc_models.evaluate import METRICS_FILE, evaluate
from hspc_models.metrics import balanced_accuracy, confusion, judge
from hspc_models.peers import RADIAL, RESNET, held_out_predictions
from hspc_models.sources import CropSource, FiledCrops, open_source
from hspc_models.train import HELD_OUT, identity
from hspc_models.train_settings import TrainSettings

_PEERS = {"radial_balanced_accuracy": RADIAL, "resnet_balanced_accuracy": RESNET}
"""What a run adds to the figures of metrics.json, and its report says."""


def finish(out: Path, settings: TrainSettings) -> dict[str, Any]:
    """Judge the trained model in `out`, leave the figures in its card, and say them.

    Afterwards the folder holds a finished model, which no run goes on with.
    """
    judge_held_out(out, settings)
    return _closed(out)


def judge_held_out(out: Path, settings: TrainSettings) -> None:
    """Leave the figures of the trained model in `out` in its card and metrics.json.

    The checkpoint stays: it says which settings and data the model is of, should the run be killed before its end.
    """
    metrics = evaluate(out, settings)
    source = open_source(settings)
    if isinstance(source, FiledCrops):
        found, labels = held_out_predictions(out, source, settings), source.test().labels
        classes = len(settings.classes)
        metrics["ceiling"] = believed_ceiling(labels, found, classes).to_json()
        for key, name in _PEERS.items():
            metrics[key] = balanced_accuracy(confusion(labels, found[name], classes))
        _write(out, metrics)


def finish_refit(out: Path, judged: Path, learnt_from: int) -> dict[str, Any]:
    """Give the model in `out`, which learnt from all `learnt_from` crops, the figures of the one like it in `judged`.

    Its card says whose they are. Temperature and shares are that model's too: nothing is left to fit others on, and
    promises of purity need calibration cells that this one has not learnt from (`evaluate --calibrate`).
    """
    theirs, card = load_card(judged), load_card(out)
    if theirs.validation is None:
        raise ModelError(f"{judged}: has not been judged; delete {out} and train again")
    cells = int(np.sum(theirs.validation.confusion))
    words = (
        f"{theirs.validation.data}: {cells} crops held out. These figures are of a model with the same settings that "
        f"learnt from the other {learnt_from - cells}; this one learnt from all {learnt_from} and was judged on none"
    )
    figures = theirs.validation.model_copy(update={"data": words})
    same = {"temperature": theirs.temperature, "score_shares": theirs.score_shares}
    write_card(out, card.model_copy(update={**same, "validation": figures}))
    metrics = json.loads((judged / METRICS_FILE).read_text(encoding="utf-8"))
    metrics["single_views"]["data"] = words
    _write(out, metrics | {"learnt_from": {"judged": learnt_from - cells, "shipped": learnt_from}})
    report = _closed(out)
    end_checkpoint(judged)
    return report


def finished(out: Path) -> dict[str, Any] | None:
    """The figures of a model whose training is done; None where there is none."""
    if not (out / CARD_FILE).exists() or (out / CHECKPOINT_FILE).exists():
        return None
    card = load_card(out)
    if card.validation is None:
        return None
    table = np.asarray(card.validation.confusion)
    labels, predicted = (index.ravel().repeat(table.ravel()) for index in np.indices(table.shape))
    judged = judge(labels, predicted, card.classes)
    metrics = json.loads((out / METRICS_FILE).read_text(encoding="utf-8")) if (out / METRICS_FILE).exists() else {}
    return {
        "validation": {
            "balanced_accuracy": card.validation.balanced_accuracy,
            "balanced_accuracy_interval": [judged.balanced_accuracy.low, judged.balanced_accuracy.high],
            "macro_f1": judged.macro.f1.value,
            "n": len(labels),
            "data": card.validation.data,
            "hog_balanced_accuracy": card.validation.hog_balanced_accuracy,
            **{key: metrics[key] for key in _PEERS if key in metrics},
        },
        **{key: metrics[key] for key in ("ceiling", "learnt_from") if key in metrics},
    }


def done_before(out: Path, settings: TrainSettings, source: CropSource) -> dict[str, Any] | None:
    """The figures of a model that an earlier start of the same training finished in `out`; None where there is none.

    Raises OutputError for a model of other crops or settings: it may even have learnt from the cells that are to judge.
    """
    report = finished(out)
    if report is not None and ended_identity(out) != identity(settings, source):
        raise OutputError(f"{out}: holds a model of other settings or other data; choose another folder")
    if report is not None:
        end_checkpoint(out / HELD_OUT)  # which a kill may have left
    return report


def _closed(out: Path) -> dict[str, Any]:
    end_checkpoint(out)
    report = finished(out)
    if report is None:
        raise ModelError(f"{out}: the model has vanished while it was judged")
    return report


def _write(out: Path, metrics: dict[str, Any]) -> None:
    (out / METRICS_FILE).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
