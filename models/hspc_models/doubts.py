"""What makes an evaluation doubtful, and must be read before its figures are believed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from hspc_models.card import Card
from hspc_models.controls import BACKGROUND, HOG, NETWORK, SIZE
from hspc_models.judged import Chosen

SUSPICIOUS: Final = 0.01
"""p of the background control from which on the classes are said to be mixed up with how they were filmed."""

_FEW_CELLS, _FEW_GROUPS = 30, 5


def doubts(
    found: dict[str, Any], controls: dict[str, Any], overlap: dict[str, Any], chosen: Chosen, card: Card
) -> Iterator[str]:
    """In words, the worst first; from plain data of `judged`, of `Controls` and of `overlap`."""
    if not found["verdict"]["separable"]:
        yield f"the model {found['verdict']['words']}"
    for pair in found["pairs"] if len(chosen.present) > 2 else ():
        if not pair["separable"]:
            yield f"among these classes it {pair['words']}"
    classifiers = controls.get("classifiers", {})
    background, network = classifiers.get(BACKGROUND), classifiers.get(NETWORK)
    # a stricter test than the verdicts': of data sets in order, one in a hundred may be called suspicious
    if background and background["above_chance"] and background["p"] <= SUSPICIOUS:
        yield (
            f"CLASSES AND RECORDING CONDITIONS MAY BE MIXED UP: the corners of the crops alone, without the cell, tell "
            f"the classes apart (balanced accuracy {background['balanced_accuracy']['value']:.3f}, chance "
            f"{controls['chance']:.3f}, network {network['balanced_accuracy']['value']:.3f}). Either the classes were "
            "filmed at different light, focus or noise, or a cell's light reaches the corners; film all classes in "
            "every experiment, or cut larger crops, and look at the crops with `hspc-live dataset inspect`"
        )
    for name in (SIZE, HOG) if network else ():
        if classifiers[name]["balanced_accuracy"]["value"] >= network["balanced_accuracy"]["value"]:
            yield f"{name} is as good as the network on these cells"
    if chosen.missing:
        yield f"no cells of {', '.join(chosen.missing)}: averages are over {', '.join(chosen.present)}"
    if len(chosen.cells) < _FEW_CELLS:
        yield f"few cells ({len(chosen.cells)}): read the intervals, not the rates"
    if chosen.unit == "groups" and len(np.unique(chosen.cells.groups)) < _FEW_GROUPS:
        yield f"{len(np.unique(chosen.cells.groups))} groups only: intervals over so few are wide and rough"
    if set(found["confusion_rows"]) != set(card.classes) and not chosen.missing:
        yield (
            "judged on some of the model's classes only; its scores are kept as they are, so it may say any class: "
            f"{', '.join(card.classes)}"
        )
    if overlap.get("copies"):
        yield (
            f"{overlap['copies']} of {overlap['n']} cells are copies of crops in {overlap['with']}: figures are too "
            "good, unless training held those out"
        )
