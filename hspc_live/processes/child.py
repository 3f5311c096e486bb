"""The life of one process of a run, as its supervisor sees it.

`run_child` is what `spawn` starts: it connects to the supervisor, runs one coroutine and makes sure that however that
ends (normally, with an error, or because the parent is gone) the supervisor is told or the process ends by itself.
Ctrl-C belongs to the supervisor: a child ignores it and waits to be told.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

from hspc_live.core.errors import HspcError, WireError
from hspc_live.processes.plan import RunPlan
from hspc_live.wire.codec import Decoder, encode
from hspc_live.wire.links import Link, open_dealer
from hspc_live.wire.messages import (
    Beat,
    Failed,
    Go,
    Prepare,
    Prepared,
    Quit,
    Ready,
    RecorderGone,
    Report,
    Said,
    ToChild,
)

BEAT_S = 0.2
PARENT_CHECK_S = 1.0
VISIT_S = 10.0

T = TypeVar("T", bound=Struct)


class Child:
    """A child's line to its supervisor."""

    def __init__(self, control: str, role: str, plan: RunPlan | None) -> None:
        self._plan = plan
        self.role = role
        self._link: Link = open_dealer(control, role.encode())
        self._decoder = Decoder[ToChild](ToChild)
        self._parent = os.getppid()
        # a guest is nobody's child: it knows that the run is over by the socket, which goes with the run's folder
        self._socket = Path(control.removeprefix("ipc://")) if plan is None and control.startswith("ipc://") else None
        self._held: list[Struct] = []
        self._last_beat = 0.0
        self._last_parent_check = 0.0
        self.quit = False
        self.recorder_gone = False
        self.began_ns: int | None = None  # when it was told to go

    @property
    def welcome(self) -> bool:
        """Whether the supervisor has let this process in."""
        return self._plan is not None

    @property
    def plan(self) -> RunPlan:
        """The run's plan. A worker that joined from outside has it only after `ready`."""
        if self._plan is None:
            raise RuntimeError("the plan is not known before the supervisor has answered")
        return self._plan

    def tell(self, message: Struct) -> None:
        """Send one control message; control is never flooded, so a full queue is an error worth dying of."""
        run = self._plan.run_id if self._plan is not None else ""
        if not self._link.try_send(encode(message, run=run)):
            raise ConnectionError("the supervisor does not take messages any more")

    def say(self, kind: str, text: str) -> None:
        """A line for the person at the terminal."""
        self.tell(Said(kind, text))

    def pump(self) -> list[Struct]:
        """`turn`, and everything the supervisor has sent since the last `pump`. Call it often from the work loop."""
        self.turn()
        messages, self._held = self._held, []
        return messages

    def turn(self) -> None:
        """Beat if it is time, notice a dead parent, a Quit and the recorder's end. For waits inside the work loop.

        What else the supervisor sends meanwhile is kept for `pump`, so that no Disarm is lost in a wait.
        """
        now = asyncio.get_running_loop().time()
        if now - self._last_beat >= BEAT_S:
            self._last_beat = now
            self.tell(Beat())
        if now - self._last_parent_check >= PARENT_CHECK_S:
            self._last_parent_check = now
            if os.getppid() != self._parent or (self._socket is not None and not self._socket.exists()):
                raise ParentGoneError
        while (got := self._link.try_recv()) is not None:
            message = self._decoder.decode(got[1]).message
            self.quit = self.quit or isinstance(message, Quit)
            self.recorder_gone = self.recorder_gone or isinstance(message, RecorderGone)
            self._held.append(message)

    async def ready(self, detail: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
        """Report ready, wait for everyone; returns what each role reported. Raises QuitError if called off."""
        self.tell(Ready(self.role, os.getpid(), json.dumps(detail or {})))
        message = await self._wait_for(Prepare)
        if self._plan is None:
            self._plan = RunPlan.from_json(message.plan)
        facts: dict[str, dict[str, Any]] = json.loads(message.facts)
        return facts

    async def prepared(self) -> None:
        """Report prepared and wait for Go. Raises QuitError if called off."""
        self.tell(Prepared())
        await self._wait_for(Go)
        self.began_ns = time.perf_counter_ns()

    async def _wait_for(self, kind: type[T]) -> T:
        while True:
            messages = self.pump()
            for position, message in enumerate(messages):
                if isinstance(message, kind):
                    self._held = messages[position + 1 :]  # what came behind it belongs to the main loop
                    return message
            if self.quit:
                raise QuitError
            await asyncio.sleep(0.01)

    async def until_quit(self) -> None:
        """Keep beating until the supervisor says Quit."""
        while not self.quit:
            self.turn()
            await asyncio.sleep(0.02)

    def close(self) -> None:
        """Send what is still queued and let go."""
        self._link.close()


class QuitError(Exception):
    """The supervisor called the run off."""


class ParentGoneError(Exception):
    """The supervisor's process has died; so must this one."""


Main = Callable[[Child], Awaitable[dict[str, Any]]]


def run_child(plan: RunPlan, role: str, main: Main) -> None:
    """Run `main` as process `role`; ends the process with 0, or 1 after telling the supervisor what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = Child(plan.control, role, plan)
    code = 0
    try:
        asyncio.run(_run(child, main))
    except QuitError:
        pass
    except ParentGoneError:
        for folder in (plan.ring_folder, plan.folder):  # the parent cannot remove them any more
            shutil.rmtree(folder, ignore_errors=True)
        code = 1
    except HspcError as error:
        child.tell(Failed(type(error).__name__, str(error)))
        code = 1
    except Exception as error:  # the last stand of a process: whatever it is, the supervisor must hear of it
        traceback.print_exc(file=sys.stderr)
        child.tell(Failed(type(error).__name__, f"{role}: {type(error).__name__}: {error}"))
        code = 1
    finally:
        child.close()
    sys.exit(code)


async def _run(child: Child, main: Main) -> None:
    report = await main(child)
    child.tell(Report(json.dumps(report)))
    await child.until_quit()


async def run_visitor(control: str, role: str, main: Main) -> None:
    """Join a run under way as `role`, from a process that its supervisor did not start; ends with the run.

    Raises WireError when nobody answers at `control` in time.
    """
    child = Child(control, role, None)
    report = asyncio.ensure_future(main(child))
    try:
        deadline = asyncio.get_running_loop().time() + VISIT_S
        while not report.done():
            await asyncio.wait({report}, timeout=0.1)
            if not child.welcome and asyncio.get_running_loop().time() > deadline:
                report.cancel()
                raise WireError(f"nobody answers at {control}: is a run under way there?")
        await report
    except QuitError:
        pass
    except ParentGoneError:
        if not child.welcome:
            raise WireError(f"nobody answers at {control}: is a run under way there?") from None
    finally:
        report.cancel()  # Ctrl-C: the work ends before its link does
        await asyncio.gather(report, return_exceptions=True)
        child.close()
