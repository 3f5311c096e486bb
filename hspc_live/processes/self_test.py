"""The self-test before arming: everything that must hold before a sorter may deflect a single cell.

Some findings last (a model that does not fit the rig, an alarm that stands) and refuse at once; others pass by
themselves within moments of a start (no frame yet, a clock known too roughly), so arming waits for them a little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hspc_live.core.clock import NS_PER_MS, NS_PER_S
from hspc_live.core.events import FrameSeen
from hspc_live.core.protocols import Engine
from hspc_live.core.values import CameraInfo, Pixels
from hspc_live.processes.canary import Canary
from hspc_live.processes.order import Ordered
from hspc_live.stages.gate import usable

FRAMES = 3  # that must have come through before arming
FRESH_NS = NS_PER_S  # the newest of them may be so old
PERIODS = 10  # or so many frame periods, for slow cameras


@dataclass(frozen=True, slots=True)
class Findings:
    """Reasons not to arm now: `lasting` ones, and `passing` ones that time may mend."""

    lasting: tuple[str, ...]
    passing: tuple[str, ...]


class SelfTest:
    """Watches what comes through; `find` says what keeps the sorter from being armed."""

    def __init__(self, camera: CameraInfo, max_clock_error_ms: float) -> None:
        period_ns = round(NS_PER_S / camera.frames_per_s) if camera.frames_per_s > 0 else 0
        self._fresh_ns = max(FRESH_NS, PERIODS * period_ns)
        self._max_clock_error_ms = max_clock_error_ms
        self._frames = 0
        self._captured_ns = 0
        self._alarms: tuple[str, ...] = ()

    def frame(self, item: Ordered) -> None:
        """One frame has been settled."""
        if isinstance(item.event, FrameSeen):
            self._frames += 1
            self._captured_ns = item.event.captured_ns
            self._alarms = item.event.alarms

    def find(
        self, now_ns: int, settings: tuple[str, ...], standing: Mapping[str, str], clock_bound_ns: int
    ) -> Findings:
        """`settings`: what they, the card and the camera forbid; `standing`: the sort core's alarms."""
        lasting = [*settings, *(f"{name}: {detail}" for name, detail in standing.items())]
        passing = []
        if self._frames < FRAMES or now_ns - self._captured_ns > self._fresh_ns:
            passing.append("no frames are coming from the camera")
        elif self._alarms:
            passing.append(f"the camera's picture is {', '.join(self._alarms)}")
        if clock_bound_ns > self._max_clock_error_ms * NS_PER_MS:
            passing.append(
                f"the sorter's clock is known to {clock_bound_ns / NS_PER_MS:.2f} ms only "
                f"(at most {self._max_clock_error_ms:g} ms: sort.timing.max_clock_error_ms)"
            )
        return Findings(tuple(lasting), tuple(passing))


@dataclass(frozen=True, slots=True, eq=False)
class EngineProof:
    """What an engine is held to that was built: a uint8 crop (S, S) that is known to it, and its parity check.

    `check` runs the engine and takes seconds; it gives the reason why it must not be used, if there is one.
    """

    crop: Pixels
    check: Callable[[Engine], str | None]


def disc_crop(size_px: int) -> Pixels:
    """A disc on an even ground (S, S), uint8: what stands for a cell where there is no real one."""
    crop: Pixels = np.full((size_px, size_px), 100, np.uint8)
    along = np.arange(size_px) - size_px / 2
    crop[along[:, None] ** 2 + along**2 < (size_px / 4) ** 2] = 160
    return crop


def engine_problem(engine: Engine, size_px: int, dtype: np.dtype[np.uint8] | np.dtype[np.uint16]) -> str | None:
    """Why the engine's scores cannot be trusted: asked for an even crop and for one with a disc. None if they can."""
    crops: Pixels = np.full((2, size_px, size_px), 100, dtype)
    crops[1] = disc_crop(size_px)
    scores = engine.infer(crops)
    if scores.shape != (2, len(engine.classes)) or not all(usable(row) for row in scores.tolist()):
        return f"{engine.name} gave no usable scores for a test crop: {scores.tolist()}"
    return None


def engine_examined(
    engine: Engine,
    size_px: int,
    dtype: np.dtype[np.uint8] | np.dtype[np.uint16],
    canary: Canary | None,
    proof: EngineProof | None,
) -> str | None:
    """The whole check of an engine, the quick parts of it first: why it must not be used, or None. Raises nothing."""
    try:
        problem = engine_problem(engine, size_px, dtype)
        if problem is None and canary is not None:
            problem = canary.ask(engine)
        return problem if problem is not None or proof is None else proof.check(engine)
    except Exception as error:  # an engine's bug must keep the sorter from being armed, not end the process
        return f"the engine failed its check: {type(error).__name__}: {error}"
