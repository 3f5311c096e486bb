"""supervisor: starts the processes of a run, watches them, and ends the run in good order.

Startup, main loop and shutdown read top-down in `Supervisor.run`. Devices and models are opened first and everything
that fails is reported together; then everyone is told what the others found; then all go, the camera last. A segment
worker that dies or hangs is replaced and its frames go out once more; so is the door, even if it fails. Any other death
ends the run: disarmed, loudly, and never restarted silently. Ctrl-C once disarms, drains and closes; twice stops now.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, assert_never

from msgspec import Struct

from hspc_live.core.errors import DeviceError, HspcError
from hspc_live.processes.plan import RunPlan
from hspc_live.processes.rehearsal import process_faults
from hspc_live.processes.run_report import RunReport
from hspc_live.processes.signals import handle_signals, sigint_blocked
from hspc_live.processes.visitors import Visitors
from hspc_live.wire.codec import encode
from hspc_live.wire.intake import Intake
from hspc_live.wire.links import Link
from hspc_live.wire.messages import (
    Answer,
    ArmNow,
    AskRun,
    AskStatus,
    Beat,
    DisarmNow,
    Drain,
    DriveStage,
    EndRun,
    Failed,
    Go,
    Hung,
    Injected,
    Pace,
    Parted,
    Prepare,
    Prepared,
    Quit,
    Ready,
    RecorderGone,
    Report,
    Said,
    SetGates,
    StopNow,
    ToSupervisor,
    WorkerGone,
)

Target = Callable[[RunPlan, str], None]
Listener = Callable[[str, str, str], None]

START_S = 120.0
SILENT_S = 10.0
LEAST_SILENCE_S = 1.0
END_S = 30.0
DRAIN_S = 60.0
STOP_S = 1.0
STOP_GRACE_S = 0.05
TURN_S = 0.02
MOST_RESTARTS = 20
MOST_SAID = 5  # of each injected fault


@dataclass(slots=True)
class _Process:
    """One child. `silent_since` is when it last said anything."""

    process: BaseProcess
    silent_since: float
    ready: dict[str, Any] | None = None
    prepared: bool = False
    report: dict[str, Any] | None = None
    failure: Failed | None = None


def _replaceable(name: str) -> bool:
    """Who holds nothing that matters: those who look for cells, here and, through the door, far away."""
    return name.startswith("segment-") or _is_door(name)


def _is_door(name: str) -> bool:
    return name.split(".")[0] == "door"


class Supervisor:
    """Runs one plan. `targets` maps a role to the function its process starts with; roles `segment-K` are workers."""

    def __init__(
        self, plan: RunPlan, control: Link, targets: Mapping[str, Target], *, listen: Listener = lambda *_: None
    ) -> None:
        self._plan = plan
        self._targets = dict(targets)
        self._listen = listen
        self._context = multiprocessing.get_context("spawn")
        self._link = control
        self._prepare_message: Prepare | None = None
        self._children: dict[str, _Process] = {}
        self._intake = Intake[ToSupervisor](
            control, ToSupervisor, tell=lambda name, why: listen(name, "not-understood", why)
        )
        self._visitors = Visitors(self._tell, listen, self._intake.refuse)
        self._report = RunReport()
        self._facts = "{}"
        self._lease_timeout_s = plan.settings.pipeline.lease_timeout_s
        self._interrupts = 0
        self._lost: set[str] = set()  # died, and the run goes to its end without
        self._running = False
        self._quitting = False
        self._draining = False
        self._drained_at = 0.0
        self._began = time.monotonic()
        self._faults = process_faults(plan.faults, self._elapsed_s, self._injected)

    async def run(self, *, arm_by: str | None, for_s: float | None) -> RunReport:
        """Start, run for `for_s` seconds (or to the end of the stream), end. Failures are in the report, not raised."""
        loop = asyncio.get_running_loop()
        handled = handle_signals(loop, self._interrupted)
        try:
            for role in self._targets:
                self._start(role)
            if await self._all_up(arm_by):
                await self._watch(for_s)
            await self._end()
        finally:
            handled()
            self._report.refused = self._intake.refused
            self._kill_leftovers()
            shutil.rmtree(self._plan.ring_folder, ignore_errors=True)
            shutil.rmtree(self._plan.folder, ignore_errors=True)
        return self._report

    # ---- startup ---------------------------------------------------------------------------------------------------

    def _start(self, role: str, name: str | None = None) -> None:
        name = name or role
        resource_tracker.ensure_running()  # else the first start would do so, and with it unblock Ctrl-C
        process = self._context.Process(target=self._targets[role], args=(self._plan, name), name=f"hspc-{name}")
        with sigint_blocked():  # a child inherits the mask: Ctrl-C at the terminal must not kill it while it imports
            process.start()
        self._children[name] = _Process(process, time.monotonic())

    async def _all_up(self, arm_by: str | None) -> bool:
        """Everyone ready, then everyone prepared, then Go. False if somebody failed; all failures are gathered."""
        if not await self._until(lambda c: c.ready is not None, "become ready"):
            return False
        facts = {name: child.ready or {} for name, child in self._children.items()}
        self._facts = json.dumps(facts)
        self._prepare_message = Prepare(self._facts, json.dumps(asdict(self._plan)))
        self._tell_all(self._prepare())
        if not await self._until(lambda c: c.prepared, "get prepared"):
            return False
        if arm_by is not None:
            self._tell("sort", Go())
            self._tell("sort", ArmNow(arm_by))
        for name in sorted(self._children, key=lambda n: n == "acquire"):
            if not (arm_by is not None and name == "sort"):
                self._tell(name, Go())
        self._running = True
        self._listen("supervisor", "running", f"control at {self._plan.control}")
        return True

    async def _until(self, done: Callable[[_Process], bool], what: str) -> bool:
        """Wait until `done` holds for every child; a failing child does not stop the others from reporting theirs."""
        deadline = time.monotonic() + START_S
        while True:
            self._take_messages()
            self._reap(restart=False)
            waiting = [n for n, c in self._children.items() if not done(c) and c.failure is None]
            if not waiting or self._interrupts:
                return not self._report.failures and not self._interrupts
            if time.monotonic() > deadline:
                self._fail(waiting[0], DeviceError(f"{', '.join(waiting)} did not {what} in {START_S:.0f} s"))
                return False
            await asyncio.sleep(TURN_S)

    def _prepare(self) -> Prepare:
        assert self._prepare_message is not None, "everyone has reported what they found"
        return self._prepare_message

    # ---- main loop -------------------------------------------------------------------------------------------------

    async def _watch(self, for_s: float | None) -> None:
        """Until sort has reported, or something died that cannot be replaced."""
        started = self._began = time.monotonic()
        while True:
            await self._link.wait_readable(TURN_S)
            self._take_messages()
            if self._faults is not None:
                self._faults.turn(self._living())
            if self._report.stopped_now or not self._reap(restart=True):
                return
            if self._children["sort"].report is not None:
                return
            if not self._draining and for_s is not None and time.monotonic() - started >= for_s:
                self._drain("time is up")
            if self._draining and time.monotonic() - self._drained_at > DRAIN_S:
                self._fail("acquire", HspcError(f"what was under way did not come to its end in {DRAIN_S:.0f} s"))
                return
            self._notice_silence()

    def _elapsed_s(self) -> float | None:
        return time.monotonic() - self._began if self._running else None

    def _living(self) -> dict[str, int]:
        """Those that a fault may strike: under way, and alive."""
        living = {name: child.process.pid for name, child in self._children.items() if child.process.is_alive()}
        return {name: pid for name, pid in living.items() if pid is not None and self._children[name].prepared}

    def _drain(self, why: str) -> None:
        self._draining = True
        self._drained_at = time.monotonic()
        self._listen("supervisor", "draining", why)
        self._tell("acquire", Drain())

    def _interrupted(self) -> None:
        """Ctrl-C: the first disarms, drains and closes; the second stops now."""
        self._interrupts += 1
        self._report.interrupted = True
        if self._interrupts == 1:
            self._listen("supervisor", "interrupted", "disarming and closing; Ctrl-C again stops now")
            if "sort" in self._children:
                self._tell("sort", DisarmNow("Ctrl-C"))
            self._drain("Ctrl-C")
        else:
            self._report.stopped_now = True

    def _notice_silence(self) -> None:
        """A child whose loop does not turn is hung: a worker is replaced, anything else ends the run."""
        now = time.monotonic()
        for name, child in list(self._children.items()):
            limit_s = START_S if child.ready is None else SILENT_S
            if name.startswith("segment-") and child.prepared:
                limit_s = min(limit_s, max(LEAST_SILENCE_S, self._lease_timeout_s))
            if child.report is None and now - child.silent_since > limit_s and child.process.is_alive():
                self._listen(name, "hung", f"silent for {limit_s:g} s")
                child.process.kill()

    # ---- messages and deaths -----------------------------------------------------------------------------------------

    def _take_messages(self) -> None:
        for sender, decoded in self._intake.take():
            name, message = sender.decode(errors="replace"), decoded.message
            child = self._children.get(name)
            if child is None:
                self._visited(name, message)
                continue
            child.silent_since = time.monotonic()
            match message:
                case Ready(detail=detail):
                    child.ready = json.loads(detail)
                    if self._quitting:  # it was not connected yet when everyone was told
                        self._tell(name, Quit())
                    elif self._facts != "{}":  # a replacement: the run is under way already
                        self._tell(name, self._prepare())
                case Prepared():
                    child.prepared = True
                    if _replaceable(name) and "." in name:
                        self._tell(name, Go())
                case Beat():
                    pass
                case Said(kind, text):
                    self._listen(name, kind, text)
                    if kind == "warning":
                        self._report.warnings.append(text)
                case Injected(fault, detail):
                    self._injected(fault, detail, name)
                case Report(body):
                    child.report = json.loads(body)
                    self._report.reports[name] = child.report or {}
                case Failed(kind, text) if _is_door(name) and child.prepared and self._running and not self._quitting:
                    self._listen(name, "failed", text)  # what reaches it from outside shall end no run
                    self._report.warnings.append(f"the {name} process failed: {text}")
                case Failed(kind, text):
                    child.failure = message
                    self._report.failures.append((name, kind, text))
                case Hung(worker):
                    self._listen(worker, "hung", "holds its frames too long; it is replaced")
                    if worker in self._children:
                        self._children[worker].process.kill()
                    else:
                        self._tell("acquire", WorkerGone(worker))
                case Parted(worker):
                    self._tell("acquire", WorkerGone(worker))
                case Answer(asked_by):
                    self._tell(asked_by, message)
                case (
                    ArmNow()
                    | DisarmNow()
                    | SetGates()
                    | AskStatus()
                    | AskRun()
                    | Pace()
                    | DriveStage()
                    | EndRun()
                    | StopNow()
                ):
                    pass  # wishes are for visitors; no child has any
                case _:
                    assert_never(message)

    def _injected(self, fault: str, detail: str, name: str = "supervisor") -> None:
        self._report.injected[fault] += 1
        if self._report.injected[fault] <= MOST_SAID:
            self._listen(name, "fault", " ".join((fault, detail)).strip())

    def _visited(self, name: str, message: ToSupervisor) -> None:
        """Somebody who is no child: let in once the run is under way, and as long as it is."""
        under_way = self._running and not self._quitting and "sort" not in self._report.reports
        prepare = self._prepare() if under_way else None
        match self._visitors.take(name, message, prepare, ending=self._draining):
            case EndRun(by) if not self._draining:
                self._tell("sort", DisarmNow(f"ended by {by}"))
                self._drain(f"ended by {by}")
            case StopNow(by) if not self._report.stopped_now:
                self._stop(by)
            case Pace() as pace:
                self._tell("acquire", pace)
            case _:
                pass

    def _stop(self, by: str) -> None:
        """Kill *sort*, so that it cannot command anything whatever state it is in; the sorter's watchdog does the rest.

        It is told to disarm first: if it listens, the sorter's queue is empty at once and not after the watchdog.
        """
        self._listen("supervisor", "stopped", f"by {by}: the sort process is killed")
        self._report.stopped_now = True
        self._report.stopped_by = by
        self._tell("sort", DisarmNow(f"stopped by {by}"))
        time.sleep(STOP_GRACE_S)
        self._children["sort"].process.kill()

    def _reap(self, *, restart: bool) -> bool:
        """Notice ended processes; True while the run can go on, if only to its end."""
        for name, child in list(self._children.items()):
            if child.process.is_alive():
                continue
            self._take_messages()  # its last words may still wait
            if child.report is not None or name in self._lost:
                continue
            if child.failure is None:
                self._report.died[re.split(r"[-.]", name)[0]] += 1  # the role: segment-1.2, door.1
            if restart and _replaceable(name) and child.failure is None:
                if not self._replace(name):
                    return False
                continue
            if child.failure is None:
                died = f"the {name} process died (exit code {child.process.exitcode})"
                self._fail(name, HspcError(f"{died}: disarmed, not restarted"))
            if restart and name == "record":
                self._end_unrecorded()
            elif restart:
                return False
        return True

    def _note_deaths(self, names: list[str]) -> None:
        """These died after sort had reported: what they still held is lost, and the run says so."""
        for name in names:
            self._lost.add(name)
            if self._children[name].failure is None:
                code = self._children[name].process.exitcode
                self._fail(name, HspcError(f"the {name} process died (exit code {code}) before it had finished"))
            if name == "record":
                self._tell("acquire", RecorderGone())

    def _end_unrecorded(self) -> None:
        """The recorder is gone: sorting that nobody could explain afterwards ends, in good order."""
        self._lost.add("record")
        self._tell("sort", DisarmNow("the recorder died"))
        for name in ("sort", "acquire"):
            self._tell(name, RecorderGone())
        if not self._draining:
            self._drain("the recorder died")

    def _replace(self, name: str) -> bool:
        """Start another worker and give the dead one's frames back; False if that has been tried too often."""
        del self._children[name]
        self._report.replaced_workers += 1
        self._tell("acquire", WorkerGone(name))
        if self._report.replaced_workers > MOST_RESTARTS:
            error = HspcError(f"workers died more than {MOST_RESTARTS} times: giving up")
            self._listen(name, "died", str(error))
            self._tell("sort", DisarmNow(str(error)))
            self._fail(name, error)
            return False
        self._listen(name, "replaced", "it died; what it had goes out once more")
        role = name.split(".")[0]
        self._start(role, f"{role}.{self._report.replaced_workers}")
        return True

    def _fail(self, name: str, error: HspcError) -> None:
        if name in self._children:
            self._children[name].failure = Failed(type(error).__name__, str(error))
        self._report.failures.append((name, type(error).__name__, str(error)))

    def _tell(self, name: str, message: Struct) -> None:
        """Best effort: a child that is gone is noticed by `_reap`."""
        self._link.try_send(encode(message, run=self._plan.run_id), to=name.encode())

    def _tell_all(self, message: Struct) -> None:
        for name in (*self._children, *self._visitors.guests):
            self._tell(name, message)

    # ---- shutdown --------------------------------------------------------------------------------------------------

    async def _end(self) -> None:
        """Let record and acquire come to their own end (they have what they need once sort has reported), then Quit."""
        if self._faults is not None:
            self._faults.end()
        deadline = time.monotonic() + END_S
        orderly = "sort" in self._report.reports and not self._report.stopped_now
        while orderly and time.monotonic() < deadline and not self._report.stopped_now:
            self._take_messages()
            waiting = [n for n in ("record", "acquire") if n in self._children and self._children[n].report is None]
            dead = [n for n in waiting if not self._children[n].process.is_alive()]
            if dead:
                self._take_messages()  # its last words may still wait
                self._note_deaths([n for n in dead if self._children[n].report is None and n not in self._lost])
            waiting = [n for n in waiting if n not in dead]
            if not waiting:
                break
            await asyncio.sleep(TURN_S)
        else:
            if orderly and not self._report.stopped_now:
                self._fail(waiting[0], HspcError(f"{', '.join(waiting)} did not come to an end in {END_S:.0f} s"))
        self._quitting = True
        self._tell_all(Quit())
        quitting = time.monotonic()
        while any(c.process.is_alive() for c in self._children.values()):
            if time.monotonic() - quitting > (STOP_S if self._interrupts > 1 else END_S / 2):
                break
            self._take_messages()
            await asyncio.sleep(TURN_S)
        self._take_messages()

    def _kill_leftovers(self) -> None:
        for name, child in self._children.items():
            if child.process.is_alive():
                self._listen(name, "killed", "did not end by itself")
                child.process.kill()
            child.process.join(5.0)
            child.process.close()
        self._link.close()
