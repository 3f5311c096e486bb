"""A chamber run from the first field to the second visit, in one process: the stage is its limit, not the computer.

Devices work in one thread, pictures and classifier in another: while the stage goes to the next field, the one before
is segmented and classified. From the visit onwards live and replay run this very code (`chamber_io`). The crops of one
field form the engine's batches, so the last bits of a score do not depend on how fast anything was.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hspc_live.core.chamber import ChamberCell, ChamberFacts, FieldObjects, Phase, Visit
from hspc_live.core.clock import NS_PER_S, VirtualClock
from hspc_live.core.errors import HspcError, StoppedError
from hspc_live.processes.chamber_fields import FieldWork, features
from hspc_live.processes.chamber_second import fields_of, match_second, pick_targets, report, revisited
from hspc_live.processes.chamber_values import ChamberParts, ChamberReport, Visited
from hspc_live.processes.signals import handle_signals
from hspc_live.settings.chamber_run import ChamberRunSettings
from hspc_live.settings.sort import Outlet
from hspc_live.stages.chamber_verdicts import (
    ChamberBooks,
    Evidence,
    close_cells,
    decisions_sha256,
    judge_objects,
    wanted,
)
from hspc_live.stages.gate import GateSet, usable
from hspc_live.stages.mosaic import Look, Mosaic, build_mosaic
from hspc_live.stages.picking import PickingList, make_picking_list
from hspc_live.stages.revisit import Picture
from hspc_live.stages.tiling import reachable

Listener = Callable[[str, str, str], None]


class ChamberRun:
    """One run. `revisit` goes back to the listed cells afterwards."""

    def __init__(
        self,
        parts: ChamberParts,
        settings: ChamberRunSettings,
        *,
        revisit: bool = False,
        listen: Listener = lambda *_: None,
    ) -> None:
        self._parts, self._settings, self._wants_revisit, self._listen = parts, settings, revisit, listen
        self._books = ChamberBooks()
        self._alarms: Counter[str] = Counter()
        self._classes = parts.engine.classes
        self._outlets = {o.name: Outlet(name=o.name, gate=o.gate, priority=o.priority) for o in settings.sort.outlets}
        self._visits: list[Visited] = []
        self._looks: list[Look] = []
        self._pictures: list[Picture] = []
        self._scores: dict[tuple[int, int], tuple[float, ...]] = {}
        self._refused: dict[tuple[int, int], str] = {}
        self._features: dict[tuple[int, int], Mapping[str, float]] = {}
        self._interrupts = 0
        self._hurry = asyncio.Event()
        self._failure: HspcError | None = None
        self._work_ns = {"segment": 0, "engine": 0}

    async def run(self) -> ChamberReport:
        """Scan, list, visit again. Raises what kept the run from starting, and StoppedError after a second Ctrl-C."""
        began = time.perf_counter()
        restore = handle_signals(asyncio.get_running_loop(), self._interrupted)
        summary: dict[str, Any] = {}
        try:
            facts = await self._opened()
            self._listen("chamber", "running", f"{len(facts.plan)} fields planned")
            for sink in self._parts.sinks:
                sink.begin(facts, self._classes)
            work = FieldWork(facts, self._settings.segment, self._settings.chamber.position, self._parts.geometry)
            await self._follow(self._parts.source.scan(), work, len(facts.plan))
            made = self._list(facts)
            if self._wants_revisit:
                await self._visit_again(made, work)
            made.interrupted, made.failure = self._interrupts > 0, self._failure
            made.summary["interrupted"] = made.interrupted
            made.summary["failure"] = None if self._failure is None else str(self._failure)
            made.summary["seconds"] = round(time.perf_counter() - began, 3)
            summary = made.summary
            return made
        finally:
            restore()
            try:
                await asyncio.to_thread(self._parts.source.close)
            except HspcError as error:  # what was seen is worth more than a device that lets go badly
                self._listen("chamber", "alarm", str(error))
            kept = [sink.close(summary) for sink in self._parts.sinks]
            if kept:
                summary["recording"] = dict(kept[0])

    async def _opened(self) -> ChamberFacts:
        try:
            return await asyncio.to_thread(self._parts.source.open)
        except HspcError as error:
            if self._interrupts > 1:
                raise StoppedError("stopped by Ctrl-C before the first field") from error
            raise

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
                if visit is None:
                    break
                self._visits.append(Visited.of(visit))
                analysing = asyncio.create_task(asyncio.to_thread(self._take, visit, work))
                self._listen("chamber", visit.phase.value, f"field {visit.number + 1} of {planned}")
        finally:
            if analysing is not None:
                await analysing
        if self._interrupts > 1:
            raise StoppedError("stopped by Ctrl-C; no list was made")

    def _next(self, visits: Iterator[Visit]) -> Visit | None:
        """The next visit; None at the end, and after a failure, which is kept."""
        try:
            return next(visits, None)
        except HspcError as error:
            self._failure = error
            self._listen("chamber", "alarm", str(error))
            return None

    def _take(self, visit: Visit, work: FieldWork) -> None:
        """One visit from picture to looks, classified if it is one of the scan."""
        book = self._books.frames
        if not visit.pictures:
            book.captured += 1
            book.dropped[visit.settled.reason] += 1
            for sink in self._parts.sinks:
                sink.field(visit, None)
            return
        book.captured += len(visit.pictures)
        began = time.perf_counter_ns()
        objects = work.find(visit)
        looks = work.looks(visit, objects)
        self._work_ns["segment"] += time.perf_counter_ns() - began
        self._alarms.update(objects.result.alarms)
        book.processed += len(visit.pictures)
        for sink in self._parts.sinks:
            sink.field(visit, objects)
        match visit.phase:
            case Phase.SCAN:
                self._looks += looks
                self._classify(visit, objects)
            case Phase.REVISIT:
                self._pictures.append(work.picture(visit, looks))

    def _classify(self, visit: Visit, objects: FieldObjects) -> None:
        """Scores for the accepted views; every view ends in the book, by reason where it has no score."""
        book, number = self._books.views, visit.number
        book.detected += len(objects.reasons) + objects.result.over_cap
        book.skipped.update({"over_cap": objects.result.over_cap} if objects.result.over_cap else {})
        for view, reason in enumerate(objects.reasons):
            self._features[number, view] = features(objects, view)
            if reason:
                book.rejected[reason] += 1
                self._refused[number, view] = reason
        views = np.array([view for view, reason in enumerate(objects.reasons) if not reason], np.int64)
        if not len(views):
            return
        began = time.perf_counter_ns()
        scores = self._parts.engine.infer(objects.result.crops)
        self._work_ns["engine"] += time.perf_counter_ns() - began
        for view, row in zip(views.tolist(), scores.tolist(), strict=True):
            if usable(row):
                book.classified += 1
                self._scores[number, view] = tuple(row)
            else:
                book.skipped["nan_scores"] += 1
                self._refused[number, view] = "nan_scores"
        for sink in self._parts.sinks:
            sink.scores(number, views, scores)

    # ---- cells -------------------------------------------------------------------------------------------------------

    def _list(self, facts: ChamberFacts) -> ChamberReport:
        """Everything seen as one list of objects, judged; the cells to pick in the order of a short path."""
        chamber, sort = self._settings.chamber, self._settings.sort
        mosaic = build_mosaic(self._looks, chamber.mosaic, chamber.position)
        self._books.objects = len(mosaic.objects)
        gates = GateSet(tuple(self._outlets.values()), self._classes)
        evidence = Evidence(self._scores, self._refused, self._features)
        judged = judge_objects(mosaic.objects, evidence, gates, sort.abstain, self._classes)
        # the last picture's time, not the clock's: a replay makes the same list
        seen = [visit for visit in self._visits if visit.captured_ns is not None]
        now_ns = max((visit.captured_ns or 0 for visit in seen), default=0)
        listed = make_picking_list(
            wanted(judged, self._outlets, self._classes),
            mosaic.objects,
            self._classes,
            now_ns,
            chamber.picking,
            chamber.position,
            reachable(chamber.limits, facts.stage),
            (seen[-1].x_um, seen[-1].y_um) if seen else None,
        )
        cells = close_cells(judged, listed)
        self._books.close(cells)
        for sink in self._parts.sinks:
            sink.cells(cells)
        return ChamberReport(self._summary(facts, mosaic, cells, listed), facts, mosaic, cells, listed, self._visits)

    def _summary(
        self, facts: ChamberFacts, mosaic: Mosaic, cells: Sequence[ChamberCell], listed: PickingList
    ) -> dict[str, Any]:
        books, violations = self._books, self._books.violations()
        said = Counter(cell.classification.predicted for cell in cells if cell.classification is not None)
        moves = [offset for offset in mosaic.offsets.values() if offset.links]
        return {
            **books.to_json(),
            "fields": {
                "planned": len(facts.plan),
                "visited": len(self._visits),
                "settling_ms": _median([visit.settled.waited_ns / 1e6 for visit in self._visits]),
            },
            "classes": {name: said[name] for name in self._classes},
            "ledger": {"balanced": not violations, "violations": violations},
            "decisions_sha256": decisions_sha256(cells),
            "picking": {"listed": len(listed.picks), "left_out": listed.ledger()["left_out"]},
            "mosaic": {
                "objects": len(mosaic.objects),
                "duplicates_merged": mosaic.duplicates,
                "fields_registered": len(moves),
            },
            "revisit": None,
            "alarms": dict(sorted(self._alarms.items())),
            "engine": self._parts.engine.name,
            "work_ns": dict(self._work_ns),
        }

    # ---- second visit ------------------------------------------------------------------------------------------------

    async def _visit_again(self, made: ChamberReport, work: FieldWork) -> None:
        """Back to the listed cells, unless the scan was ended early."""
        plan = {visit.number: visit.target for visit in self._visits}
        scanned = len(self._visits)
        first = max((target.target for target in made.facts.plan), default=-1) + 1
        targets = fields_of(made.listed, made.mosaic, plan, first)
        if targets and self._failure is None:
            await self._wait(self._settings.second_visit.after_s)
        if targets and not self._interrupts and self._failure is None:
            await self._follow(self._parts.source.revisit(targets), work, scanned + len(targets))
        again = self._visits[scanned:]
        found = match_second(made.listed, made.mosaic, self._pictures, self._settings.chamber)
        made.revisited = revisited(found)
        limits = reachable(self._settings.chamber.limits, made.facts.stage)
        clear_um = self._settings.chamber.picking.clear_um
        made.targets, kept_from = pick_targets(made.revisited, self._pictures, clear_um, limits, first + len(targets))
        for sink in self._parts.sinks:
            sink.revisited(made.revisited)
        dropped = Counter(visit.settled.reason for visit in again if visit.captured_ns is None)
        violations = self._books.violations()
        made.summary |= {
            **self._books.to_json(),
            "ledger": {"balanced": not violations, "violations": violations},
            "alarms": dict(sorted(self._alarms.items())),
            "work_ns": dict(self._work_ns),
        }
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
        self._interrupts += 1
        self._hurry.set()
        if self._interrupts == 1:
            self._listen("chamber", "interrupted", "ending after this field; Ctrl-C again stops now")
        else:
            self._parts.source.halt()


def _median(values: Sequence[float]) -> float | None:
    return round(float(np.median(values)), 3) if values else None
