"""What a learning curve consists of: cells that judge, and a training for each fraction and repeat.

What judges is held out first, by group where that is asked for, and no draw ever holds a cell of it.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import OutputError, SettingsError
from hspc_models.curve_draws import Rows, drawing_units, nested_draws
from hspc_models.dataset import LabelledCrops
from hspc_models.peers import HOG, NETWORK, RADIAL
from hspc_models.sources import open_source
from hspc_models.train_settings import PaperRecipe, Phase, ScratchRecipe, TrainSettings

PEERS: Final = (RADIAL, HOG)
IDENTITY: Final = "curve.json"

_TRAININGS: Final = "trainings"
_SEEDS_APART: Final = 7919


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One training: which repeat and fraction, the rows it gets, its settings, and how many crops will be shown."""

    repeat: int
    fraction: float
    rows: Rows
    settings: TrainSettings
    shown: int
    folder: Path


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """What a learning curve is about: crops to draw from, cells that judge, and the trainings in their order."""

    learnt: LabelledCrops
    judged: LabelledCrops
    about: str
    remarks: tuple[str, ...]
    tasks: tuple[Task, ...]
    settings: TrainSettings

    @property
    def names(self) -> tuple[str, ...]:
        """The classifiers, the network first."""
        curve = self.settings.curve
        return (NETWORK,) * curve.network + PEERS * curve.peers


def plan(settings: TrainSettings, out: Path) -> Curves:
    """Open the crops, hold out what judges, and draw; `out` gets a note whose run it is.

    Raises SettingsError for settings without a classifier or a process that torchrun started, OutputError where `out`
    holds something else, and as `open_source` and `nested_draws` do.
    """
    curve = settings.curve
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SettingsError("learning-curve runs in one process: its trainings are many and small; leave torchrun out")
    if not curve.network and not curve.peers:
        raise SettingsError("curve: network and peers are both false, so nothing would be trained")
    source = open_source(settings)
    learnt = source.baseline().in_order(settings.classes)
    judged = source.validation().in_order(settings.classes)
    _claim(out, settings, learnt, judged)
    units = drawing_units(learnt, curve.draw)
    cells = units if curve.draw == "cells" else drawing_units(learnt, "cells")
    tasks = []
    for repeat in range(curve.repeats):
        seed = settings.seed + _SEEDS_APART * repeat
        for fraction, rows in zip(
            curve.fractions, nested_draws(learnt, curve.fractions, seed, curve.draw, units, cells), strict=True
        ):
            mine, shown = _part(settings, learnt, rows, seed)
            folder = out / _TRAININGS / f"repeat-{repeat + 1}" / f"fraction-{fraction:g}"
            tasks.append(Task(repeat, fraction, rows, mine, shown, folder))
    return Curves(learnt, judged, source.about, source.remarks, tuple(tasks), settings)


def _part(settings: TrainSettings, learnt: LabelledCrops, rows: Rows, seed: int) -> tuple[TrainSettings, int]:
    """The settings of one training, and how many crops it will be shown."""
    curve = settings.curve
    whole, mine = _passed(settings, learnt.labels), _passed(settings, learnt.labels[rows])
    epochs = curve.epochs if curve.same == "epochs" else max(1, round(curve.epochs * whole / mine))
    pixels = curve.pixels or settings.phases[-1].pixels
    recipe: ScratchRecipe | PaperRecipe
    match settings.recipe:
        case ScratchRecipe() as scratch:
            steps = epochs * -(-mine // scratch.batch)
            update = {
                "phases": (Phase(pixels=pixels, epochs=epochs),),
                "warm_up_steps": min(scratch.warm_up_steps, steps // 5),
            }
            recipe = scratch.model_copy(update=update)
        case PaperRecipe() as paper:
            recipe = paper.model_copy(update={"pixels": pixels, "epochs": epochs})
    changed = settings.model_copy(update={"recipe": recipe, "seed": seed, "judge_every": epochs})
    return changed, epochs * mine


def _passed(settings: TrainSettings, labels: NDArray[np.int64]) -> int:
    """Crops of an epoch, rarer classes repeated."""
    counts = np.bincount(labels, minlength=len(settings.classes))
    return int(counts.max()) * len(settings.classes) if settings.oversample else int(counts.sum())


def _claim(out: Path, settings: TrainSettings, learnt: LabelledCrops, judged: LabelledCrops) -> None:
    """Make the folder this run's, or find that it is. Fractions, repeats and budget may change between starts."""
    open_to_change = {"fractions": True, "repeats": True, "budget_min": True, "peers": True, "network": True}
    same = settings.model_dump_json(
        exclude={"threads": True, "keep_every_s": True, "judge_every": True, "curve": open_to_change,
                 "source": {"data": True, "validation": True}}
    )  # fmt: skip
    digest = hashlib.sha256(same.encode())
    for crops in (learnt, judged):
        digest.update(crops.images.tobytes() + crops.labels.tobytes())
    path = out / IDENTITY
    try:
        out.mkdir(parents=True, exist_ok=True)
        if path.exists():
            if json.loads(path.read_text(encoding="utf-8")).get("identity") != digest.hexdigest():
                raise OutputError(f"{out}: holds the learning curve of other settings or other data; choose another")
            return
        if any(out.iterdir()):
            raise OutputError(f"{out} is not empty: give a new folder, nothing is ever overwritten")
        path.write_text(json.dumps({"identity": digest.hexdigest()}) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from error
    except ValueError as error:
        raise OutputError(f"{path}: cannot be read ({error}); choose another folder") from error
