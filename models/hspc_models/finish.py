"""The end of a training run: the card's figures, the command's report, and the checkpoint thrown away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hspc_live.core.errors import ModelError
from hspc_models.card import CARD_FILE, load_card
from hspc_models.checkpoint import CHECKPOINT_FILE
from hspc_models.evaluate import evaluate
from hspc_models.metrics import judge
from hspc_models.train_settings import TrainSettings


def finish(out: Path, settings: TrainSettings) -> dict[str, Any]:
    """Judge the trained model in `out`, leave the figures in its card, and say them.

    Afterwards the folder holds a finished model, which no run goes on with.
    """
    evaluate(out, settings)
    (out / CHECKPOINT_FILE).unlink(missing_ok=True)
    report = finished(out)
    if report is None:
        raise ModelError(f"{out}: the model has vanished while it was judged")
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
    return {
        "validation": {
            "balanced_accuracy": card.validation.balanced_accuracy,
            "balanced_accuracy_interval": [judged.balanced_accuracy.low, judged.balanced_accuracy.high],
            "macro_f1": judged.macro.f1.value,
            "n": len(labels),
            "data": card.validation.data,
            "hog_balanced_accuracy": card.validation.hog_balanced_accuracy,
        }
    }
