"""When the faults of a plan strike: by frame, by second, or at a rate drawn from the plan's seed.

The same plan and seed give the same times in every run. What was really done is told to `tell`, and counted for the
summary's `faults.injected`; what was only planned is not.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from hspc_live.settings.faults import FaultPlan, FrameWhen, When

Tell = Callable[[str, str], None]
"""Takes the name that a fault is counted under, and what was done; called from any thread."""

F = TypeVar("F", bound=When)


class Strikes:
    """When one fault strikes. `seed` is the plan's with the fault's place in it."""

    def __init__(self, when: When, seed: str) -> None:
        self._rate = when.per_s
        self._left = 1 if when.per_s is None else math.inf if when.most is None else when.most
        self._at_frame = when.at_frame if isinstance(when, FrameWhen) else None
        self._random = random.Random(seed)
        self._at_s = math.inf if when.at_s is None else when.at_s
        if self._rate is not None:
            self._at_s = self._random.expovariate(self._rate)

    def due(self, elapsed_s: float, frame: int | None = None) -> bool:
        """Whether it strikes now; asked once, it has struck."""
        if self._left <= 0:
            return False
        now = frame is not None and frame >= self._at_frame if self._at_frame is not None else elapsed_s >= self._at_s
        if now:
            self._left -= 1
            if self._rate is not None:
                self._at_s += self._random.expovariate(self._rate)
        return now


class Injector:
    """The faults of one process. `elapsed_s` gives the seconds since the run came under way, None before that.

    A device is asked for its faults from one thread; other devices of the same process may be asked from others.
    """

    def __init__(self, plan: FaultPlan, elapsed_s: Callable[[], float | None], tell: Tell) -> None:
        self._elapsed_s = elapsed_s
        self._tell = tell
        self._lock = threading.Lock()
        self.seed = plan.seed
        self._timed = [
            (fault, Strikes(fault, f"{plan.seed}/{place}"))
            for place, fault in enumerate(plan.faults)
            if isinstance(fault, When)
        ]

    def due(self, kind: type[F] | tuple[type[F], ...], frame: int | None = None) -> Iterator[F]:
        """The faults of this kind that strike now."""
        elapsed_s = self._elapsed_s()
        if elapsed_s is None:
            return
        for fault, strikes in self._timed:
            if isinstance(fault, kind) and strikes.due(elapsed_s, frame):
                yield fault

    def done(self, fault: When, detail: str = "") -> None:
        """One was really done."""
        with self._lock:
            self._tell(fault.name, detail)
