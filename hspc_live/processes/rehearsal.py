"""A process's part in a fault plan: its injector, and what tells the supervisor what was really done.

Injectors work in threads, a process's line to its supervisor does not: what they tell waits here for the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

from hspc_live.core.clock import NS_PER_S
from hspc_live.faults.schedule import Injector, Tell
from hspc_live.faults.system import ProcessFaults
from hspc_live.processes.child import Child
from hspc_live.settings.faults import FaultPlan
from hspc_live.wire.messages import Injected

TURN_S = 0.02

Turn = Callable[[], None]


def process_faults(plan: FaultPlan | None, elapsed_s: Callable[[], float | None], tell: Tell) -> ProcessFaults | None:
    """What the supervisor does to its processes; None where there is no fault plan."""
    return None if plan is None else ProcessFaults(Injector(plan, elapsed_s, tell))


@contextlib.asynccontextmanager
async def rehearsing(child: Child) -> AsyncIterator[tuple[Injector, list[Turn]] | None]:
    """The process's injector, and a list of what is to be called again and again; None where there is no fault plan."""
    plan = child.plan.faults
    if plan is None:
        yield None
        return
    told: deque[Injected] = deque()
    turns: list[Turn] = []

    def elapsed_s() -> float | None:
        return None if child.began_ns is None else (time.perf_counter_ns() - child.began_ns) / NS_PER_S

    async def tell() -> None:
        while True:
            for turn in turns:
                turn()
            while told:
                child.tell(told.popleft())
            await asyncio.sleep(TURN_S)

    telling = asyncio.create_task(tell())
    try:
        yield Injector(plan, elapsed_s, lambda name, detail: told.append(Injected(name, detail))), turns
    finally:
        telling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await telling
        while told:
            child.tell(told.popleft())
