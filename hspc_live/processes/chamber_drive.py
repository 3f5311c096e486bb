"""The stage at a person's hand, once the run has nothing more to do with it: to a place, and a picture of it.

Every drive is checked as those of a scan are, comes from the same side, and ends in a picture that stands still. While
the run itself moves the stage nobody else does.
"""

from __future__ import annotations

import asyncio

from hspc_live.core.chamber import Visit
from hspc_live.core.errors import HspcError
from hspc_live.processes.chamber_io import FieldSource
from hspc_live.processes.chamber_showing import ChamberShowing

PATIENCE_S = 10.0
"""So long an answer waits for the stage to arrive; what comes later is shown."""


class Driver:
    """`source` has the stage. `no_driving` says why it cannot be driven just now; empty from when it is let go."""

    def __init__(self, source: FieldSource, showing: ChamberShowing | None, why_not: str) -> None:
        self._source, self._showing = source, showing
        self._under_way: asyncio.Task[Visit] | None = None
        self._why_not = why_not
        self.driven = ""

    @property
    def no_driving(self) -> str:
        """Why a drive would be refused now."""
        return self._why_not or (self.driven if self._under_way is not None else "")

    def let_go(self) -> None:
        """From now on people may drive."""
        self._why_not = ""

    async def take_back(self, why_not: str) -> None:
        """Refuse what comes from now on, and wait for what is under way."""
        self._why_not = why_not
        if self._under_way is not None:
            await asyncio.wait({self._under_way})

    async def drive(self, x_um: float, y_um: float) -> str:
        """Send the stage there; what came of it, in words. Raises HspcError with the reason where it is refused.

        Cancelling it does not halt the stage.
        """
        if self.no_driving:
            raise HspcError(f"the stage is not driven: {self.no_driving}")
        place = f"({x_um:.1f}, {y_um:.1f}) µm"
        self.driven = f"on its way to {place}"
        task = self._under_way = asyncio.create_task(asyncio.to_thread(self._source.look_at, x_um, y_um))
        task.add_done_callback(lambda done: self._arrived(done, place))
        await asyncio.wait({task}, timeout=PATIENCE_S)
        if not task.done():
            return self.driven
        if (error := task.exception()) is not None:
            raise error
        return self.driven

    def _arrived(self, task: asyncio.Task[Visit], place: str) -> None:
        self._under_way = None
        if (error := task.exception()) is not None:
            self.driven = f"not at {place}: {error}"
            return
        visit = task.result()
        blind = "" if visit.pictures else f", but its picture never stood still ({visit.settled.reason})"
        self.driven = f"the stage stands at ({visit.x_um:.1f}, {visit.y_um:.1f}) µm{blind}"
        if self._showing is not None:
            self._showing.picture(visit)
