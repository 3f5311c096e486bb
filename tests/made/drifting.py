"""Engines that begin to score otherwise in mid-run, and a sort process that has one: what the canary is there for."""

from __future__ import annotations

from hspc_live import wiring
from hspc_live.processes.plan import RunPlan
from hspc_models.engines.null import ImmediateEngine
from hspc_models.open_engine import Opened

CLASSES = ("LT-HSC", "ST-HSC", "MPP")


class Drifting(ImmediateEngine):
    """Sound for its first `sound` calls; from then on its first score falls, though every gate would still take it."""

    def __init__(self, sound: int) -> None:
        super().__init__(CLASSES)
        self.sound = sound

    def infer(self, crops):
        self.sound -= 1
        scores = super().infer(crops)
        if self.sound < 0:
            scores[:, 0] -= 0.1
            scores[:, 1] += 0.1
        return scores


def drifting_sort(plan: RunPlan, role: str) -> None:
    """`wiring.sort_process` with such an engine; a module function, because `spawn` looks it up by name."""
    wiring.open_proven = lambda settings: Opened(Drifting(40))
    wiring.sort_process(plan, role)
