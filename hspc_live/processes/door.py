"""door: lets segment workers on other computers join a run, and lets in nobody and nothing else.

The only process of a run that the network can reach. Towards acquire and sort it plays, for every worker far away, a
worker of this computer: it reads the leased pixels from the ring and sends them along. What comes back counts only
if it is the whole answer to work that this very worker was given and has not answered; so whatever is repeated, late or
made up on the wire, sort has one result a frame. A worker that falls silent is dead: its frames go out once more.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from hspc_live.core.crop import CropGeometry
from hspc_live.core.errors import WireError
from hspc_live.core.values import OBJECT_DTYPE
from hspc_live.processes.child import Child
from hspc_live.processes.facts import camera_info
from hspc_live.processes.results import ResultShape, decode_results, encode_results
from hspc_live.settings.door import DoorSettings
from hspc_live.wire.codec import Decoder, Part, encode
from hspc_live.wire.intake import Intake, Rate
from hspc_live.wire.keys import Guard, read_guard
from hspc_live.wire.links import Link, open_dealer, open_router, wait_any
from hspc_live.wire.messages import WORKERS, Lease, Parted, Results, Want
from hspc_live.wire.remote import Alive, Bye, Done, Frame, Hello, Offer, ToDoor, Unknown, Welcome, Work, printable
from hspc_live.wire.ring import PixelRing, StaleSlot

LOOP_S = 0.05
ALIVE_S = 0.5
LEAST_SILENCE_S = 2.0
MOST_CREDIT = 8
JOINS_PER_S, JOINS_BURST_S = 1.0, 16.0
QUEUED = 2 * MOST_CREDIT  # messages in either direction, per worker
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


@dataclass(slots=True, eq=False)
class _Remote:
    """One worker far away; `out` is the work it has, by number: frames and when they were captured."""

    peer: bytes
    name: str
    work: Link
    heard_s: float
    credit: int = 0
    knows: int = -1
    out: dict[int, dict[int, Frame]] = field(default_factory=dict)
    frames: int = 0


class Door:
    """The loop of the process."""

    def __init__(self, child: Child, link: Link, ring: PixelRing, facts: dict[str, dict[str, Any]]) -> None:
        plan = child.plan
        assert plan.settings.door is not None
        self._child = child
        self._run = plan.run_id
        self._settings: DoorSettings = plan.settings.door
        self._link = link
        self._ring = ring
        self._work_at = facts["acquire"]["address"]
        self._sort = open_dealer(facts["sort"]["address"], WORKERS + child.role.encode())
        self._shape = ResultShape.of(plan.settings, facts, recorded=plan.recording is not None)
        self._welcome = _welcome(child, facts)
        self._intake = Intake[ToDoor](link, ToDoor, rate=Rate(self._settings.messages_per_s))
        self._leases = Decoder[Lease](Lease)
        self._silence_s = max(LEAST_SILENCE_S, plan.settings.pipeline.lease_timeout_s)
        self._remotes: dict[bytes, _Remote] = {}
        self._unsent: deque[list[Part]] = deque()  # results for which sort has no room yet
        self._numbers = 0
        self._alive_at = 0.0
        self._denied: set[str] = set()
        self._frames: dict[str, int] = {}  # done by those who are not here any more
        self._joins = Rate(JOINS_PER_S, JOINS_BURST_S)

    async def run(self) -> dict[str, Any]:
        """Until the supervisor says Quit."""
        while not self._child.quit:
            self._child.turn()
            await wait_any([self._link, *(remote.work for remote in self._remotes.values())], LOOP_S)
            self._pass_on()
            if not self._unsent:
                for sender, decoded in self._intake.take():
                    self._hear(sender, decoded.message, decoded.arrays)
            for remote in list(self._remotes.values()):
                self._lease(remote)
            self._look_round(time.monotonic())
        for remote in self._remotes.values():
            self._frames[remote.name] = remote.frames
        return {"frames": dict(self._frames), "refused": self._intake.refused, "denied": self._link.denied}

    def close(self) -> None:
        """Say goodbye and let go."""
        for remote in list(self._remotes.values()):
            self._tell(remote.peer, Bye("the run is over"))
            remote.work.close()
        self._remotes.clear()
        self._sort.close()

    # ---- from far away -----------------------------------------------------------------------------------------------

    def _hear(self, peer: bytes, message: ToDoor, arrays: Sequence[NDArray[Any]]) -> None:
        remote = self._remotes.get(peer)
        if remote is None:
            match message:
                case Hello(name):
                    self._let_in(peer, name)
                case Bye():
                    pass
                case _:
                    self._tell(peer, Unknown())
            return
        remote.heard_s = time.monotonic()
        match message:
            case Hello() if not remote.credit and not remote.out:  # asked twice before the welcome came
                self._tell(peer, self._welcome)
            case Hello(name):
                self._part(remote, "began anew")
                self._let_in(peer, name)
            case Offer(credit):
                self._offer(remote, credit)
            case Done(number, _):
                self._done(remote, number, message, arrays)
            case Alive():
                pass
            case Bye(why):
                self._part(remote, f"left: {printable(why)}")
            case _:
                assert_never(message)

    def _let_in(self, peer: bytes, name: str) -> None:
        if not self._joins.admits(b"", time.monotonic()):
            self._intake.refuse("too_fast")
            return  # it will say Hello again
        if NAME.fullmatch(name) is None:
            self._intake.refuse("impossible")
            self._tell(peer, Bye("a name has 1 to 32 letters, digits, '_' or '-'"))
            return
        if len(self._remotes) >= self._settings.workers:
            self._intake.refuse("too_many")
            self._tell(peer, Bye(f"{self._settings.workers} workers are here already (door.workers)"))
            return
        self._numbers += 1
        # never the name of a dead door's worker, too: acquire would take what that one held for this one's
        known_as = f"{WORKERS.decode()}{name}-{os.getpid()}-{self._numbers}"
        try:
            work = open_dealer(self._work_at, known_as.encode())
        except WireError:  # no more open files; those who are here go on
            self._intake.refuse("too_many")
            return  # it will say Hello again
        self._remotes[peer] = _Remote(peer, known_as, work, time.monotonic())
        self._tell(peer, self._welcome)
        self._child.say("joined", f"{known_as}, from another computer, by key {self._link.peer_key or 'none'}")

    def _offer(self, remote: _Remote, credit: int) -> None:
        """Work is asked for in its name, as far as one worker may."""
        if not 1 <= credit <= MOST_CREDIT - remote.credit - len(remote.out):
            self._intake.refuse("impossible")
            return
        remote.credit += credit
        remote.work.try_send(encode(Want(credit), run=self._run))

    def _done(self, remote: _Remote, number: int, done: Done, arrays: Sequence[NDArray[Any]]) -> None:
        """A result counts if it answers all of some work that this worker has, and fits this run."""
        asked = remote.out.get(number)
        if asked is None:
            self._intake.refuse("repeated")  # or never given to it
            return
        try:
            results = decode_results(Results(done.frames), arrays, self._shape)
        except WireError:
            self._intake.refuse("impossible")
            return
        told = [Frame(result.index, result.captured_ns, result.background) for result in results]
        if told != list(asked.values()):
            self._intake.refuse("impossible")
            return
        del remote.out[number]
        remote.frames += len(results)
        self._unsent.append(encode_results(results, self._run))
        self._pass_on()
        self._offer(remote, 1)

    def _pass_on(self) -> None:
        while self._unsent and self._sort.try_send(self._unsent[0]):
            self._unsent.popleft()

    # ---- to far away -------------------------------------------------------------------------------------------------

    def _lease(self, remote: _Remote) -> None:
        """Send what acquire has leased to this worker, with the pixels."""
        while (got := remote.work.try_recv()) is not None:
            decoded = self._leases.decode(got[1])
            lease = decoded.message
            remote.credit -= 1
            frames: dict[int, Frame] = {}
            pixels: list[NDArray[Any]] = []
            for ticket in lease.frames:
                try:
                    view = self._ring.view(ticket.slot, ticket.generation, lease.shape, np.dtype(lease.dtype))
                    copy = view.copy()
                except StaleSlot:
                    continue  # given up meanwhile: nobody waits for its result
                if self._ring.still_valid(ticket.slot, ticket.generation):
                    frames[ticket.index] = Frame(ticket.index, ticket.captured_ns, ticket.background)
                    pixels.append(copy)
            if not frames:
                self._offer(remote, 1)
            self._numbers += 1
            if frames:
                remote.out[self._numbers] = frames
            work = Work(self._numbers, list(frames.values()), lease.snapshots)
            # sent without a frame, too: the snapshots in it count as known from now on
            if not self._link.try_send(encode(work, [*decoded.arrays, *pixels], run=self._run), to=remote.peer):
                self._part(remote, "cannot be reached")
                return

    def _tell(self, peer: bytes, message: Struct) -> None:
        self._link.try_send(encode(message, run=self._run), to=peer)

    # ---- silence -----------------------------------------------------------------------------------------------------

    def _look_round(self, now_s: float) -> None:
        for remote in list(self._remotes.values()):
            if now_s - remote.heard_s > self._silence_s:
                self._part(remote, f"silent for {self._silence_s:g} s")
        if now_s - self._alive_at >= ALIVE_S:
            self._alive_at = now_s
            for remote in self._remotes.values():
                self._tell(remote.peer, Alive())
            for key in sorted(set(self._link.denied) - self._denied):
                self._denied.add(key)
                self._child.say("denied", f"the key {key} knocked, which is not on the list (door.keys.allow)")

    def _part(self, remote: _Remote, why: str) -> None:
        """It is gone: what it had goes out once more, as that of a worker that died."""
        del self._remotes[remote.peer]
        remote.work.close()
        self._child.say("parted", f"{remote.name}: {why}; {remote.frames} frames done")
        self._child.tell(Parted(remote.name))
        if remote.frames:
            self._frames[remote.name] = remote.frames


def _welcome(child: Child, facts: dict[str, dict[str, Any]]) -> Welcome:
    settings = child.plan.settings
    info = camera_info(facts["acquire"])
    geometry = CropGeometry(**facts["sort"]["geometry"])
    return Welcome(
        child.plan.run_id,
        settings.segment.model_dump_json(),
        info.um_per_px,
        info.modality.value,
        geometry.size_px,
        geometry.um_per_px,
        settings.record.window_px if child.plan.recording else 0,
    )


def most_bytes(shape: ResultShape, frames: int) -> int:
    """Bytes of the largest honest message of a worker: as many objects as there can be, recorded, and a header."""
    crop = shape.size_px**2 * shape.dtype.itemsize
    window = math.prod(shape.window) * (shape.dtype.itemsize + 1) if shape.window is not None else 0
    return frames * shape.most_objects * (OBJECT_DTYPE.itemsize + crop + window) + (1 << 16)


async def door(child: Child) -> dict[str, Any]:
    """Listen until told to quit. Raises SettingsError for keys that are none, WireError for an address in use."""
    facts = await child.ready()
    plan = child.plan
    settings = plan.settings.door
    assert settings is not None
    guard: Guard = read_guard(settings.keys.secret, settings.keys.allow)
    shape = ResultShape.of(plan.settings, facts, recorded=plan.recording is not None)
    bound = most_bytes(shape, plan.settings.pipeline.frames_per_lease)
    with (
        PixelRing.attach(Path(facts["acquire"]["ring"])) as ring,
        open_router(
            settings.listen,
            guard,
            handover=False,
            hwm=QUEUED,
            max_incoming_bytes=bound,
            max_incoming_parts=5,
        ) as link,
    ):
        process = Door(child, link, ring, facts)
        try:
            await child.prepared()
            child.say("open", f"workers on other computers join at {link.address}")
            return await process.run()
        finally:
            process.close()
