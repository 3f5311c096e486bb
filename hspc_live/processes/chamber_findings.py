"""What a chamber run has found so far: every visit goes from picture to looks, and those of the scan to scores.

One thread at a time works here, the one for pictures and classifier; the run reads what is there between visits.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from hspc_live.core.chamber import FieldObjects, Phase, Visit
from hspc_live.core.errors import ModelError
from hspc_live.core.protocols import Engine
from hspc_live.core.values import Pixels
from hspc_live.processes.canary import Canary, canary_of
from hspc_live.processes.chamber_fields import FieldWork, features
from hspc_live.processes.chamber_io import FieldSink
from hspc_live.stages.chamber_verdicts import ChamberBooks, Evidence
from hspc_live.stages.company import Doubt
from hspc_live.stages.gate import usable
from hspc_live.stages.looks import Look
from hspc_live.stages.revisit import Picture

OF_FIELDS = "_fields"  # what the names of alarms end with that count fields in doubt
ENGINE_DRIFT = "engine_drift"
DOUBT_WORDS = {
    Doubt.FAINT: "show things as large as cells but much fainter than their other cells; these count as debris",
    Doubt.DIRTY: "show more debris of the size of cells than cells",
    Doubt.CONTRAST: "do not show whether they are DIC or brightfield",
}


class Findings:
    """The books of a run and what its verdicts rest on.

    `looks` are those of the scan, `pictures` those of the second visit; `work_ns` is where the time went.
    """

    def __init__(self, engine: Engine, sinks: Sequence[FieldSink]) -> None:
        self._engine, self._sinks = engine, sinks
        self._canary: Canary | None = None
        self.drift: str | None = None
        self.books = ChamberBooks()
        self.alarms: Counter[str] = Counter()
        self.looks: list[Look] = []
        self.pictures: list[Picture] = []
        self.work_ns = {"segment": 0, "engine": 0}
        self._scores: dict[tuple[int, int], tuple[float, ...]] = {}
        self._refused: dict[tuple[int, int], str] = {}
        self._features: dict[tuple[int, int], Mapping[str, float]] = {}

    def watch(self, crop: Pixels, dtype: str, sound: Engine | None = None) -> None:
        """From now on the engine has to score `crop` (S, S), uint8, behind every field as it, or `sound`, does now.

        A field where it does not is left without scores, and `drift` says why. Raises ModelError.
        """
        deep = np.dtype(np.uint16) if dtype == "uint16" else np.dtype(np.uint8)
        with _enough_memory():
            self._canary = canary_of(self._engine if sound is None else sound, crop, deep)

    def evidence(self) -> Evidence:
        """What there is on every view, by field and view."""
        return Evidence(self._scores, self._refused, self._features)

    def to_json(self) -> dict[str, Any]:
        """The books, whether they balance, the alarms and the time, as a run's summary holds them."""
        violations = self.books.violations()
        return {
            **self.books.to_json(),
            "ledger": {"balanced": not violations, "violations": violations},
            "alarms": dict(sorted(self.alarms.items())),
            "work_ns": dict(self.work_ns),
            "canary": {"rides": 0 if self._canary is None else self._canary.rides, "drift": self.drift},
        }

    def doubts(self) -> list[str]:
        """What a person should look at before trusting the cells, a line for each kind."""
        counts = {doubt: self.alarms[doubt.value + OF_FIELDS] for doubt in Doubt}
        return [
            f"{count} fields {DOUBT_WORDS[doubt]}: look at the pictures before trusting the list"
            for doubt, count in counts.items()
            if count
        ]

    def take(self, visit: Visit, work: FieldWork) -> None:
        """One visit from picture to looks, classified if it is one of the scan."""
        book = self.books.frames
        if not visit.pictures:
            book.captured += 1
            book.dropped[visit.settled.reason] += 1
            for sink in self._sinks:
                sink.field(visit, None)
            return
        book.captured += len(visit.pictures)
        began = time.perf_counter_ns()
        objects = work.find(visit)
        looks = work.looks(visit, objects)
        self.work_ns["segment"] += time.perf_counter_ns() - began
        self.alarms.update(objects.result.alarms)
        self.alarms.update(doubt + OF_FIELDS for doubt in objects.doubts)
        book.processed += len(visit.pictures)
        for sink in self._sinks:
            sink.field(visit, objects)
        match visit.phase:
            case Phase.SCAN:
                self.looks += looks
                self._classify(visit, objects)
            case Phase.REVISIT:
                self.pictures.append(work.picture(visit, looks))

    def _classify(self, visit: Visit, objects: FieldObjects) -> None:
        """Scores for the accepted views; every view ends in the book, by reason where it has no score."""
        book, number = self.books.views, visit.number
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
        drift: str | None = None
        with _enough_memory():
            scores = self._engine.infer(objects.result.crops)
            if self._canary is not None:
                self._canary.rides += 1
                drift = self._canary.ask(self._engine)
        unusable = "nan_scores"
        if drift is not None:
            self.drift, unusable = self.drift or drift, ENGINE_DRIFT
            self.alarms[ENGINE_DRIFT] += 1
            scores = np.full_like(scores, np.nan)  # nothing is listed on what it says
        self.work_ns["engine"] += time.perf_counter_ns() - began
        for view, row in zip(views.tolist(), scores.tolist(), strict=True):
            if usable(row):
                book.classified += 1
                self._scores[number, view] = tuple(row)
            else:
                book.skipped[unusable] += 1
                self._refused[number, view] = unusable
        for sink in self._sinks:
            sink.scores(number, views, scores)


@contextmanager
def _enough_memory() -> Iterator[None]:
    """Batches are as they are: smaller ones would give other last bits, and a replay would not repeat the run."""
    try:
        yield
    except MemoryError as error:
        raise ModelError(f"the engine has run out of memory ({error}): give it smaller engine.buckets") from error
