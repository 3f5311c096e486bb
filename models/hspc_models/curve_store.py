"""What a training of a learning curve leaves: the predictions of every classifier, and the time that it took."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import OutputError
from hspc_models.curve_budget import Spent
from hspc_models.curve_tasks import Task
from hspc_models.journal import LOG_FILE

PREDICTIONS: Final = "predictions.npz"

_PREFIX: Final = "predicted:"

Predictions = dict[str, NDArray[np.int64]]


def training_folder(task: Task) -> Path:
    """Where the network is trained; it is thrown away when the predictions are kept."""
    return task.folder / "training"


def found_of(task: Task) -> Predictions:
    """The classes (n,) that each classifier gave the judged cells; empty for a training that is not done."""
    path = task.folder / PREDICTIONS
    if not path.exists():
        return {}
    with _opened(path) as file:
        return {name.removeprefix(_PREFIX): file[name] for name in file.files if name.startswith(_PREFIX)}


def spent_on(task: Task) -> Spent | None:
    """The time that a finished training took; None where no network was trained."""
    path = task.folder / PREDICTIONS
    if not path.exists():
        return None
    with _opened(path) as file:
        if "crops_per_s" not in file.files:
            return None
        return Spent(task.shown, float(file["crops_per_s"]), float(file["seconds"]))


def keep(task: Task, found: Predictions, spent: Spent | None) -> None:
    """Write what is known of a training, whole or not at all, then throw away all else but its log. Raises OutputError.

    Weights and checkpoint are 400 MB that nobody will look at.
    """
    path = task.folder / PREDICTIONS
    partial = path.with_suffix(".partial.npz")
    arrays: dict[str, Any] = {_PREFIX + name: values for name, values in found.items()}
    if spent is not None:
        arrays |= {"crops_per_s": np.float64(spent.crops_per_s), "seconds": np.float64(spent.seconds)}
    try:
        task.folder.mkdir(parents=True, exist_ok=True)
        np.savez(partial, **arrays)
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    tidy(task)


def tidy(task: Task) -> None:
    """Throw away what a training that is done has left, or a kill before it could do so itself. Raises OutputError."""
    training = training_folder(task)
    if not training.exists():
        return
    try:
        if (training / LOG_FILE).exists():
            os.replace(training / LOG_FILE, task.folder / LOG_FILE)
        shutil.rmtree(training)
    except OSError as error:
        raise OutputError(f"{training}: cannot be removed: {error.strerror or error}") from error


def _opened(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: cannot be read ({error}); delete it, and its training is repeated") from error
