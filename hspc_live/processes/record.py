"""record: writes frames, views, scores, cells and notes to one file, and gives ring slots back at once.

It is a process of its own so that a slow disk costs the pipeline nothing but unrecorded (and counted) frames. The file
is made before anything is armed and flushed on a clock; what has been flushed survives a crash.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, assert_never

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.processes.child import Child
from hspc_live.processes.disk_watch import DiskWatch
from hspc_live.processes.facts import camera_info
from hspc_live.processes.results import ResultShape, decode_results
from hspc_live.recording.writer import RecordingWriter
from hspc_live.wire.codec import encode
from hspc_live.wire.intake import BURST, Intake
from hspc_live.wire.links import Link, open_router
from hspc_live.wire.messages import (
    Books,
    CloseRecording,
    FramesEnded,
    Keep,
    Note,
    Release,
    Results,
    RunningLedger,
    Scores,
    ToRecord,
)
from hspc_live.wire.ring import PixelRing, StaleSlot

LOOP_S = 0.05
REST_S = 1.0
ACQUIRE = b"acquire"


class Recorder:
    """The loop of the process."""

    def __init__(self, child: Child, writer: RecordingWriter, ring: PixelRing, link: Link, shape: ResultShape) -> None:
        self._child = child
        self._writer = writer
        self._ring = ring
        self._link = link
        self._intake = Intake[ToRecord](link, ToRecord, run=child.plan.run_id, senders={ACQUIRE, b"sort"}.__contains__)
        self._shape = shape
        self._flush_s = child.plan.settings.record.flush_s
        assert child.plan.recording is not None
        self._disk = DiskWatch(Path(child.plan.recording))
        self._expected: int | None = None
        self._unrecorded = 0
        self._closing: CloseRecording | None = None
        self.frames = 0
        self.stale = 0
        self.rows = 0

    async def run(self) -> dict[str, Any]:
        """Until acquire and sort have both said their last word (or the supervisor calls it off).

        Whatever ends it before, the recording is closed with what it holds. Raises RecordingError where it cannot be
        written on, WireError for a message that is none.
        """
        try:
            return await self._run()
        except Exception:
            with suppress(Exception):  # the first error is the one to tell; the file stays as after a crash then
                self._writer.close(None, None)
            raise

    async def _run(self) -> dict[str, Any]:
        flushed = time.monotonic()
        while not self._finished() and not self._child.quit:
            self._child.turn()
            await self._link.wait_readable(LOOP_S)
            for _, decoded in self._intake.take(BURST // 4):
                await self._take(decoded.message, decoded.arrays)
            if time.monotonic() - flushed >= self._flush_s:
                self._writer.flush()
                flushed = time.monotonic()
                self._watch_disk()
        if self._child.quit:
            await self._take_the_rest()
        if self._closing is not None:
            missing = self._unrecorded + self.stale
            self._writer.close(json.loads(self._closing.ledger), json.loads(self._closing.summary), missing)
        else:
            self._writer.close(None, None)
        counts = {"frames": self.frames, "stale_frames": self.stale, "view_rows": self.rows}
        return {**counts, "refused": self._intake.refused}

    def _watch_disk(self) -> None:
        if (warning := self._disk.look()) is not None:
            self._child.say("warning", warning)
            self._writer.write_note("warning", warning, time.perf_counter_ns())

    async def _take_the_rest(self) -> None:
        """Called off: what has arrived already is written all the same, as far as a second suffices."""
        until = time.monotonic() + REST_S
        while time.monotonic() < until and self._link.readable():
            for _, decoded in self._intake.take():
                await self._take(decoded.message, decoded.arrays)

    def _finished(self) -> bool:
        return self._closing is not None and self._expected is not None and self.frames + self.stale >= self._expected

    async def _take(self, message: Any, arrays: Sequence[NDArray[Any]]) -> None:
        match message:
            case Keep():
                await self._keep(message, arrays)
            case Results():
                for result in decode_results(message, arrays, self._shape):
                    self._writer.write_result(result)
                    self.rows += len(result.crops)
            case Scores(keys):
                self._writer.write_scores(keys, arrays[0])
            case Books(cells, commands, receipts):
                self._writer.write_cells(cells)
                self._writer.write_commands(commands)
                self._writer.write_receipts(receipts)
            case Note(kind, detail, at_ns):
                self._writer.write_note(kind, detail, at_ns)
            case RunningLedger(ledger):
                self._writer.write_ledger(json.loads(ledger))
            case FramesEnded(kept, unrecorded):
                self._expected = kept
                self._unrecorded = unrecorded
            case CloseRecording():
                self._closing = message
            case _:
                assert_never(message)

    async def _keep(self, message: Keep, arrays: Sequence[NDArray[Any]]) -> None:
        for head, pixels in zip(message.snapshots, arrays, strict=True):
            self._writer.write_background(head.number, pixels, head.noise_sd)
        for ticket in message.frames:
            try:
                pixels = self._ring.view(ticket.slot, ticket.generation, message.shape, np.dtype(message.dtype))
                copy = pixels.copy()
            except StaleSlot:
                self.stale += 1
                continue
            if not self._ring.still_valid(ticket.slot, ticket.generation):
                self.stale += 1
                continue
            self._writer.write_frame(ticket.index, ticket.captured_ns, copy, ticket.background)
            self.frames += 1
        release = encode(Release([ticket.index for ticket in message.frames]), run=self._child.plan.run_id)
        while not self._link.try_send(release, to=ACQUIRE) and not self._child.quit:
            await asyncio.sleep(0.001)
            self._child.turn()


async def record(child: Child, pipeline_id: str, card_yaml: str, versions: dict[str, str]) -> dict[str, Any]:
    """Make the file once the camera and the model are known, write until the end. Raises OutputError."""
    plan = child.plan
    assert plan.recording is not None
    cv2.setNumThreads(1)  # checksums: too small to share out
    with open_router(plan.bind("record"), handover=False) as link:
        facts = await child.ready({"address": link.address})
        settings = plan.settings
        window_px = settings.record.window_px
        writer = RecordingWriter.create(
            Path(plan.recording),
            run_id=plan.run_id,
            settings_json=plan.settings_json,
            camera=camera_info(facts["acquire"]),
            classes=tuple(facts["sort"]["classes"]),
            card_yaml=card_yaml,
            pipeline_id=pipeline_id,
            versions=versions,
            window=(window_px, window_px),
            record_frames=settings.record.frames,
            sample=settings.record.sample,
        )
        with PixelRing.attach(Path(facts["acquire"]["ring"])) as ring:
            await child.prepared()
            return await Recorder(child, writer, ring, link, ResultShape.of(settings, facts, recorded=True)).run()
