"""From objects of the mosaic to verdicts: gates and abstention as in flow, then the picking list; and the books.

Pure. Objects are judged in the order of their numbers, which the scan fixes, so that a gate that ranks gives the same
verdicts whenever it is asked.

    frames   captured = processed + dropped{} + lost{}
    views    detected = classified + rejected{} + skipped{}
    cells    tracked = listed + passed + abstained + left_out{} + unresolved{}      (as many as the mosaic has objects)
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hspc_live.core.chamber import GLOW, ChamberCell, ChamberOutcome
from hspc_live.core.values import Classification
from hspc_live.settings.sort import AbstainSettings, Outlet, PromiseGate, ScoreGate
from hspc_live.stages.gate import GateSet, doubt, leaves
from hspc_live.stages.ledger import FrameBook, ViewBook
from hspc_live.stages.mosaic import Seen
from hspc_live.stages.picking import PickingList, Wanted

Key = tuple[int, int]
"""A view: visit and row."""


@dataclass(frozen=True, slots=True)
class Judged:
    """An object's verdict before picking: an outcome other than WANTED (None) is final."""

    seen: Seen
    outcome: ChamberOutcome | None
    reason: str
    outlet: str | None
    classification: Classification | None
    features: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the views: scores of the classified ones, why the others are not, and what was measured."""

    scores: Mapping[Key, tuple[float, ...]]
    refused: Mapping[Key, str]
    features: Mapping[Key, Mapping[str, float]]


def judge_objects(
    objects: Sequence[Seen],
    evidence: Evidence,
    gates: GateSet,
    abstain: AbstainSettings,
    classes: tuple[str, ...],
) -> list[Judged]:
    """One verdict for each object, in their order."""
    judged = []
    for seen in objects:
        key = (seen.kept.field, seen.kept.view)
        features, scores = evidence.features[key], evidence.scores.get(key)
        if scores is None:
            judged.append(Judged(seen, ChamberOutcome.UNRESOLVED, evidence.refused[key], None, None, features))
            continue
        best = max(scores)
        said = Classification(seen.number, scores, classes[scores.index(best)], 1)
        if (unsure := doubt(best, 1, abstain)) is not None:
            judged.append(Judged(seen, ChamberOutcome.ABSTAINED, unsure, None, said, features))
            continue
        outlet = gates.decide(scores, features)
        outcome, reason = (ChamberOutcome.PASSED, "no_gate") if outlet is None else (None, "gate")
        judged.append(Judged(seen, outcome, reason, outlet, said, features))
    return judged


def wanted(
    judged: Iterable[Judged],
    outlets: Mapping[str, Outlet],
    classes: tuple[str, ...],
    channels: Sequence[str] = (),
) -> list[Wanted]:
    """The cells that a gate wants, ranked by the best score among the classes that the gate asks for.

    `channels` are those of fluorescence whose light goes onto the list.
    """
    found = []
    for one in judged:
        if one.outcome is None and one.outlet is not None and one.classification is not None:
            scores = one.classification.scores
            asked = [
                leaf.class_name
                for leaf in leaves(outlets[one.outlet].gate)
                if isinstance(leaf, ScoreGate | PromiseGate)
            ]
            rank = max((scores[classes.index(name)] for name in asked), default=max(scores))
            diameter_um = one.features["diameter_um"]
            predicted = one.classification.predicted
            glow = tuple(one.features.get(GLOW + name, math.nan) for name in channels)
            found.append(Wanted(one.seen.number, one.outlet, predicted, scores, rank, diameter_um, glow))
    return found


def close_cells(judged: Iterable[Judged], listed: PickingList) -> list[ChamberCell]:
    """The last word on every object, once it is known which of the wanted ones are on the list."""
    left_out = {number: reason.value for number, reason in listed.left_out}
    order = {pick.cell: pick.order for pick in listed.picks}
    cells = []
    for one in judged:
        seen, outcome, reason = one.seen, one.outcome, one.reason
        if outcome is None:
            missing = left_out.get(seen.number)
            outcome = ChamberOutcome.LISTED if missing is None else ChamberOutcome.LEFT_OUT
            reason = missing or reason
        looks = tuple((look.field, look.view) for look in seen.looks)
        cells.append(
            ChamberCell(
                seen.number, seen.x_um, seen.y_um, seen.sd_um, seen.radius_um, seen.seen_ns, seen.kept.field,
                seen.kept.view, looks, outcome, reason, one.outlet, one.classification, one.features,
                order.get(seen.number),
            )
        )  # fmt: skip
    return cells


def decisions_sha256(cells: Iterable[ChamberCell]) -> str:
    """Fingerprint of the verdicts, in the order of the cells: looks, outcome, reason, outlet, predicted class.

    As in flow, no number that a clock or rounding could change goes in (`verdicts.decision_bytes`).
    """
    digest = hashlib.sha256()
    for cell in cells:
        looks = " ".join(f"{visit}.{view}" for visit, view in cell.looks)
        predicted = "" if cell.classification is None else cell.classification.predicted
        fields = (f"{cell.visit}.{cell.view}", looks, str(cell.outcome), cell.reason, cell.outlet or "", predicted)
        digest.update("\x1f".join(fields).encode() + b"\x1e")
    return digest.hexdigest()


@dataclass(slots=True)
class ChamberBooks:
    """The books of a chamber run. `objects` is the mosaic's own count of what the cells must add up to."""

    frames: FrameBook = field(default_factory=FrameBook)
    views: ViewBook = field(default_factory=ViewBook)
    outcomes: Counter[ChamberOutcome] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    unresolved: Counter[str] = field(default_factory=Counter)
    doubts: Counter[str] = field(default_factory=Counter)
    objects: int = 0

    def close(self, cells: Iterable[ChamberCell]) -> None:
        """Book every cell."""
        for cell in cells:
            self.outcomes[cell.outcome] += 1
            if cell.outcome is ChamberOutcome.LEFT_OUT:
                self.left_out[cell.reason] += 1
            elif cell.outcome is ChamberOutcome.UNRESOLVED:
                self.unresolved[cell.reason] += 1
            elif cell.outcome is ChamberOutcome.ABSTAINED:
                self.doubts[cell.reason] += 1

    def violations(self) -> list[str]:
        """The equations that do not hold, in words; empty if all do."""
        frames, views, cells = self.frames, self.views, self.outcomes
        sides = (
            ("frames: captured", frames.captured, frames.processed + frames.dropped.total() + frames.lost.total()),
            ("views: detected", views.detected, views.classified + views.rejected.total() + views.skipped.total()),
            ("cells: tracked", self.objects, cells.total()),
            ("cells: left out", cells[ChamberOutcome.LEFT_OUT], self.left_out.total()),
            ("cells: unresolved", cells[ChamberOutcome.UNRESOLVED], self.unresolved.total()),
            ("cells: abstained", cells[ChamberOutcome.ABSTAINED], self.doubts.total()),
        )
        return [f"{name} {left}, but {right} are booked" for name, left, right in sides if left != right]

    def to_json(self) -> dict[str, Any]:
        """The books as in every summary; reasons in alphabetical order."""
        frames, views, cells = self.frames, self.views, self.outcomes
        return {
            "frames": {
                "captured": frames.captured,
                "processed": frames.processed,
                "dropped": dict(sorted(frames.dropped.items())),
                "lost": dict(sorted(frames.lost.items())),
            },
            "views": {
                "detected": views.detected,
                "classified": views.classified,
                "rejected": dict(sorted(views.rejected.items())),
                "skipped": dict(sorted(views.skipped.items())),
            },
            "cells": {
                "tracked": self.objects,
                "listed": cells[ChamberOutcome.LISTED],
                "passed": cells[ChamberOutcome.PASSED],
                "abstained": cells[ChamberOutcome.ABSTAINED],
                "left_out": dict(sorted(self.left_out.items())),
                "unresolved": dict(sorted(self.unresolved.items())),
            },
        }
