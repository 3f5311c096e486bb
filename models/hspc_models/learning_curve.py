"""The learning curve: trainings on parts of the crops, all judged on the same cells, within a stated budget.

Every training that is done leaves its predictions in DIR/trainings/repeat-N/fraction-F; one that was killed goes on
from its last checkpoint, so that the same command, started again, ends with the same figures. Weights are not kept:
there would be dozens. Trainings of one repeat come before those of the next, so a budget that ends early leaves whole
curves.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hspc_live.core.errors import SettingsError
from hspc_live.core.values import Pixels
from hspc_models.card import load_network
from hspc_models.curve_budget import Budget, Spent, minutes
from hspc_models.curve_fit import accuracies
from hspc_models.curve_store import Predictions, found_of, keep, spent_on, tidy, training_folder
from hspc_models.curve_tasks import PEERS, Curves, Task
from hspc_models.dataset import LabelledCrops
from hspc_models.hog import hog_predictions
from hspc_models.journal import LOG_FILE, Progress
from hspc_models.loop import resized
from hspc_models.network import CellNet, channels_last, mean_logits, pictures
from hspc_models.peers import HOG, NETWORK
from hspc_models.sources import FiledCrops
from hspc_models.train import train
from hspc_models.train_settings import TrainSettings
from hspc_models.tutor import radial_predictions

_BATCH = 64

Said = Callable[[str], None]
Stepped = Callable[[int], None]


def run(curves: Curves, budget_s: float | None, command: str, said: Said, stepped: Stepped) -> str | None:
    """Do the trainings that are not done; why some were left for another start, or None.

    `said` hears what a person should know, `stepped` how many crops have been shown of all tasks'. Raises SettingsError
    where not even one repeat fits in the budget, and as `train` does.
    """
    began = time.monotonic()
    repeats = curves.settings.curve.repeats
    done = {task.folder: found_of(task) for task in curves.tasks}
    budget = Budget(budget_s, [spent for task in curves.tasks if (spent := spent_on(task)) is not None])
    ready = 0
    told = False
    for number, task in enumerate(curves.tasks):
        missing = [name for name in curves.names if name not in done[task.folder]]
        if NETWORK in missing:
            left = _left(curves, done, from_repeat=task.repeat)
            elapsed = time.monotonic() - began
            if budget.known and not told:
                told = True
                fits = task.repeat + budget.repeats_that_fit(elapsed, left)
                _tell(budget, budget_s, left, fits, task.repeat, repeats, said)
            if not budget.allows(elapsed, left[0], first=task.repeat == 0):
                return _stopped(budget, elapsed, budget_s, left, task.repeat, repeats)
        else:
            tidy(task)
        if missing:
            done[task.folder] = _do(task, curves, missing, command, partial(_beyond, stepped, ready))
            if (spent := spent_on(task)) is not None and NETWORK in missing:
                budget.spent.append(spent)
            said(_line(number, curves, task, done[task.folder]))
        ready += task.shown
        stepped(ready)
    return None


def _do(task: Task, curves: Curves, missing: list[str], command: str, stepped: Stepped) -> Predictions:
    """Train what is missing of one task; the predictions of all its classifiers."""
    began = time.monotonic()
    found, spent = found_of(task), spent_on(task)
    part = curves.learnt.take(task.rows)
    for name in missing:
        if name in PEERS:
            found[name] = _peer(name, part, curves.judged, task.settings)
    if NETWORK in missing:
        source, folder = FiledCrops(part, curves.judged, curves.about), training_folder(task)
        train(task.settings, source, folder, command, said=partial(_steps, task, stepped))
        card, network = load_network(folder)
        found[NETWORK] = _predicted(network, curves.judged.images, task.settings.phases[-1].pixels, card.symmetries)
        spent = Spent(task.shown, _pace(folder), time.monotonic() - began)
    keep(task, found, spent)
    return found


def _peer(name: str, part: LabelledCrops, judged: LabelledCrops, settings: TrainSettings) -> NDArray[np.int64]:
    """Classes (n,) that a simple classifier gives the judged crops after learning from `part`."""
    if name == HOG:
        return hog_predictions(part, judged)
    return radial_predictions(part, judged, settings.augment, settings.seed)


def _predicted(network: CellNet, images: Pixels, pixels: int, symmetries: int) -> NDArray[np.int64]:
    """Classes (n,) of crops, averaged down to what the network was trained on: another size it would not recognise."""
    channels_last(network.eval())
    with torch.inference_mode():
        batches = [
            mean_logits(network, resized(pictures(images[start : start + _BATCH]), pixels), symmetries).argmax(dim=1)
            for start in range(0, len(images), _BATCH)
        ]
    return np.asarray(torch.cat(batches).numpy(), np.int64)


def _beyond(stepped: Stepped, ready: int, n: int) -> None:
    stepped(ready + n)


def _steps(task: Task, stepped: Stepped, now: Progress) -> None:
    if now.line is None:
        stepped(round(task.shown * (now.epoch * now.steps + now.step) / (now.epochs * now.steps)))


def _pace(folder: Path) -> float:
    lines = [json.loads(line) for line in (folder / LOG_FILE).read_text(encoding="utf-8").splitlines()]
    seconds = sum(line["crops"] / max(line["crops_per_s"], 0.05) for line in lines)  # it is kept to one digit
    return float(sum(line["crops"] for line in lines) / seconds)


# ---- words ----------------------------------------------------------------------------------------------------------


def _left(curves: Curves, done: dict[Path, Predictions], from_repeat: int) -> list[list[int]]:
    """By repeat, the crops to be shown of the trainings that are not done."""
    repeats = range(from_repeat, curves.settings.curve.repeats)
    return [
        [task.shown for task in curves.tasks if task.repeat == repeat and NETWORK not in done[task.folder]]
        for repeat in repeats
    ]


def _tell(
    budget: Budget, budget_s: float | None, left: list[list[int]], fits: int, repeat: int, repeats: int, said: Said
) -> None:
    whole = sum(budget.cost(shown) for one in left for shown in one)
    if fits >= repeats or budget_s is None:
        said(f"what is left takes about {minutes(whole)}, by the trainings that are done")
    elif fits > repeat or repeat:
        said(
            f"all {repeats} repeats would take about {minutes(whole)} more, and the budget is {minutes(budget_s)}: "
            f"{fits} repeats now; the same command with a larger --budget goes on from there"
        )


def _stopped(
    budget: Budget, elapsed: float, budget_s: float | None, left: list[list[int]], repeat: int, repeats: int
) -> str:
    need = sum(budget.cost(shown) for shown in left[0])
    if repeat == 0:
        whole = elapsed + need
        raise SettingsError(
            f"one training at each fraction takes about {minutes(whole)} here, and the budget is "
            f"{minutes(budget_s or 0)}: give --budget {max(1, -(-int(1.1 * whole) // 60))} (what is done is kept), or "
            "make less of it in another folder: --set curve.epochs=…, curve.fractions=[…] or curve.pixels=…"
        )
    return (
        f"{repeat} of {repeats} repeats fit in the budget of {minutes(budget_s or 0)}; the same command goes on with "
        "the others"
    )


def _line(number: int, curves: Curves, task: Task, found: Predictions) -> str:
    labels = curves.judged.labels
    hits = np.stack([found[name] == labels for name in curves.names])
    reached = zip(curves.names, accuracies(hits, labels).tolist(), strict=True)
    scores = ", ".join(f"{name.split()[0]} {value:.3f}" for name, value in reached)
    return f"{number + 1} of {len(curves.tasks)}: repeat {task.repeat + 1}, {len(task.rows)} crops: {scores}"
