"""Who knocks at a running pipeline's control socket from outside: guest workers, and people with a wish.

Only this user can reach the socket (it lies in the run's private folder). A wish is passed to *sort*, marked with the
name of the visitor, whose answer the supervisor passes back; to end or stop the run is the supervisor's own doing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from hspc_live.wire.intake import Rate
from hspc_live.wire.messages import (
    WORKERS,
    Answer,
    ArmNow,
    AskRun,
    AskStatus,
    Beat,
    DisarmNow,
    DriveStage,
    EndRun,
    Go,
    Pace,
    Prepare,
    Prepared,
    Ready,
    SetGates,
    StopNow,
    ToSupervisor,
)

WISHES_PER_S = 50.0
WISHES_BURST_S = 4.0
MOST_GUESTS = 64

Send = Callable[[str, Struct], None]


class Visitors:
    """`guests` are the segment workers that joined; `send(name, message)` reaches a child or a visitor.

    `refuse(reason)` counts what is too much: all visitors together have a rate, so that a flood of wishes cannot fill
    the queue to *sort* in which the one wish to disarm must find room. Disarming has a rate of its own, which nothing
    else uses up; ending and stopping fill no queue and are never refused.
    """

    def __init__(
        self, send: Send, listen: Callable[[str, str, str], None], refuse: Callable[[str], None] = lambda _: None
    ) -> None:
        self._send = send
        self._listen = listen
        self._refuse = refuse
        self._rate = Rate(WISHES_PER_S, WISHES_BURST_S)
        self.guests: set[str] = set()

    def take(
        self, name: str, message: ToSupervisor, prepare: Prepare | None, *, ending: bool
    ) -> EndRun | StopNow | Pace | None:
        """What `name`, who is no child, wants; an EndRun, StopNow or Pace is the caller's to do.

        `prepare` tells a guest about the run; None while the run is not under way: nobody is let in then. A run that is
        `ending` is neither armed nor given other gates any more. A guest that falls silent is found by acquire, whose
        leases it holds.
        """
        if not isinstance(message, Beat | EndRun | StopNow):
            bucket = b"disarm" if isinstance(message, DisarmNow) else b""
            if not self._rate.admits(bucket, time.monotonic()):
                self._refuse("too_fast")
                return None
        match message:
            case Ready() if name.startswith(WORKERS.decode()) and prepare is not None:
                if len(self.guests) >= MOST_GUESTS:
                    self._refuse("too_many")
                    return None
                self.guests.add(name)
                self._listen(name, "joined", f"process {message.pid}")
                self._send(name, prepare)
            case Prepared() if name in self.guests:
                self._send(name, Go())
            case ArmNow() | SetGates() if prepare is not None and ending:
                self._send(name, Answer(name, False, "the run is ending", "ArmingError"))
            case ArmNow() | DisarmNow() | SetGates() | AskStatus() if prepare is not None:
                self._send("sort", replace(message, asked_by=name))
            case AskRun() if prepare is not None:
                detail = f'{{"facts": {prepare.facts}, "plan": {prepare.plan}}}'  # both are JSON text
                self._send(name, Answer(name, True, "running", detail=detail))
            case Pace(frames) if prepare is not None:
                if json.loads(prepare.plan)["live"]:
                    text = "what flows past a live camera cannot be held; only a replay can"
                    self._send(name, Answer(name, False, text, "HspcError"))
                    return None
                text = "going on" if frames is None else f"held after {frames} more frames"
                self._send(name, Answer(name, True, text))
                return message
            case DriveStage():
                self._send(name, Answer(name, False, "a flow has no stage to drive", "HspcError"))
            case EndRun() | StopNow() if prepare is not None:
                self._send(name, Answer(name, True, "ending" if isinstance(message, EndRun) else "stopping"))
                return message
            case ArmNow() | DisarmNow() | SetGates() | AskStatus() | AskRun() | Pace() | EndRun() | StopNow():
                self._send(
                    name,
                    Answer(name, False, "the run is still starting (10 to 20 s), or ending: try again", "HspcError"),
                )
            case _:
                pass
        return None
