"""What turning and mirroring crops in training does to a model: trained with and without, judged on the same cells.

In DIC a turn or a mirror image turns the shear, which the microscope never does, so the paper's augmentation shows the
network pictures that cannot be taken; in brightfield there is no direction and nothing speaks against it. Both models
are also shown the judged cells turned by half a turn: how much they lose says how far each rests on the direction.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.values import Pixels
from hspc_models.card import load_network
from hspc_models.compare import compare_models
from hspc_models.dataset import LabelledCrops
from hspc_models.evaluate import logits
from hspc_models.judged import independent_units
from hspc_models.metrics import judge
from hspc_models.sources import CropSource
from hspc_models.train_settings import FileSource, TrainSettings

AS_TAKEN: Final = "as_taken"
TURNED: Final = "turned"


def variants(settings: TrainSettings) -> dict[str, TrainSettings]:
    """The two trainings, by name: all else alike, scores of one position only.

    It is a comparison of figures: no model ships, so none learns from the crops that judge.
    """
    source = settings.source.model_copy(update={"refit": False} if isinstance(settings.source, FileSource) else {})
    return {
        name: settings.model_copy(
            update={
                "augment": settings.augment.model_copy(update={"turn": turn, "flip": flip}),
                "symmetries": 1,
                "source": source,
            }
        )
        for name, turn, flip in ((AS_TAKEN, "none", False), (TURNED, "any", True))
    }


def own_variant(settings: TrainSettings) -> str:
    """Which of the two the settings' own augmentation is nearer to."""
    return AS_TAKEN if settings.augment.turn == "none" and not settings.augment.flip else TURNED


def compare_variants(out: Path, settings: TrainSettings, source: CropSource) -> dict[str, Any]:
    """Both models of `out` on the cells that neither saw, as plain data: figures of each, and the paired difference.

    Cells are judged by their first view, as the card's figures are. Raises as `load_network` does.
    """
    cells, units, words = _cells(settings, source)
    half = cast("Pixels", np.ascontiguousarray(cells.images[:, ::-1, ::-1]))
    said, figures = {}, {}
    for name in (AS_TAKEN, TURNED):
        said[name] = _predicted(out / name, cells.images)
        turned = _predicted(out / name, half)
        figures[name] = {
            "as_taken": judge(cells.labels, said[name], settings.classes, units).to_json(),
            "half_a_turn": judge(cells.labels, turned, settings.classes, units).to_json(),
        }
    k = len(settings.classes)
    found = compare_models(cells.labels, said[AS_TAKEN], said[TURNED], k, units)
    return {
        "model": settings.name,
        "classes": list(settings.classes),
        "modality": str(settings.modality),
        "chance": 1 / k,
        "n": len(cells),
        "units": {"are": words, "n": len(cells) if units is None else len(np.unique(units))},
        "data": cells.provenance,
        "figures": figures,
        "comparison": found.to_json(),
    }


def _cells(settings: TrainSettings, source: CropSource) -> tuple[LabelledCrops, NDArray[np.int64] | None, str]:
    """The judged cells with labels in the classes' order, and what is independent among them."""
    test = source.test()
    if source.groups_are_cells:
        first = np.sort(np.unique(test.groups, return_index=True)[1])
        return test.take(first).in_order(settings.classes), None, "cells"
    cells = test.in_order(settings.classes)
    return cells, *independent_units(cells)


def _predicted(folder: Path, images: Pixels) -> NDArray[np.int64]:
    card, network = load_network(folder)
    return np.asarray(logits(network, images, card.symmetries).argmax(axis=1), np.int64)
