"""What a chamber run is made of, and what it leaves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hspc_live.core.chamber import ChamberCell, ChamberFacts, Phase, Revisited, Settled, Visit
from hspc_live.core.clock import Clock
from hspc_live.core.crop import CropGeometry
from hspc_live.core.errors import HspcError
from hspc_live.core.protocols import Engine
from hspc_live.core.values import Pixels, StageTarget
from hspc_live.processes.chamber_io import FieldSink, FieldSource
from hspc_live.stages.mosaic import Mosaic
from hspc_live.stages.picking import PickingList


@dataclass(frozen=True, slots=True)
class ChamberParts:
    """What a run is made of, all of it built by wiring.

    `clock` is that of the rig, by which the second visit waits; a replay has none and waits for nothing. `canary` is a
    uint8 crop (S, S) that the engine is known to score well; None where nothing was built for it. What it scores before
    the first field is asked of `sound`, the engine without what a fault plan puts before it; None where it is `engine`.
    """

    source: FieldSource
    engine: Engine
    geometry: CropGeometry
    sinks: tuple[FieldSink, ...] = ()
    clock: Clock | None = None
    canary: Pixels | None = None
    sound: Engine | None = None


@dataclass(frozen=True, slots=True)
class Visited:
    """A visit without its pictures, of which a run makes gigabytes. `exposure` and `captured_ns` are those of the
    transmitted picture: its index, and mid-exposure; None where there is none.
    """

    number: int
    phase: Phase
    target: StageTarget
    x_um: float
    y_um: float
    settled: Settled
    exposure: int | None
    captured_ns: int | None

    @classmethod
    def of(cls, visit: Visit) -> Visited:
        """What is kept of `visit`."""
        frame = visit.pictures[0].frame if visit.pictures else None
        exposure, captured_ns = (None, None) if frame is None else (frame.index, frame.captured_ns)
        return cls(
            visit.number, visit.phase, visit.target, visit.x_um, visit.y_um, visit.settled, exposure, captured_ns
        )


@dataclass(slots=True)
class ChamberReport:
    """What a run left. `failure` ended the scan or the second visit early; what was seen until then is all here.

    `handed_over`: it was before the run's end, since the stage was kept afterwards.
    """

    summary: dict[str, Any]
    facts: ChamberFacts
    mosaic: Mosaic
    cells: list[ChamberCell]
    listed: PickingList
    visits: list[Visited]
    revisited: list[Revisited] = field(default_factory=list)
    targets: list[StageTarget] = field(default_factory=list)
    interrupted: bool = False
    handed_over: bool = False
    failure: HspcError | None = None
