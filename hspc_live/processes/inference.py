"""Feeds the engine: live by deadline in a thread, in replay by fixed groups of frames.

Live is work-conserving (`stages.batch`). Replay composes its batches from the recording alone (the views of N
consecutive frames), because the last bits of a score depend on the batch it was computed in, and a replay must give
the same verdicts at any speed and with any number of workers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.clock import NS_PER_MS
from hspc_live.core.errors import ModelError
from hspc_live.core.events import Classify, Scored, Skipped
from hspc_live.core.protocols import Engine
from hspc_live.core.values import Pixels
from hspc_live.processes.canary import Canary
from hspc_live.stages.batch import BucketTimes, next_batch

Key = tuple[int, int]

PROBE_NS = 200_000_000

T = TypeVar("T")


class Inference:
    """What waits for the engine, and the one batch that is under way.

    `drift` says why the engine can no longer be trusted: what the canary has shown, or how it failed (`failure`, the
    first one). A batch whose canary is wrong, or that failed, comes back without a usable score. An engine that runs
    out of memory gets smaller batches from then on, once.
    """

    def __init__(self, engine: Engine, p99_ms: Mapping[int, float], canary: Canary | None = None) -> None:
        self._engine = engine
        self._times = BucketTimes(p99_ms)
        self._last_run_ns = 0
        self._crops: dict[Key, Pixels] = {}
        self._waiting: dict[Key, Classify] = {}
        self._batch: asyncio.Future[NDArray[np.float32]] | None = None
        self._keys: tuple[Key, ...] = ()
        self._canary = canary
        self._riding = False
        self.drift: str | None = None
        self.failure: str | None = None
        self.smaller: int | None = None  # the largest batch that the engine has had memory for
        self._wanted_exam: Callable[[], str | None] | None = None
        self._exam: asyncio.Future[str | None] | None = None
        self.busy_ns = 0
        self.batches = 0
        self.views = 0

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing is under way."""
        return not self._waiting and self._batch is None and self._exam is None

    @property
    def under_way(self) -> asyncio.Future[NDArray[np.float32]] | asyncio.Future[str | None] | None:
        """The batch or the examination under way, to wait for."""
        return self._batch or self._exam

    @property
    def canary_rides(self) -> int:
        """How often the canary has ridden along."""
        return 0 if self._canary is None else self._canary.rides

    def examine(self, check: Callable[[], str | None]) -> None:
        """Run `check` on the engine as soon as it is free, in a thread; `examined` gives its answer once."""
        self._wanted_exam = check

    @property
    def examining(self) -> bool:
        """Whether an examination is asked for or under way, or its answer has not been fetched."""
        return self._wanted_exam is not None or self._exam is not None

    def examined(self) -> tuple[str | None] | None:
        """The answer of an examination that has finished, if one has: what is wrong, or None. Raises what it raised."""
        if self._exam is None or not self._exam.done():
            return None
        answer, self._exam = self._exam.result(), None
        self.drift = None  # whatever the canary has shown: the whole check knows better
        return (answer,)

    @property
    def p99_ms(self) -> Mapping[int, float]:
        """Bucket → p99 in milliseconds, as known now."""
        return self._times.p99_ms

    def add(self, request: Classify, crop: Pixels) -> None:
        """Queue one view; the crop is copied out of the message it came in."""
        key = (request.frame, request.view)
        self._waiting[key] = request
        self._crops[key] = crop.copy()

    def collect(self) -> Scored | None:
        """The scores of the batch that has finished, if one has; NaN if the engine failed."""
        if self._batch is None or not self._batch.done():
            return None
        task, task_keys = self._batch, self._keys
        self._batch, self._keys = None, ()
        if (error := task.exception()) is not None:
            self._failed(error)
            self._riding = False
            unusable = np.full((len(task_keys), len(self._engine.classes)), np.nan, np.float32)
            return Scored(task_keys, unusable) if task_keys else None
        scores = task.result()
        self.views += len(task_keys)
        if self._riding and self._canary is not None:
            self._riding = False
            if (drift := self._canary.drift(scores[-1] if len(scores) else scores)) is not None:
                self.drift = drift
            scores = scores[:-1] if drift is None else np.full_like(scores[:-1], np.nan)  # no decision without trust
        return Scored(task_keys, scores) if task_keys else None  # a probe's scores are nobody's

    def start(self, now_ns: int) -> Skipped | None:
        """If the engine is free, start the next batch; returns the views that can no longer make it."""
        if self._batch is not None or self._exam is not None:
            return None
        if self._wanted_exam is not None:
            self._exam = _in_a_thread(self._wanted_exam)
            self._wanted_exam = None
            return None
        if not self._waiting:
            return None
        batch, late = next_batch(self._waiting.values(), now_ns, self._buckets(), self._times.single_ms)
        skipped = tuple((c.frame, c.view) for c in late)
        probe = [self._crops.pop(key) for key in skipped]
        for key in skipped:
            del self._waiting[key]
        if batch:
            self._keys = tuple((c.frame, c.view) for c in batch)
            crops = self._gather(self._keys)
            if self._canary is not None and self._canary.rides_now(len(crops), self._engine.buckets, now_ns):
                crops = cast("Pixels", np.concatenate((crops, self._canary.crop[np.newaxis])))
                self._riding = True
            self._batch = _in_a_thread(self._infer_or_smaller, crops)
        elif probe and time.perf_counter_ns() - self._last_run_ns > PROBE_NS:
            # everything is thought to be too late: time one view again, or a passing load would end the sort for good
            self._batch = _in_a_thread(self._infer_or_smaller, probe[0][np.newaxis])
        return Skipped(skipped) if skipped else None

    def run_all(self) -> Scored | None:
        """Replay: score everything that waits, now, in key order; chunks of the largest bucket.

        Raises ModelError where there is no memory for that: smaller batches would give other last bits.
        """
        if not self._waiting:
            return None
        keys = tuple(sorted(self._waiting))
        try:
            scored = Scored(keys, self._infer(self._gather(keys)))
        except MemoryError as error:
            raise ModelError(f"the engine has run out of memory ({error}): give it smaller engine.buckets") from error
        self.views += len(keys)
        return scored

    def _gather(self, keys: tuple[Key, ...]) -> Pixels:
        crops = cast("Pixels", np.stack([self._crops.pop(key) for key in keys]))
        for key in keys:
            del self._waiting[key]
        return crops

    def _buckets(self) -> Mapping[int, float]:
        """Bucket → p99, of those that the engine has memory for."""
        table = self._times.p99_ms
        return table if self.smaller is None else {b: p99 for b, p99 in table.items() if b <= self.smaller}

    def _infer_or_smaller(self, crops: Pixels) -> NDArray[np.float32]:
        """As `_infer`; where there is no memory for all at once, in parts of the next smaller bucket, from then on.

        A canary beside a full batch is a part of its own then. Raises MemoryError the second time.
        """
        if self.smaller is None or len(crops) <= self.smaller:
            try:
                return self._infer(crops)
            except MemoryError:
                smaller = max((b for b in self._times.p99_ms if b < len(crops)), default=None)
                if self.smaller is not None or smaller is None:
                    raise
                self.smaller = smaller
        parts = [self._infer(crops[at : at + self.smaller]) for at in range(0, len(crops), self.smaller)]
        return np.concatenate(parts)

    def _failed(self, error: BaseException) -> None:
        """No score, no trust; the run goes on, because a recording is worth having without a verdict, too."""
        if isinstance(error, MemoryError):
            said = f"the engine has run out of memory: {error}"
        else:
            said = f"the engine failed: {type(error).__name__}: {error}"
        self.drift = said
        self.failure = self.failure or said

    def _infer(self, crops: Pixels) -> NDArray[np.float32]:
        started = time.perf_counter_ns()
        scores = self._engine.infer(crops)
        self._last_run_ns = time.perf_counter_ns()
        self.busy_ns += self._last_run_ns - started
        self._times.add(len(crops), (self._last_run_ns - started) / NS_PER_MS)
        self.batches += 1
        return scores


def _in_a_thread(work: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
    """Plainly a future: a task around it (`asyncio.to_thread`) would come to know one turn of the loop later."""
    return asyncio.get_running_loop().run_in_executor(None, work, *arguments)
