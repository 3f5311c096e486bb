"""What became of an object of the chamber, in words for a person: in tables, beside cells, in the files of a run."""

from __future__ import annotations

from typing import Final

from hspc_live.core.chamber import ChamberCell, ChamberOutcome
from hspc_live.report.field_overlay import WORDS
from hspc_live.stages.picking import LeftOut

LEFT_OUT: Final = {
    LeftOut.NEIGHBOUR_TOO_NEAR: "a neighbour too near",
    LeftOut.SURROUNDINGS_UNSEEN: "surroundings not seen",
    LeftOut.POSITION_UNCERTAIN: "place too uncertain",
    LeftOut.EXPIRED: "seen too long ago",
    LeftOut.OUT_OF_REACH: "out of the stage's reach",
    LeftOut.OVER_TOP: "better ones fill the list",
}
"""Why a wanted cell is not on the picking list."""

WHY: Final = {
    LeftOut.NEIGHBOUR_TOO_NEAR: "another object lies so near that a pick would take it along",
    LeftOut.SURROUNDINGS_UNSEEN: "it lies at the edge of every picture of it, and what lies beyond was not seen",
    LeftOut.POSITION_UNCERTAIN: "its place is not sure enough for a pick to hit it",
    LeftOut.EXPIRED: "it was seen so long ago that it may have crept away",
    LeftOut.OUT_OF_REACH: "the stage cannot go there",
    LeftOut.OVER_TOP: "the list has room for only so many, and others score better",
}
"""The same in a sentence."""

OUTCOMES: Final = {
    ChamberOutcome.LISTED: "on the picking list",
    ChamberOutcome.PASSED: "not wanted by any gate",
    ChamberOutcome.ABSTAINED: "not sure enough which class",
    ChamberOutcome.LEFT_OUT: "wanted, but cannot be picked",
    ChamberOutcome.UNRESOLVED: "not recognised",
}

UNUSABLE: Final = "the model gave no usable score"


def seen_as(reason: str) -> str:
    """Why segmentation or model left an object without a class."""
    words: dict[str, str] = {str(key): text for key, text in WORDS.items()}
    return words.get(reason, UNUSABLE if reason in ("nan_scores", "engine_drift") else reason.replace("_", " "))


def why(cell: ChamberCell) -> str:
    """Why a cell is not on the picking list; nothing where it is."""
    match cell.outcome:
        case ChamberOutcome.LEFT_OUT:
            return WHY[LeftOut(cell.reason)]
        case ChamberOutcome.UNRESOLVED:
            return seen_as(cell.reason)
        case _:
            return ""
