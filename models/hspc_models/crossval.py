"""Cross-validation: a model for each fold, judged on the crops that it never saw, and its peers on the same folds.

Started again after a kill, it goes on: folds that are done keep their predictions in `fold-N/predictions.npz`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import OutputError
from hspc_models.ceiling import believed_ceiling
from hspc_models.checkpoint import end_checkpoint
from hspc_models.journal import Progress
from hspc_models.metrics import judge
from hspc_models.peers import HOG, NETWORK, RADIAL, RESNET, held_out_predictions
from hspc_models.sources import FiledCrops, open_folds
from hspc_models.train import identity, train
from hspc_models.train_settings import TrainSettings

PREDICTIONS = "predictions.npz"
REPORT = "cross_validation.json"

Said = Callable[[int, Progress], None]


def cross_validate(settings: TrainSettings, k: int, out: Path, command: str, said: Said) -> dict[str, Any] | None:
    """Train `k` models into `out`/fold-1 …; the figures of all held-out predictions together, and of each fold.

    Leaves them in `out`/cross_validation.json. `said(fold, progress)` hears of the progress. None in a process of
    torchrun that is not the first. Raises as `train` and `open_folds` do.
    """
    sources = open_folds(settings, k)
    n = sum(len(rows) for _, rows in sources)
    labels = np.empty(n, np.int64)
    predicted = {name: np.empty(n, np.int64) for name in (NETWORK, RESNET, HOG, RADIAL)}
    folds = []
    for number, (source, rows) in enumerate(sources):
        folder = out / f"fold-{number + 1}"
        same = identity(settings, source)
        found = _done(folder, same)
        if found is None:
            first = train(settings, source, folder, command, said=partial(said, number))
            if not first:
                continue
            found = _predict(folder, source, settings, same)
        truth = source.test().labels
        labels[rows] = truth
        for name, mine in found.items():
            predicted[name][rows] = mine
        folds.append({name: judge(truth, mine, settings.classes).to_json() for name, mine in found.items()})
    if len(folds) < k:
        return None
    report = {
        **{name: judge(labels, mine, settings.classes).to_json() for name, mine in predicted.items()},
        "ceiling": believed_ceiling(labels, predicted, len(settings.classes)).to_json(),
        "folds": folds,
    }
    try:
        (out / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{out / REPORT}: cannot be written: {error.strerror or error}") from error
    return report


def _predict(folder: Path, source: FiledCrops, settings: TrainSettings, same: str) -> dict[str, NDArray[np.int64]]:
    found = held_out_predictions(folder, source, settings)
    arrays: dict[str, Any] = {"identity": same, **found}
    partial = folder / f"{PREDICTIONS}.partial.npz"
    np.savez(partial, **arrays)
    os.replace(partial, folder / PREDICTIONS)
    end_checkpoint(folder)
    return found


def _done(folder: Path, same: str) -> dict[str, NDArray[np.int64]] | None:
    """The predictions of a fold that an earlier start has finished.

    Raises OutputError for those of other settings or other crops: figures of folds trained differently are no figure.
    """
    path = folder / PREDICTIONS
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as file:
        if "identity" not in file or str(file["identity"]) != same:
            raise OutputError(f"{path}: belongs to other settings or other crops; choose another folder")
        end_checkpoint(folder)  # which a kill may have left
        return {name: file[name] for name in (NETWORK, RESNET, HOG, RADIAL)}
