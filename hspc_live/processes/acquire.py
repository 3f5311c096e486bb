"""acquire: from the camera to leases.

A thread of its own reads the camera, books gaps, numbers the backgrounds and copies pixels into the ring; the asyncio
loop beside it leases the frames to segment workers, hands them to the recorder and takes the slots back. Every frame
the camera gave (or dropped) becomes exactly one entry in the log that goes to sort, in capture order.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hspc_live.core.clock import NS_PER_S
from hspc_live.core.errors import DeviceError
from hspc_live.core.protocols import Camera
from hspc_live.core.values import CameraInfo
from hspc_live.processes.capture import Capture, Captured
from hspc_live.processes.child import Child
from hspc_live.processes.facts import camera_facts
from hspc_live.stages.background import Snapshot
from hspc_live.wire.codec import Decoder, encode
from hspc_live.wire.credit import LeaseTable
from hspc_live.wire.intake import Intake
from hspc_live.wire.links import Link, open_dealer, open_router, wait_any
from hspc_live.wire.messages import (
    WORKERS,
    Drain,
    Entry,
    FramesEnded,
    Hung,
    Keep,
    Lease,
    Lost,
    Notices,
    Pace,
    RecorderGone,
    Release,
    SnapshotHead,
    StreamEnded,
    Ticket,
    ToAcquire,
    Want,
    WorkerGone,
)
from hspc_live.wire.ring import PixelRing

LOOP_S = 0.02
STILL_LATE_NS = NS_PER_S // 10


@dataclass(slots=True)
class _InFlight:
    """One frame whose pixels are still needed by somebody."""

    ticket: Ticket
    snapshot: Snapshot
    holders: int
    wanted: bool = True  # by sort: it has neither had the result nor given the frame up


class Acquire:
    """The messaging half of the process; `Capture` is the camera half."""

    def __init__(
        self, child: Child, camera: Camera, info: CameraInfo, ring: PixelRing, work: Link, facts: dict[str, Any]
    ) -> None:
        plan = child.plan
        settings = plan.settings
        self._child = child
        self._run = plan.run_id
        self._pipeline = settings.pipeline
        self._live = plan.live
        self._info = info
        self._capture = Capture(camera, info, settings, ring, live=plan.live, wake=self._wake)
        self._work = work
        self._sort: Link = open_dealer(facts["sort"]["address"], b"acquire")
        self._record: Link | None = open_dealer(facts["record"]["address"], b"acquire") if plan.recording else None
        self._decoder = Decoder[ToAcquire](ToAcquire)
        self._wants = Intake[Want](work, Want, run=plan.run_id, senders=lambda name: name.startswith(WORKERS))
        self._leases = LeaseTable()
        self._frames: dict[int, _InFlight] = {}
        self._waiting: deque[int] = deque()
        self._again: set[int] = set()
        self._late_since: dict[str, int] = {}
        self._hung: set[str] = set()
        timeout_s = self._pipeline.lease_timeout_s
        if plan.live:  # frames of a hung worker must go out again before sort gives them up
            timeout_s = min(timeout_s, 0.6 * self._pipeline.frame_deadline_s)
        self._lease_timeout_ns = int(timeout_s * NS_PER_S)
        self.leased_again = 0
        self._known: dict[str, int] = {}
        self._recorder_knows = -1
        self._recorder_holds: set[int] = set()
        self._unrecorded = 0
        self._kept = 0
        self._told_silent = False
        self._loop = asyncio.get_running_loop()
        self._frame_came: asyncio.Future[None] = self._loop.create_future()

    def _wake(self) -> None:
        """By the camera's thread."""
        self._loop.call_soon_threadsafe(self._note_frame)

    def _note_frame(self) -> None:
        if not self._frame_came.done():
            self._frame_came.set_result(None)

    async def run(self) -> dict[str, Any]:
        """Until the stream has ended and every slot has come back."""
        self._capture.start()
        ended = False
        try:
            while True:
                await self._pause()
                for message in self._child.pump():
                    match message:
                        case Drain():
                            self._capture.stop()
                        case WorkerGone(worker):
                            await self._worker_gone(worker)
                        case RecorderGone():
                            self._recorder_gone()
                        case Pace(frames):
                            self._capture.pace(frames)
                        case _:
                            pass
                if self._child.quit:
                    break
                await self._take_frames()
                await self._tell_silence()
                self._take_messages()
                self._expire()
                self._lease_out()
                if self._capture.finished and not self._capture.pending and not ended:
                    ended = True
                    error = self._capture.error or ""
                    await self._tell_sort(StreamEnded(self._capture.captured, error))
                    if self._record is not None:
                        await self._send(self._record, encode(FramesEnded(self._kept, self._unrecorded), run=self._run))
                if ended and not self._frames:
                    break
            return {
                "busy_ns": self._capture.busy_ns,
                "captured": self._capture.captured,
                "dropped": self._capture.dropped,
                "unrecorded_frames": self._unrecorded,
                "leased_again": self.leased_again,
                "out_of_order": self._capture.out_of_order,
                "refused": self._wants.refused,
                "error": self._capture.error,
                "warnings": self._capture.warnings,
            }
        finally:
            self._capture.stop()
            self._capture.join()
            self._sort.close()
            if self._record is not None:
                self._record.close()

    async def _pause(self) -> None:
        """Sleep until a frame or a message comes."""
        links = [link for link in (self._work, self._sort, self._record) if link is not None]
        if self._frame_came.done() or any(link.readable() for link in links):
            await asyncio.sleep(0)  # under load something always waits: no need to set up a wait for it
        else:
            await wait_any(links, LOOP_S, (self._frame_came,))
        if self._frame_came.done():
            self._frame_came = self._loop.create_future()

    async def _take_frames(self) -> None:
        """Lease what the camera thread has put down, then log it, and hand frames to the recorder."""
        batch = self._capture.take()
        if not batch:
            return
        entries: list[Entry] = []
        kept: list[Captured] = []
        for item in batch:
            entries.append(item.entry)
            if item.ticket is None or item.snapshot is None:
                continue
            flight = _InFlight(item.ticket, item.snapshot, holders=1)
            if self._record is not None:
                if self._live and len(self._recorder_holds) >= self._pipeline.ring_slots // 2:
                    self._unrecorded += 1
                else:
                    flight.holders = 2
                    self._recorder_holds.add(item.ticket.index)
                    kept.append(item)
            self._frames[item.ticket.index] = flight
            self._waiting.append(item.ticket.index)
        self._lease_out()  # before anybody else is told: segmentation is what a cell waits for
        await self._tell_sort(Notices(entries, self._capture.held))
        if kept:
            await self._keep(kept)

    async def _tell_silence(self) -> None:
        """Once each time the camera falls silent: what it does not show must not be sorted."""
        silent = self._capture.silent
        if silent and not self._told_silent:
            await self._tell_sort(Notices([], self._capture.held, silent=True))
        self._told_silent = silent

    async def _tell_sort(self, message: Notices | Lost | StreamEnded) -> None:
        """The log must arrive: wait for room, however long; the ring bounds how much can be under way."""
        await self._send(self._sort, encode(message, run=self._run))

    async def _send(self, link: Link, parts: list[Any]) -> None:
        while not link.try_send(parts) and not self._child.quit:
            if link is self._record and self._child.recorder_gone:
                return
            await asyncio.sleep(0.001)
            self._child.turn()

    async def _keep(self, items: list[Captured]) -> None:
        assert self._record is not None
        heads: list[SnapshotHead] = []
        arrays: list[Any] = []
        tickets: list[Ticket] = []
        for item in items:
            assert item.ticket is not None
            assert item.snapshot is not None
            tickets.append(item.ticket)
            if item.snapshot.number != self._recorder_knows:
                self._recorder_knows = item.snapshot.number
                heads.append(SnapshotHead(item.snapshot.number, item.snapshot.noise_sd))
                arrays.append(item.snapshot.pixels)
        message = Keep(tickets, (self._info.height_px, self._info.width_px), self._info.dtype, heads)
        await self._send(self._record, encode(message, arrays, run=self._run))
        self._kept += len(tickets)

    def _take_messages(self) -> None:
        """Credits from workers; releases from sort and from the recorder."""
        for worker, want in self._wants.take():
            if not self._leases.grant(worker.decode(errors="replace"), want.message.credit):
                self._wants.refuse("impossible")
        while (got := self._sort.try_recv()) is not None:
            message = self._decoder.decode(got[1]).message
            if isinstance(message, Release):
                self._released(message.indices, of_lease=True)
        while self._record is not None and (got := self._record.try_recv()) is not None:
            message = self._decoder.decode(got[1]).message
            if isinstance(message, Release):
                held = [index for index in message.indices if index in self._recorder_holds]
                self._recorder_holds.difference_update(held)
                self._released(held, of_lease=False)

    def _released(self, indices: list[int], *, of_lease: bool) -> None:
        for index in indices:
            if of_lease:
                self._leases.release(index)
            flight = self._frames.get(index)
            if flight is None or (of_lease and not flight.wanted):
                continue
            flight.wanted = flight.wanted and not of_lease
            flight.holders -= 1
            if flight.holders == 0:
                del self._frames[index]
                self._capture.free(flight.ticket.slot)

    def _lease_out(self) -> None:
        """Give what waits to the workers with credit, several frames at once when several wait."""
        while self._waiting and self._leases.has_credit():
            group: list[int] = []
            while self._waiting and len(group) < self._pipeline.frames_per_lease:
                index = self._waiting.popleft()
                flight = self._frames.get(index)
                known = index not in self._again or self._leases.waiting(index)
                if flight is not None and flight.wanted and known:
                    group.append(index)  # else its result came after all, or sort has given it up
                self._again.discard(index)
            if not group:
                return
            worker = self._leases.lease_batch(
                [(index, self._frames[index].ticket.slot) for index in group], time.perf_counter_ns()
            )
            assert worker is not None, "there was credit"
            heads: list[SnapshotHead] = []
            arrays: list[Any] = []
            knows = self._known.get(worker, -1)
            for index in group:
                snapshot = self._frames[index].snapshot
                if snapshot.number != knows:
                    knows = snapshot.number
                    heads.append(SnapshotHead(snapshot.number, snapshot.noise_sd))
                    arrays.append(snapshot.pixels)
            tickets = [self._frames[index].ticket for index in group]
            message = Lease(tickets, (self._info.height_px, self._info.width_px), self._info.dtype, heads)
            if self._work.try_send(encode(message, arrays, run=self._run), to=worker.encode()):
                self._known[worker] = knows
            else:  # its queue is full or it is gone: put the frames back; its death or the next credit settles it
                self._leases.unsent(group)
                self._again.update(index for index in group if self._leases.waiting(index))
                self._waiting.extendleft(reversed(group))
                self._known.pop(worker, None)
                return

    def _recorder_gone(self) -> None:
        """What it held and did not give back is not in the file, as far as anyone knows."""
        if self._record is None:
            return
        self._record.close()
        self._record = None
        held, self._recorder_holds = sorted(self._recorder_holds), set()
        self._unrecorded += len(held)
        self._released(held, of_lease=False)

    async def _worker_gone(self, worker: str) -> None:
        orphans = self._leases.worker_lost(worker)
        self._known.pop(worker, None)
        self._hung.discard(worker)
        again = sorted(frame for frame, _ in orphans.again)
        self._again.update(again)
        self._waiting.extendleft(reversed(again))
        self.leased_again += len(again)
        if orphans.lost:
            await self._tell_sort(Lost(sorted(frame for frame, _ in orphans.lost), "worker_died_twice"))

    def _expire(self) -> None:
        """Workers that sit on a lease too long are hung: the supervisor replaces them, then `WorkerGone` comes.

        Everyone is late after a pause of the whole machine; only who stays late is hung.
        """
        now_ns = time.perf_counter_ns()
        late = self._leases.expired(now_ns, self._lease_timeout_ns)
        self._late_since = {worker: self._late_since.get(worker, now_ns) for worker in late}
        for worker, since_ns in self._late_since.items():
            if worker not in self._hung and now_ns - since_ns >= STILL_LATE_NS:
                self._hung.add(worker)
                self._child.tell(Hung(worker))


async def acquire(child: Child, camera: Camera) -> dict[str, Any]:
    """Open the camera, report its info and the ring, run until the stream ends. Raises DeviceError."""
    cv2.setNumThreads(1)
    plan = child.plan
    info = camera.open()
    try:
        if info.dtype not in ("uint8", "uint16"):
            raise DeviceError(f"the camera gives {info.dtype} pixels; uint8 or uint16 is needed")
        slot_bytes = info.height_px * info.width_px * np.dtype(info.dtype).itemsize
        slots = plan.settings.pipeline.ring_slots
        with (
            PixelRing.create(Path(plan.ring_folder), slots, slot_bytes) as ring,
            open_router(plan.bind("work"), handover=False, max_incoming_bytes=4096, max_incoming_parts=1) as work,
        ):
            facts = await child.ready({"ring": str(ring.path), "address": work.address, **camera_facts(info)})
            process = Acquire(child, camera, info, ring, work, facts)
            await child.prepared()
            return await process.run()
    finally:
        camera.close()
