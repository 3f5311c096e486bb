"""How long the trainings of a learning curve take, and how many of them a budget of minutes holds. Pure.

A training's time is taken to be a share for every crop shown and one for its start and end; both are learnt from the
trainings that are done, so the first one of all is begun without knowing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

OVERRUN: Final = 1.25
"""How far beyond its budget a first repeat may go that turns out slower than foreseen: else all was for nothing."""


@dataclass(frozen=True, slots=True)
class Spent:
    """One training: `shown` crops passed the network at `crops_per_s`, in `seconds` from its start to its verdict."""

    shown: int
    crops_per_s: float
    seconds: float


@dataclass(slots=True)
class Budget:
    """`seconds` that one start may take (None: any time). `spent` are the trainings done, also by earlier starts."""

    seconds: float | None
    spent: list[Spent] = field(default_factory=list)

    @property
    def known(self) -> bool:
        """Whether anything can be foreseen."""
        return bool(self.spent)

    def cost(self, shown: int) -> float:
        """Seconds that a training of so many shown crops will take; ValueError before the first is done."""
        if not self.spent:
            raise ValueError("no training is done, so nothing is known of their time")
        pace = sum(one.shown / one.crops_per_s for one in self.spent) / sum(one.shown for one in self.spent)
        overhead = sum(max(0.0, one.seconds - one.shown / one.crops_per_s) for one in self.spent) / len(self.spent)
        return shown * pace + overhead

    def repeats_that_fit(self, elapsed: float, by_repeat: Sequence[Sequence[int]]) -> int:
        """How many of the repeats (each the crops shown of its trainings still to do) fit in what is left."""
        if self.seconds is None or not self.known:
            return len(by_repeat)
        left = self.seconds - elapsed
        for number, repeat in enumerate(by_repeat):
            left -= sum(self.cost(shown) for shown in repeat)
            if left < 0:
                return number
        return len(by_repeat)

    def allows(self, elapsed: float, repeat: Sequence[int], first: bool) -> bool:
        """Whether the trainings of a repeat that are still to do may be gone on with."""
        if self.seconds is None or not self.known:
            return True
        limit = self.seconds * (OVERRUN if first else 1.0)
        return elapsed + sum(self.cost(shown) for shown in repeat) <= limit


def minutes(seconds: float) -> str:
    """A time for a person: seconds below a minute and a half, else whole minutes, rounded up."""
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{math.ceil(seconds / 60)} min"
