"""A chamber run from the first field to the second visit, in one process: the stage is its limit, not the computer.

Devices work in one thread, pictures and classifier in another: while the stage goes to the next field, the one before
is segmented and classified. From the visit onwards live and replay run this very code (`chamber_io`). The crops of one
field form the engine's batches, so the last bits of a score do not depend on how fast anything was.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hspc_live.core.chamber import ChamberCell, ChamberFacts, Visit
from hspc_live.core.clock import NS_PER_S, VirtualClock
from hspc_live.core.errors import HspcError, StoppedError
from hspc_live.processes.chamber_control import serve
from hspc_live.processes.chamber_drive import Driver
from hspc_live.processes.chamber_fields import FieldWork
from hspc_live.processes.chamber_findings import Findings
from hspc_live.processes.chamber_second import as_shown, fields_of, match_second, pick_targets, report, revisited
from hspc_live.processes.chamber_showing import PERIOD_S, ChamberShowing
from hspc_live.processes.chamber_values import ChamberParts, ChamberReport, Visited
from hspc_live.processes.self_test import disc_crop
from hspc_live.processes.signals import handle_signals
from hspc_live.settings.chamber_run import ChamberRunSettings
from hspc_live.settings.sort import Outlet
from hspc_live.stages.affine import Affine
from hspc_live.stages.chamber_verdicts import close_cells, decisions_sha256, judge_objects, wanted
from hspc_live.stages.gate import GateSet
from hspc_live.stages.gate_words import promises
from hspc_live.stages.mosaic import Calibrated, Mosaic, build_mosaic
from hspc_live.stages.picking import PickingList, make_picking_list
from hspc_live.stages.tiling import footprint, reachable
from hspc_live.wire.chamber_telemetry import ChamberStanding
from hspc_live.wire.links import Link

Listener = Callable[[str, str, str], None]

CTRL_C = "Ctrl-C"
NO_STAY = "the run moves it, and lets go of it at its end; start it with --stay to drive the stage afterwards"


class ChamberRun:
    """One run. `revisit` goes back to the listed cells afterwards; at `control` it can be reached from outside.

    `showing` lets others look on. With `stay` the stage is kept after a run that came to its end, for people to drive,
    until one of them ends it; `stay` is called first, in a thread, with the report, whose recording is closed by then.
    """

    def __init__(
        self,
        parts: ChamberParts,
        settings: ChamberRunSettings,
        *,
        revisit: bool = False,
        listen: Listener = lambda *_: None,
        control: Link | None = None,
        showing: ChamberShowing | None = None,
        stay: Callable[[ChamberReport], None] | None = None,
    ) -> None:
        if showing is not None:
            parts = replace(parts, sinks=(*parts.sinks, showing))
        self._parts, self._settings, self._wants_revisit, self._listen = parts, settings, revisit, listen
        self._control, self._showing, self._stay = control, showing, stay
        why_not = "the run moves it; it is let go when the list is made" if stay is not None else NO_STAY
        self._driver = Driver(parts.source, showing, why_not)
        self._found = Findings(parts.engine, parts.sinks)
        self._classes = parts.engine.classes
        self._outlets = {o.name: Outlet(name=o.name, gate=o.gate, priority=o.priority) for o in settings.sort.outlets}
        self._visits: list[Visited] = []
        self._doing = "opening"
        self._planned = 0
        self._interrupts = 0  # one ends after the field under way, two stop now, ...
        self._ended_by: str | None = None  # ... by Ctrl-C, or by whom
        self._hurry = asyncio.Event()
        self._failure: HspcError | None = None
        self._drift_said = False

    async def run(self) -> ChamberReport:
        """Scan, list, visit again. Raises what kept the run from starting, and StoppedError when it was stopped."""
        began = time.perf_counter()
        restore = handle_signals(asyncio.get_running_loop(), self._interrupted)
        summary: dict[str, Any] = {}
        helpers = self._serve()
        try:
            facts = await self._opened()
            self._unless_stopped()
            self._doing, self._planned = "scan", len(facts.plan)
            self._listen("chamber", "running", f"{self._planned} fields planned")
            for sink in self._parts.sinks:
                sink.begin(facts, self._classes)
            crop = self._parts.canary if self._parts.canary is not None else disc_crop(self._parts.geometry.size_px)
            await asyncio.to_thread(self._found.watch, crop, facts.camera.dtype, self._parts.sound)
            work = FieldWork(facts, self._settings.segment, self._settings.chamber.position, self._parts.geometry)
            await self._follow(self._parts.source.scan(), work, self._planned)
            self._doing = "list"
            made = self._list(facts)
            if self._wants_revisit:
                self._doing = "revisit"
                await self._visit_again(made, work)
            made.interrupted, made.failure = self._interrupts > 0 and self._ended_by == CTRL_C, self._failure
            made.summary["interrupted"], made.summary["ended_by"] = made.interrupted, self._ended_by
            made.summary["failure"] = None if self._failure is None else str(self._failure)
            made.summary["seconds"] = round(time.perf_counter() - began, 3)
            summary = made.summary
            if self._stay is not None and not self._interrupts and self._failure is None:
                await self._keep_stage(made, self._stay)
            return made
        except StoppedError:
            summary["stopped"] = self._ended_by
            raise
        finally:
            restore()
            for task in helpers:
                task.cancel()
            try:
                await asyncio.to_thread(self._parts.source.close)
            except HspcError as error:  # what was seen is worth more than a device that lets go badly
                self._listen("chamber", "alarm", str(error))
            self._close_sinks(summary)

    def _close_sinks(self, summary: dict[str, Any]) -> None:
        kept = [found for sink in self._parts.sinks if (found := sink.close(summary))]
        if kept:
            summary["recording"] = dict(kept[0])

    async def _keep_stage(self, made: ChamberReport, stay: Callable[[ChamberReport], None]) -> None:
        """All is seen and done: hand the report over, and let people drive until one of them ends it."""
        self._doing = "report"
        self._close_sinks(made.summary)
        made.handed_over = True
        await asyncio.to_thread(stay, made)
        self._doing = "staying"
        self._driver.let_go()
        self._listen("chamber", "staying", "the stage is kept: drive it from the screen; Ctrl-C or `control end` ends")
        await self._hurry.wait()
        await self._driver.take_back("the run is ending")
        if self._interrupts > 1:
            raise StoppedError(f"stopped by {self._ended_by}; the list had been made")

    async def _opened(self) -> ChamberFacts:
        try:
            return await asyncio.to_thread(self._parts.source.open)
        except HspcError as error:
            if self._interrupts > 1:
                raise StoppedError(f"stopped by {self._ended_by} before the first field") from error
            raise

    def _serve(self) -> list[asyncio.Task[None]]:
        """Answer whoever knocks, and let others look on, from now on."""
        helpers: list[asyncio.Task[None]] = []
        if self._control is not None:
            self._listen("chamber", "control", f"at {self._control.address}")
            helpers.append(asyncio.create_task(serve(self._control, self)))
        if self._showing is not None:
            helpers.append(asyncio.create_task(self._show(self._showing)))
        return helpers

    async def _show(self, showing: ChamberShowing) -> None:
        while True:
            if showing.listened():
                showing.publish(self._shown())
            await asyncio.sleep(PERIOD_S)

    # ---- fields ------------------------------------------------------------------------------------------------------

    async def _follow(self, visits: Iterator[Visit], work: FieldWork, planned: int) -> None:
        """Take every visit; while its pictures are worked on, the devices make the next."""
        analysing: asyncio.Task[None] | None = None
        try:
            while not self._interrupts:
                visit = await asyncio.to_thread(self._next, visits)
                if analysing is not None:
                    await analysing
                    analysing = None
                    self._say_drift()
                if visit is None:
                    break
                self._visits.append(Visited.of(visit))
                analysing = asyncio.create_task(asyncio.to_thread(self._found.take, visit, work))
                self._listen("chamber", visit.phase.value, f"field {visit.number + 1} of {planned}")
        finally:
            if analysing is not None:
                await analysing
        self._say_drift()
        self._unless_stopped()

    def _say_drift(self) -> None:
        """Once: the fields on which the engine cannot be trusted have no scores."""
        if self._found.drift is not None and not self._drift_said:
            self._drift_said = True
            self._listen("chamber", "alarm", f"{self._found.drift}: no cell of the fields from here on is listed")

    def _unless_stopped(self) -> None:
        if self._interrupts > 1:
            raise StoppedError(f"stopped by {self._ended_by}; no list is written")

    def _next(self, visits: Iterator[Visit]) -> Visit | None:
        """The next visit; None at the end, and after a failure, which is kept."""
        try:
            return next(visits, None)
        except HspcError as error:
            self._failure = error
            self._listen("chamber", "alarm", str(error))
            return None

    # ---- cells -------------------------------------------------------------------------------------------------------

    def _list(self, facts: ChamberFacts) -> ChamberReport:
        """Everything seen as one list of objects, judged; the cells to pick in the order of a short path."""
        chamber, sort = self._settings.chamber, self._settings.sort
        places = {visit.number: (visit.x_um, visit.y_um) for visit in self._visits}
        affine = Affine(facts.affine, facts.affine_covariance)
        shows = footprint(affine, facts.camera.width_px, facts.camera.height_px)
        calibrated = Calibrated(places, affine.scale_sd, shows)
        mosaic = build_mosaic(self._found.looks, chamber.mosaic, chamber.position, calibrated)
        self._found.books.objects = len(mosaic.objects)
        position = as_shown(chamber.position, mosaic.unsteady_um)
        if mosaic.unsteady_um is not None:
            self._found.alarms["stage_unsteady"] += 1
            self._listen("chamber", "alarm", _unsteady(mosaic.unsteady_um, "stood from field to field"))
        if mosaic.in_doubt:
            self._found.alarms["overlaps_disagree"] += len(mosaic.in_doubt)
            said = (
                f"{len(mosaic.in_doubt)} fields show other cells than those they overlap with: none of theirs is listed"
            )
            self._listen("chamber", "alarm", said)
        for said in self._found.doubts():
            self._listen("chamber", "alarm", said)
        gates = GateSet(tuple(self._outlets.values()), self._classes)
        judged = judge_objects(mosaic.objects, self._found.evidence(), gates, sort.abstain, self._classes)
        # the last picture's time, not the clock's: a replay makes the same list
        seen = [visit for visit in self._visits if visit.captured_ns is not None]
        now_ns = max((visit.captured_ns or 0 for visit in seen), default=0)
        listed = make_picking_list(
            wanted(judged, self._outlets, self._classes, facts.channels[1:]),
            mosaic.objects,
            self._classes,
            now_ns,
            chamber.picking,
            position,
            reachable(chamber.limits, facts.stage),
            (seen[-1].x_um, seen[-1].y_um) if seen else None,
            facts.channels[1:],
        )
        cells = close_cells(judged, listed)
        self._found.books.close(cells)
        for sink in self._parts.sinks:
            sink.cells(cells)
        return ChamberReport(self._summary(facts, mosaic, cells, listed), facts, mosaic, cells, listed, self._visits)

    def _summary(
        self, facts: ChamberFacts, mosaic: Mosaic, cells: Sequence[ChamberCell], listed: PickingList
    ) -> dict[str, Any]:
        said = Counter(cell.classification.predicted for cell in cells if cell.classification is not None)
        moves = [offset for offset in mosaic.offsets.values() if offset.links]
        return {
            **self._found.to_json(),
            "fields": {
                "planned": len(facts.plan),
                "visited": len(self._visits),
                "settling_ms": _median([visit.settled.waited_ns / 1e6 for visit in self._visits]),
            },
            "classes": {name: said[name] for name in self._classes},
            "abstained": dict(sorted(self._found.books.doubts.items())),
            "gates": {"promises": promises(self._outlets.values())},
            "decisions_sha256": decisions_sha256(cells),
            "picking": {
                "complete": len(self._visits) == len(facts.plan),
                "listed": len(listed.picks),
                "left_out": listed.ledger()["left_out"],
            },
            "mosaic": {
                "objects": len(mosaic.objects),
                "duplicates_merged": mosaic.duplicates,
                "fields_registered": len(moves),
                "fields_in_doubt": len(mosaic.in_doubt),
                "stage_unsteady_um": mosaic.unsteady_um,
            },
            "revisit": None,
            "engine": self._parts.engine.name,
        }

    # ---- second visit ------------------------------------------------------------------------------------------------

    async def _visit_again(self, made: ChamberReport, work: FieldWork) -> None:
        """Back to the listed cells, unless the scan was ended early."""
        plan = {visit.number: visit.target for visit in self._visits}
        scanned = len(self._visits)
        if made.mosaic.stretch is not None:
            work.straighten(made.mosaic.stretch)
        first = max((target.target for target in made.facts.plan), default=-1) + 1
        targets = fields_of(made.listed, made.mosaic, plan, first)
        if targets and self._failure is None:
            await self._wait(self._settings.second_visit.after_s)
            self._unless_stopped()
        if targets and not self._interrupts and self._failure is None:
            await self._follow(self._parts.source.revisit(targets), work, scanned + len(targets))
        again = self._visits[scanned:]
        found = match_second(made.listed, made.mosaic, self._found.pictures, self._settings.chamber)
        made.revisited = revisited(found)
        limits = reachable(self._settings.chamber.limits, made.facts.stage)
        unsteady = max(made.mosaic.unsteady_um or 0.0, found.unsteady_um or 0.0)
        if found.unsteady_um is not None:
            self._found.alarms["stage_unsteady"] += 1
            self._listen("chamber", "alarm", _unsteady(found.unsteady_um, "came back to its places"))
        made.targets, kept_from = pick_targets(
            made.revisited, self._found.pictures, self._settings.chamber, unsteady, limits, first + len(targets)
        )
        for sink in self._parts.sinks:
            sink.revisited(made.revisited)
        dropped = Counter(visit.settled.reason for visit in again if visit.captured_ns is None)
        made.summary |= self._found.to_json()
        made.summary["revisit"] = {
            **report(found),
            "pickable": len(made.targets),
            "not_pickable": kept_from,
            "fields_planned": len(targets),
            "fields_visited": len(again),
            "fields_dropped": dict(sorted(dropped.items())),
        }

    async def _wait(self, seconds: float) -> None:
        """Let time pass on the rig's clock; Ctrl-C ends it."""
        match self._parts.clock:
            case None:
                pass
            case VirtualClock() as clock:
                clock.advance_to(clock.now_ns() + round(seconds * NS_PER_S))
            case _ if seconds > 0 and not self._interrupts:
                self._listen("chamber", "waiting", f"{seconds:g} s until the second visit")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._hurry.wait(), seconds)

    def _interrupted(self) -> None:
        """Ctrl-C: the first ends after this field and lists what was seen; the second stops the stage now."""
        if self._interrupts:
            with contextlib.suppress(HspcError):  # said already
                self._stop(CTRL_C)
            return
        if self._doing != "staying":
            self._listen("chamber", "interrupted", "ending after this field; Ctrl-C again stops now")
        self._end(CTRL_C)

    def _end(self, by: str) -> None:
        self._interrupts, self._ended_by = max(self._interrupts, 1), self._ended_by or by
        self._hurry.set()

    def _stop(self, by: str) -> None:
        self._interrupts, self._ended_by = 2, by
        self._hurry.set()
        try:
            self._parts.source.halt()
        except HspcError as error:
            self._listen("chamber", "alarm", f"the stage did not take the stop: {error}")
            raise

    # ---- from outside (`chamber_control.Controlled`) -----------------------------------------------------------------

    def standing(self) -> dict[str, Any]:
        """How it stands: what it does, how many fields of how many it has visited, the books."""
        fields = {"planned": self._planned, "visited": len(self._visits)}
        return {
            "mode": "chamber",
            "doing": self._doing,
            "ending": self._ended_by,
            "fields": fields,
            **self._found.books.to_json(),
        }

    def about(self) -> str | None:
        """What the run is, as the JSON text of a `ChamberHead`; None while nobody can look on."""
        return None if self._showing is None else self._showing.head

    def _shown(self) -> ChamberStanding:
        return ChamberStanding(
            doing=self._doing,
            ending=self._ended_by or "",
            planned=self._planned,
            visited=len(self._visits),
            no_driving=self._driver.no_driving,
            driven=self._driver.driven,
            here_um=None,
            books=json.dumps(self._found.books.to_json()),
            alarms=dict(self._found.alarms),
        )

    async def drive(self, x_um: float, y_um: float, by: str) -> str:
        """A person sends the stage somewhere; what came of it. Raises HspcError with the reason where it is refused."""
        said = await self._driver.drive(x_um, y_um)
        self._listen("chamber", "driven", f"by {by}: {said}")
        return said

    def end(self, by: str) -> None:
        """A person ends the run after the field under way; what was seen is listed."""
        self._listen("chamber", "ending", f"by {by}" if self._doing == "staying" else f"after this field, by {by}")
        self._end(by)

    def stop(self, by: str) -> None:
        """A person stops the stage now. Raises HspcError if the stage does not take it; the run ends all the same."""
        listed = "the list is made" if self._doing in ("report", "staying") else "no list is written"
        self._listen("chamber", "stopped", f"by {by}: the stage is halted, {listed}")
        self._stop(by)


def _unsteady(um: float, what: str) -> str:
    return (
        f"the stage {what} ± {um:.1f} µm, worse than the settings say: too far off to pick by, if beyond the tolerance"
    )


def _median(values: Sequence[float]) -> float | None:
    return round(float(np.median(values)), 3) if values else None
