"""An engine with faults: out of memory, no numbers, scores in the wrong rows, scores that drift."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.protocols import Engine
from hspc_live.core.values import Pixels
from hspc_live.faults.schedule import Injector
from hspc_live.settings.faults import EngineDrift, EngineFault, EngineNan, EngineOutOfMemory, EngineWrongRows

KINDS: tuple[type[EngineFault], ...] = (EngineOutOfMemory, EngineNan, EngineWrongRows, EngineDrift)


class FaultyEngine:
    """A `core.protocols.Engine` around another one."""

    def __init__(self, engine: Engine, injector: Injector) -> None:
        self._engine = engine
        self._injector = injector
        self._memory: list[tuple[EngineOutOfMemory, int]] = []  # and how many batches are still to fail
        self._nans: list[tuple[EngineNan, int]] = []
        self._wrong_rows = False
        self._drift = 0.0

    @property
    def name(self) -> str:
        """As the engine's."""
        return self._engine.name

    @property
    def precision(self) -> str:
        """As the engine's."""
        return self._engine.precision

    @property
    def classes(self) -> tuple[str, ...]:
        """As the engine's."""
        return self._engine.classes

    @property
    def buckets(self) -> tuple[int, ...]:
        """As the engine's."""
        return self._engine.buckets

    def warm_up(self) -> Mapping[int, float]:
        """As the engine's."""
        return self._engine.warm_up()

    def infer(self, crops: Pixels) -> NDArray[np.float32]:
        """The engine's scores as the faults leave them. Raises MemoryError where one says so."""
        self._strike()
        for place, (fault, left) in enumerate(self._memory):
            if len(crops) > fault.above:
                self._memory[place : place + 1] = [(fault, left - 1)] if left > 1 else []
                self._injector.done(fault, f"a batch of {len(crops)}")
                raise MemoryError("out of memory (fault plan)")
        scores = self._engine.infer(crops)
        if self._nans:
            nan, left = self._nans.pop(0)
            self._nans[:0] = [(nan, left - 1)] if left > 1 else []
            self._injector.done(nan, f"a batch of {len(crops)}")
            return np.full_like(scores, np.nan)
        if self._wrong_rows:
            scores = np.roll(scores, 1, axis=0)
        if self._drift:
            best = scores.argmax(axis=1)[:, np.newaxis]
            spread = np.full_like(scores, self._drift / max(1, scores.shape[1] - 1))
            np.put_along_axis(spread, best, -self._drift, axis=1)
            scores = (scores + spread).astype(np.float32)
        return scores

    def _strike(self) -> None:
        for fault in self._injector.due(KINDS):
            match fault:
                case EngineOutOfMemory(count=count):
                    self._memory.append((fault, count))
                case EngineNan(count=count):
                    self._nans.append((fault, count))
                case EngineWrongRows():
                    self._wrong_rows = True
                    self._injector.done(fault)
                case EngineDrift(by=by):
                    self._drift += by
                    self._injector.done(fault)
                case _:
                    assert_never(fault)

    def close(self) -> None:
        """As the engine's."""
        self._engine.close()
