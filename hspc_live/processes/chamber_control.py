"""Who knocks at a chamber run from outside: how it stands, end it after this field, stop it now.

The run is one process, so it answers by itself, in its own loop. Its socket lies in a folder that only this user can
enter, as that of a flow does, and is found in the same way (`wire.address.running`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from collections.abc import Iterator
from typing import Any, Protocol, assert_never

from hspc_live.core.errors import HspcError, WireError
from hspc_live.wire.codec import Decoder, encode
from hspc_live.wire.intake import BURST
from hspc_live.wire.links import Link, Publisher, endpoint, open_pub, open_router, private_folder
from hspc_live.wire.messages import (
    CONTROL_BYTES,
    Answer,
    ArmNow,
    AskRun,
    AskStatus,
    DisarmNow,
    DriveStage,
    EndRun,
    Pace,
    SetGates,
    StopNow,
)

Quick = ArmNow | DisarmNow | SetGates | AskStatus | AskRun | Pace | EndRun | StopNow
Knock = Quick | DriveStage

NO_ARMING = "a chamber run does not arm: nothing is deflected, it makes a list"
NO_GATES = (
    "a chamber's gates stay as they are while it is scanned; for a list by other gates replay the recording: "
    "hspc-live replay RECORDING --config FILE"
)


class Controlled(Protocol):
    """What a run lets a person do."""

    def standing(self) -> dict[str, Any]:
        """How it stands, JSON-ready."""
        ...

    def about(self) -> str | None:
        """What the run is, as the JSON text of a `ChamberHead`; None while nobody can look on."""
        ...

    async def drive(self, x_um: float, y_um: float, by: str) -> str:
        """Send the stage there; what came of it, in words. Raises HspcError with the reason where it is refused."""
        ...

    def end(self, by: str) -> None:
        """End after the field under way and list what was seen."""
        ...

    def stop(self, by: str) -> None:
        """Halt the stage now; no list is made. Raises HspcError if the stage does not take it."""
        ...


@contextlib.contextmanager
def run_sockets() -> Iterator[tuple[Link, Publisher]]:
    """Where a run can be reached, and where it can be looked at, for as long as the context lasts.

    Raises WireError, OSError.
    """
    folder = private_folder()
    try:
        with (
            open_router(
                endpoint(folder, "control"), handover=False, max_incoming_bytes=CONTROL_BYTES, max_incoming_parts=1
            ) as link,
            open_pub(endpoint(folder, "show")) as shown,
        ):
            yield link, shown
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def serve(link: Link, run: Controlled) -> None:
    """Answer every wish, until cancelled."""
    decoder = Decoder[Knock](Knock)
    drives: set[asyncio.Task[None]] = set()
    while True:
        await link.wait_readable()
        for _ in range(BURST):
            if (got := link.try_recv()) is None:
                break
            sender, parts = got
            assert sender is not None  # a router names who speaks
            name = sender.decode(errors="replace")
            try:
                wish = decoder.decode(parts).message
            except WireError as error:  # a worker that wants to join, or a program of another version
                answer = Answer(name, False, f"a chamber run cannot do that: {error}", "WireError")
            else:
                if isinstance(wish, DriveStage):  # takes its time; other wishes, STOP above all, are heard meanwhile
                    task = asyncio.create_task(_drive(link, sender, wish, run))
                    drives.add(task)
                    task.add_done_callback(drives.discard)
                    continue
                try:
                    answer = _answer(name, wish, run)
                except Exception as error:  # whatever goes wrong with one wish, the next is heard: it may be STOP
                    answer = _failed(name, error)
            link.try_send(encode(answer), to=sender)
        await asyncio.sleep(0)  # under a flood, too, the run comes to its turn


async def _drive(link: Link, sender: bytes, wish: DriveStage, run: Controlled) -> None:
    name = sender.decode(errors="replace")
    try:
        answer = Answer(name, True, await run.drive(wish.x_um, wish.y_um, wish.by))
    except Exception as error:  # a bug, too, is told: who waits for the answer must not wait for ever
        answer = _failed(name, error)
    with contextlib.suppress(WireError):  # the run has ended meanwhile, and its link with it
        link.try_send(encode(answer), to=sender)


def _failed(name: str, error: Exception) -> Answer:
    if isinstance(error, HspcError):
        return Answer(name, False, str(error), type(error).__name__)
    return Answer(name, False, f"{type(error).__name__}: {error}", "HspcError")


def _answer(name: str, wish: Quick, run: Controlled) -> Answer:
    match wish:
        case AskStatus():
            return Answer(name, True, "running", detail=json.dumps(run.standing()))
        case AskRun():
            if (about := run.about()) is None:
                return Answer(name, False, "the run is still starting: try again", "HspcError")
            return Answer(name, True, "running", detail=f'{{"mode": "chamber", "head": {about}}}')
        case Pace():
            return Answer(name, False, "a chamber run is not held; only the replay of a flow is", "HspcError")
        case EndRun(by):
            run.end(by)
            return Answer(name, True, "ending after this field; what was seen is listed")
        case StopNow(by):
            run.stop(by)
            return Answer(name, True, "stopping")
        case ArmNow():
            return Answer(name, False, NO_ARMING, "ArmingError")
        case DisarmNow():
            return Answer(name, True, NO_ARMING)
        case SetGates():
            return Answer(name, False, NO_GATES, "SettingsError")
        case _:
            assert_never(wish)
