"""sort: everything from a frame's detections to the sorter's command, in one process.

It restores capture order, drives the pure sort core, feeds the engine and talks to the sorter, so that a decision
crosses no socket. No rule about cells lives here: this module moves events in and carries actions out. In replay the
same code runs on a virtual clock that follows the recording's time.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hspc_live.core.clock import NS_PER_S, Clock, VirtualClock
from hspc_live.core.errors import WireError
from hspc_live.core.events import (
    Alarm,
    ArmingRefused,
    Classify,
    Closed,
    Command,
    Disarm,
    Disarmed,
    Ended,
    Event,
    Finished,
    Gated,
    GatesSet,
    Received,
    Tick,
)
from hspc_live.core.protocols import Engine, Sorter
from hspc_live.core.values import CameraInfo
from hspc_live.processes.actuator import Actuator
from hspc_live.processes.canary import canary_of
from hspc_live.processes.child import Child
from hspc_live.processes.facts import camera_info
from hspc_live.processes.inference import Inference
from hspc_live.processes.operator import Operator
from hspc_live.processes.order import FrameOrder, Ordered
from hspc_live.processes.plan import RECEIPT_GRACE_NS
from hspc_live.processes.results import RESULT_BYTES, ResultShape, decode_results
from hspc_live.processes.scribe import Scribe
from hspc_live.processes.self_test import EngineProof, Findings, SelfTest, disc_crop, engine_examined, engine_problem
from hspc_live.processes.showing import Showing
from hspc_live.processes.standing import standing
from hspc_live.processes.tally import Tally
from hspc_live.settings.schema import RunSettings
from hspc_live.stages.gate import EditGates
from hspc_live.stages.sort_core import SortCore
from hspc_live.wire.codec import encode
from hspc_live.wire.intake import Intake
from hspc_live.wire.links import Link, Publisher, open_pub, open_router, wait_any
from hspc_live.wire.messages import WORKERS, Entry, Lost, Notices, Release, Results, StreamEnded, ToSort
from hspc_live.wire.telemetry import Standing

LOOP_S = 0.01
SOUND_NS = 60 * NS_PER_S  # who arms later than this after the engine was checked has it checked again
ACQUIRE = b"acquire"


def _listened_to(name: bytes) -> bool:
    """Who may tell *sort* anything: acquire, and those who look for cells."""
    return name == ACQUIRE or name.startswith(WORKERS)


@dataclass(frozen=True, slots=True)
class SortParts:
    """What wiring hands to this process. `problems` gives the reasons not to arm; `clock` is virtual in replay.

    `resolve` fills in what gates set in mid-run ask of the model; it raises SettingsError for what cannot be promised.
    `proof` is what an engine that was built is held to when somebody arms.
    """

    engine: Engine
    sorter: Sorter | None
    clock: Clock
    facts: dict[str, Any]
    problems: Callable[[CameraInfo], tuple[str, ...]]
    resolve: Callable[[RunSettings], RunSettings]
    proof: EngineProof | None = None


class Sort:
    """The loop of the process."""

    def __init__(
        self,
        child: Child,
        parts: SortParts,
        link: Link,
        shown: Publisher,
        facts: dict[str, Any],
        p99_ms: Mapping[int, float],
    ) -> None:
        plan = child.plan
        settings = plan.settings
        self._child = child
        self._run = plan.run_id
        self._live = plan.live
        self._parts = parts
        self._clock = parts.clock
        self._sorter = Actuator(parts.sorter, live=plan.live)
        self._group = settings.pipeline.batch_frames
        deadline_s = settings.pipeline.frame_deadline_s
        self._order = FrameOrder(int(deadline_s * NS_PER_S) if plan.live else None, settings.pipeline.ring_slots)
        self._camera = camera_info(facts["acquire"])
        self._core = SortCore(settings.sort, parts.engine.classes, self._camera.time_sd_us)
        self._scribe = Scribe(child, facts["record"]["address"] if plan.recording else None, live=plan.live)
        self._tally = Tally(live=plan.live)
        self._in = link
        self._incoming = Intake[ToSort](link, ToSort, run=plan.run_id, senders=_listened_to)
        self._shape = ResultShape.of(settings, facts, recorded=plan.recording is not None)
        ring, shape = Path(facts["acquire"]["ring"]), (self._camera.height_px, self._camera.width_px)
        self._showing = Showing(shown, ring, shape, self._camera.dtype, plan.run_id, parts.engine.classes)
        self._size_px, dtype = int(facts["sort"]["geometry"]["size_px"]), np.dtype(self._camera.dtype)
        crop = parts.proof.crop if parts.proof is not None else disc_crop(self._size_px)
        self._canary = canary_of(parts.engine, crop, dtype) if plan.live else None
        self._inference = Inference(parts.engine, p99_ms, self._canary)
        self._fed = 0
        self._held = 0
        self._self_test = SelfTest(self._camera, settings.sort.timing.max_clock_error_ms)
        self._operator = Operator(
            child, self._core, self._sorter, self._scribe, self._feed, self._findings, parts.clock, parts.resolve
        )
        problem = None
        if parts.sorter is not None and plan.live:
            problem = engine_problem(parts.engine, self._size_px, dtype)
        self._engine_problem = problem
        self._sound_ns = time.perf_counter_ns()
        self._edits = list(plan.gate_edits)
        self._silence = f"camera: it has given no frame for {settings.pipeline.silent_periods:g} frame periods"
        self._max_missed = settings.sort.track.max_missed
        self._last_entry: Entry | None = None
        self._stream_ended: StreamEnded | None = None

    async def run(self) -> dict[str, Any]:
        """Until the stream has ended and every cell has come to its end."""
        if self._child.plan.faults is not None:
            self._alarm("fault_plan", self._child.plan.faults.in_force, self._clock.now_ns())
        while not self._child.quit:
            await self._pause()
            self._operator.attend()
            await self._intake()
            await self._advance()
            if self._stream_ended is not None and self._order.empty:
                await self._finish()
                return await self._report()
        self._stop_now()
        return await self._report()

    def close(self) -> None:
        """Let go of the links; engine and sorter belong to who opened them."""
        self._scribe.close()
        self._showing.close()

    # ---- in --------------------------------------------------------------------------------------------------------

    async def _pause(self) -> None:
        """Sleep until a message comes, the engine has finished, or it is time to look at the clock."""
        if self._in.readable():
            await asyncio.sleep(0)  # under load something always waits: no need to set up a wait for it
            return
        under_way = self._inference.under_way
        await wait_any((self._in,), LOOP_S, () if under_way is None else (under_way,))

    async def _intake(self) -> None:
        """Take what has arrived, then feed the core whatever is settled in capture order."""
        for sender, decoded in self._incoming.take():
            started = time.perf_counter_ns()
            match decoded.message:
                case Results() as results:
                    try:
                        for result in decode_results(results, decoded.arrays, self._shape):
                            self._order.result(result)
                    except WireError:
                        if not self._live:
                            raise  # a replay would wait for this frame for ever
                        self._incoming.refuse("impossible")
                case Notices() | Lost() | StreamEnded() if sender != ACQUIRE:
                    self._incoming.refuse("stranger")
                case Notices(entries, held, silent):
                    self._order.log(entries)
                    self._held = held
                    if silent:
                        self._feed(Disarm(self._silence))
                case Lost(indices, reason):
                    self._order.lost(indices, reason)
                case StreamEnded() as ended:
                    self._stream_ended = ended
                    self._operator.ending("the camera's stream has ended")
                case _:
                    pass
            self._tally.receive_ns += time.perf_counter_ns() - started
        settled = self._order.take(time.perf_counter_ns())
        for item in settled:
            await self._settle(item)
        if self._live:  # the engine first: recording and giving back can wait for it, it cannot wait for them
            self._start_engine()
            for item in settled:
                await self._write_down(item)
        released = [item.entry.index for item in settled if item.held]
        if released:
            while not self._in.try_send(encode(Release(released), run=self._run), to=ACQUIRE):
                if self._child.quit:
                    return
                await asyncio.sleep(0.001)
                self._child.turn()

    async def _settle(self, item: Ordered) -> None:
        """One frame, in order: to the core, to the recording, and what the core wants classified to the engine."""
        while self._edits and self._edits[0].first_frame <= item.entry.index:
            self._operator.repeat(self._edits.pop(0))
        await self._left_out(item.entry)
        await self._virtual_until(item.entry.captured_ns)
        self._tally.frame(item)
        self._self_test.frame(item)
        if not self._live:
            await self._write_down(item)
        requests = self._feed(item.event)
        if requests:
            assert item.result is not None, "a view to classify comes with the frame it was seen in"
            place = np.cumsum(item.result.objects["reject"] == 0) - 1  # crops: accepted rows only, in row order
            for request in requests:
                crop = item.result.crops[place[request.view]]
                self._inference.add(request, crop)
                self._showing.look((request.frame, request.view), crop)
        self._showing.frame(item, self._core.followed)
        self._fed += 1
        if not self._live and self._fed % self._group == 0:
            await self._score_group()

    async def _write_down(self, item: Ordered) -> None:
        """A frame's rows to the recording, before any score of theirs."""
        if item.result is not None:
            await self._scribe.rows(item.result)

    def _against(self) -> Findings:
        """What stands against arming, as far as it is known without another look at the engine."""
        if not self._live or not self._sorter.present:
            return Findings((), ())
        problems = self._parts.problems(self._camera)
        if self._engine_problem is not None:
            problems = (*problems, self._engine_problem)
        return self._self_test.find(self._clock.now_ns(), problems, self._core.alarms, self._sorter.clock_bound_ns)

    def _findings(self) -> Findings:
        """What the self-test has against arming now. A replay sorts nothing real: nothing keeps it from being armed."""
        found = self._against()
        if not self._live or not self._sorter.present or self._engine_is_sound():
            return found
        return Findings(found.lasting, (*found.passing, "the engine is being checked"))

    def _engine_is_sound(self) -> bool:
        """Whether the engine was checked lately and the canary has shown nothing; otherwise it is checked now."""
        if self._inference.examining:
            return False
        if time.perf_counter_ns() - self._sound_ns < SOUND_NS and self._inference.drift is None:
            return True
        self._inference.examine(self._examine)
        return False

    def _examine(self) -> str | None:
        """The whole check of the engine, in a thread, while it does nothing else; the quick parts of it first."""
        dtype = np.dtype(self._camera.dtype)
        return engine_examined(self._parts.engine, self._size_px, dtype, self._canary, self._parts.proof)

    async def _left_out(self, entry: Entry) -> None:
        """A file without its empty frames: what was in view before a gap left in it, not when the next frame came."""
        last, self._last_entry = self._last_entry, entry
        if self._camera.counts_gaps or last is None or entry.index <= last.index + 1:
            return
        period_ns = round(NS_PER_S / self._camera.frames_per_s)
        left_ns = min(last.captured_ns + (self._max_missed + 1) * period_ns, entry.captured_ns - 1)
        await self._virtual_until(left_ns)
        self._feed(Tick(left_ns, entry.index - 1))

    async def _virtual_until(self, until_ns: int) -> None:
        """Replay: let everything that is due before `until_ns` happen at its own time, then move the clock there.

        Scores come before anything that could be too late without them: in a recording, time leaps and engines do not
        lag. A file that left its empty frames out says with a gap that nothing was there, so cells commit in gaps.
        """
        if not isinstance(self._clock, VirtualClock):
            return
        while True:
            due = [self._core.next_wake_ns(), self._core.next_commit_ns() if not self._camera.counts_gaps else None]
            due_ns = min((at for at in due if at is not None), default=until_ns)
            if due_ns >= until_ns:
                break
            if not self._inference.idle:
                await self._score_group()
                continue
            self._clock.advance_to(due_ns)
            self._feed(Tick(None if self._camera.counts_gaps else self._clock.now_ns()))
            self._poll_sorter()
        self._clock.advance_to(until_ns)
        self._poll_sorter()

    # ---- the core, the engine, the sorter ----------------------------------------------------------------------------

    def _feed(self, event: Event | EditGates) -> list[Classify]:
        """One event into the core; carries its actions out and returns the views that it wants classified."""
        now_ns = self._clock.now_ns()
        started = time.perf_counter_ns()
        actions = self._core.feed(event, now_ns)
        self._tally.core_ns += time.perf_counter_ns() - started
        requests: list[Classify] = []
        failed: str | None = None
        for action in actions:
            match action:
                case Classify():
                    requests.append(action)
                case Gated(decision):
                    self._showing.gated(self._tally.gated(decision))
                case Command(command):
                    failed = self._sorter.send(command) or failed
                    self._scribe.command(command)
                case Closed(record):
                    self._tally.closed(record)
                    self._showing.cell(record)
                    self._scribe.cell(record)
                case Disarmed(reason):
                    self._sorter.disarm()
                    self._tally.disarmed.append(reason)
                    self._child.say("disarmed", reason)
                    self._scribe.note("disarmed", reason, now_ns)
                case ArmingRefused(reason):
                    self._sorter.disarm()
                case GatesSet():
                    self._operator.gates_set(action)
                case Alarm(kind, detail):
                    self._alarm(kind, detail, now_ns)
        if failed is not None:
            requests += self._feed(Disarm(failed))
        return requests

    def _alarm(self, kind: str, detail: str, now_ns: int) -> None:
        self._tally.alarms[kind] += 1
        if self._tally.alarms[kind] == 1:
            self._child.say("alarm", f"{kind}: {detail}")
        self._scribe.note(kind, detail, now_ns)

    async def _score_group(self) -> None:
        """Replay: score what the last group of frames asked for, before the next frame is looked at."""
        scoring = asyncio.ensure_future(asyncio.to_thread(self._inference.run_all))
        while not scoring.done():
            await asyncio.wait({scoring}, timeout=0.1)
            self._child.turn()
        scored = scoring.result()
        if scored is not None:
            await self._scribe.scores(scored)
            self._feed(scored)

    async def _advance(self) -> None:
        """Everything that is due without a new frame."""
        if self._live:
            scored = self._inference.collect()
            self._watch_engine()
            if scored is not None:
                self._feed(scored)
                await self._scribe.scores(scored)
            self._start_engine()
            self._poll_sorter()
            wake_ns = self._core.next_wake_ns()
            if wake_ns is not None and self._clock.now_ns() >= wake_ns:
                self._feed(Tick())
        await self._scribe.flush(self._core.ledger)
        if self._showing.due():
            self._showing.publish(self._standing())

    def _start_engine(self) -> None:
        """The next batch, if the engine is free; what can no longer make it is told to the core."""
        skipped = self._inference.start(self._clock.now_ns())
        if skipped is not None:
            self._feed(skipped)

    def _standing(self) -> Standing:
        """How things stand, for those who look on."""
        return standing(
            self._core,
            self._operator,
            self._tally,
            self._against(),
            self._showing.sorted(),
            self._inference.drift,
            unrecorded=self._scribe.unrecorded,
            queue=self._order.waiting,
            held=self._held,
            slots=self._child.plan.settings.pipeline.ring_slots,
            unshown=self._showing.stale,
        )

    def _watch_engine(self) -> None:
        """A canary that comes back wrong disarms; an examination that has ended counts from now on."""
        if (answer := self._inference.examined()) is not None:
            (self._engine_problem,) = answer
            self._sound_ns = time.perf_counter_ns()
        drift = self._inference.drift
        if drift is not None and self._core.armed:
            self._scribe.note("engine-drift", drift, self._clock.now_ns())
            self._feed(Disarm(drift))

    def _poll_sorter(self) -> None:
        receipts, problem = self._sorter.poll()
        if receipts:
            self._scribe.receipts(receipts)
            self._feed(Received(receipts))
        if problem is not None and self._core.armed:
            self._feed(Disarm(problem))
        if self._sorter.failure and not self._tally.alarms["sorter"]:
            self._alarm("sorter", self._sorter.failure.removeprefix("sorter: "), self._clock.now_ns())

    # ---- the end ---------------------------------------------------------------------------------------------------

    async def _finish(self) -> None:
        """No frame will come any more: what can still be decided in time is, and the rest is booked."""
        assert self._stream_ended is not None
        if self._stream_ended.error:
            self._feed(Disarm(f"camera: {self._stream_ended.error}"))
        while self._edits:  # set when no frame was to come any more: they judged what the end closed
            self._operator.repeat(self._edits.pop(0))
        if not self._live:
            await self._score_group()
        self._feed(Ended())
        if isinstance(self._clock, VirtualClock):
            while (wake_ns := self._core.next_wake_ns()) is not None:
                await self._virtual_until(max(wake_ns, self._clock.now_ns()) + 1)
            await self._virtual_until(self._sorter.last_fire_ns + RECEIPT_GRACE_NS)
        else:
            while not self._child.quit and not self._done():
                await self._pause()
                self._operator.attend()
                await self._intake()  # what comes too late is counted, and does not keep the pause from pausing
                await self._advance()
        self._feed(Finished())
        self._sorter.disarm()

    def _stop_now(self) -> None:
        """Told to end in mid-run: nothing is fired any more, and what is open is booked as unresolved."""
        self._feed(Disarm("stopped"))
        self._sorter.disarm()
        self._feed(Ended())
        self._feed(Finished())

    def _done(self) -> bool:
        if not self._inference.idle or self._core.next_wake_ns() is not None:
            return False
        return not self._sorter.present or self._clock.now_ns() >= self._sorter.last_fire_ns + RECEIPT_GRACE_NS // 4

    async def _report(self) -> dict[str, Any]:
        ledger = self._core.ledger
        report = self._tally.report()
        report["ledgers"] = ledger.to_json()
        violations = ledger.balanced(self._stream_ended.captured if self._stream_ended is not None else None)
        report["ledger"] = {"balanced": not violations, "violations": violations}
        report["deadline"] = {"met_fraction": ledger.met_fraction, "met": ledger.gated, "missed": ledger.late}
        report["classes"] = dict(self._core.classes)
        report["abstained"] = ledger.doubts
        report["stream_error"] = self._stream_ended.error if self._stream_ended is not None else "stopped"
        report["captured_by_acquire"] = self._stream_ended.captured if self._stream_ended is not None else None
        report |= self._operator.report()
        report["unexpected_results"] = self._order.unexpected
        report["refused"] = self._incoming.refused
        report["engine"] = {
            "name": self._parts.engine.name,
            "precision": self._parts.engine.precision,
            "p99_ms": {str(bucket): round(p99, 3) for bucket, p99 in self._inference.p99_ms.items()},
            "busy_ns": self._inference.busy_ns,
            "batches": self._inference.batches,
            "views": self._inference.views,
            "canary_rides": self._inference.canary_rides,
            "drift": self._inference.drift,
            "failure": self._inference.failure,
            "smaller_batches": self._inference.smaller,
        }
        report["sorter"] = {"failure": self._sorter.failure, "faults": dict(self._sorter.faults)}
        report["unrecorded_messages"] = self._scribe.unrecorded
        report["shown"] = self._showing.report()
        await self._scribe.end(report["ledgers"], report)
        return report


async def sort(child: Child, parts: SortParts) -> dict[str, Any]:
    """Report the model's facts, run until the stream has ended."""
    with (
        open_router(
            child.plan.bind("sort"), handover=False, max_incoming_bytes=RESULT_BYTES, max_incoming_parts=5
        ) as link,
        open_pub(child.plan.bind("show")) as shown,
    ):
        facts = await child.ready({"address": link.address, "show": shown.address, **parts.facts})
        # timed only now, when every other process has done its loading; in replay time is virtual, so nothing is timed
        p99_ms = parts.engine.warm_up() if child.plan.live else dict.fromkeys(parts.engine.buckets, 0.0)
        process = Sort(child, parts, link, shown, facts, p99_ms)
        try:
            await child.prepared()
            gc.collect()
            gc.freeze()  # what is there now stays: a full collection looking at it would halt the path for 50 ms
            return await process.run()
        finally:
            process.close()
