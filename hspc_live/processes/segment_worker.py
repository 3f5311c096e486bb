"""segment: a worker process that turns leased frames into results, over ZeroMQ.

It holds no state that matters: the segmenter is a pure function of (frame, background, settings), so a worker may die
at any moment and its frames go to another one. The run id and the frame number make a result idempotent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.crop import CropGeometry
from hspc_live.core.errors import WireError
from hspc_live.core.values import FrameResult, Pixels
from hspc_live.processes.child import Child
from hspc_live.processes.facts import camera_info
from hspc_live.processes.results import encode_results
from hspc_live.stages.segment import Segmenter
from hspc_live.wire.codec import Decoder, encode
from hspc_live.wire.links import Link, open_dealer
from hspc_live.wire.messages import Lease, ToWorker, Want
from hspc_live.wire.ring import PixelRing, StaleSlot

CREDIT = 2
LOOP_S = 0.05


class Worker:
    """One worker's work: leases in, results out."""

    def __init__(self, child: Child, segmenter: Segmenter, ring: PixelRing, work: str, sort: str) -> None:
        self._child = child
        self._run = child.plan.run_id
        self._segment = segmenter
        self._ring = ring
        identity = child.role.encode()
        self._work: Link = open_dealer(work, identity)
        self._sort: Link = open_dealer(sort, identity)
        self._decoder = Decoder(ToWorker)
        self._snapshots: dict[int, tuple[Pixels, float]] = {}
        self.frames = 0
        self.stale = 0
        self.busy_ns = 0

    async def run(self) -> None:
        """Until the supervisor says Quit."""
        self._send(self._work, encode(Want(CREDIT), run=self._run))
        while not self._child.quit:
            self._child.turn()
            if not await self._work.wait_readable(LOOP_S):
                continue
            while (got := self._work.try_recv()) is not None:
                decoded = self._decoder.decode(got[1])
                if isinstance(decoded.message, Lease):
                    self._lease(decoded.message, decoded.arrays)
                self._child.turn()

    def close(self) -> None:
        """Let go of the links and the ring."""
        self._work.close()
        self._sort.close()
        self._ring.close()

    def _send(self, link: Link, parts: list[Any]) -> None:
        while not link.try_send(parts) and not self._child.quit:
            time.sleep(0.001)
            self._child.turn()

    def _lease(self, lease: Lease, arrays: Sequence[NDArray[Any]]) -> None:
        started = time.thread_time_ns()
        results: list[FrameResult] = []
        held = dict(self._snapshots)
        for head, pixels in zip(lease.snapshots, arrays, strict=True):
            held[head.number] = (pixels, head.noise_sd)
        for ticket in lease.frames:
            background, noise_sd = held[ticket.background]
            try:
                pixels = self._ring.view(ticket.slot, ticket.generation, lease.shape, np.dtype(lease.dtype))
                result = self._segment(
                    ticket.index, ticket.captured_ns, pixels, background, ticket.background, noise_sd
                )
            except StaleSlot:
                self.stale += 1  # somebody else's result was taken and the slot is in use again: nothing to do
                continue
            if not self._ring.still_valid(ticket.slot, ticket.generation):
                self.stale += 1
                continue
            results.append(result)
        last = lease.frames[-1].background
        self._snapshots = {last: held[last]}
        self.frames += len(results)
        self.busy_ns += time.thread_time_ns() - started
        if results:
            self._send(self._sort, encode_results(results, self._run))
        self._send(self._work, encode(Want(1), run=self._run))


async def segment(child: Child) -> dict[str, Any]:
    """Report ready; with the camera's facts and the model's geometry attach to the ring; work until told to quit.

    One that starts in the place of another may find that the run is over: it has nothing to do, which is no failure.
    """
    cv2.setNumThreads(1)
    facts = await child.ready()
    info = camera_info(facts["acquire"])
    geometry = CropGeometry(**facts["sort"]["geometry"])
    settings = child.plan.settings
    window_px = settings.record.window_px if child.plan.recording else 0
    segmenter = Segmenter(settings.segment, info.um_per_px, info.modality, geometry, window_px)
    path = Path(facts["acquire"]["ring"])
    try:
        ring = PixelRing.attach(path)
    except WireError:
        if path.exists():
            raise
        # acquire made it before anybody was told of it, and takes it away when every frame is done with
        child.say("too_late", "the run came to its end while it was starting")
        return {"frames": 0, "stale": 0, "busy_ns": 0}
    worker = Worker(child, segmenter, ring, facts["acquire"]["address"], facts["sort"]["address"])
    try:
        await child.prepared()
        await worker.run()
        return {"frames": worker.frames, "stale": worker.stale, "busy_ns": worker.busy_ns}
    finally:
        worker.close()
