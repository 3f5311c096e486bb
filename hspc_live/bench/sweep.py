"""One load of the pipeline, and the knee of the curve that loads make: the highest that is still carried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from hspc_live.bench.figures import Figure, digits

MET: Final = 0.99
"""Share of the cells decided in time that a load which is carried must have."""

QUANTILES: Final = ("p50", "p99", "p999")


@dataclass(frozen=True, slots=True)
class Point:
    """One load: what was offered, what came of it, by repeat."""

    share: float
    frames_per_s: float
    offered_cells_per_s: float
    engine_ms: float
    decided_per_s: tuple[float, ...]
    latency_ms: Mapping[str, tuple[float, ...]]
    met: tuple[float, ...]
    dropped: tuple[float, ...]

    @property
    def carried(self) -> bool:
        """No frame dropped or lost in half of the repeats at least, and the cells decided in time."""
        return bool(self.met) and float(np.median(self.dropped)) == 0.0 and float(np.median(self.met)) >= MET

    def to_json(self) -> dict[str, Any]:
        """The point in medians. `beyond_engine_ms`: latencies less what the engine alone takes for one cell."""
        latency = {name: _median(values) for name, values in self.latency_ms.items()}
        return {
            "share": self.share,
            "frames_per_s": digits(self.frames_per_s),
            "offered_cells_per_s": digits(self.offered_cells_per_s),
            "decided_cells_per_s": _median(self.decided_per_s),
            "latency_ms": latency,
            "latency_ms_range": {name: _range(values) for name, values in self.latency_ms.items()},
            "beyond_engine_ms": {
                name: None if value is None else digits(max(0.0, value - self.engine_ms))
                for name, value in latency.items()
            },
            "deadline_met_fraction": _median(self.met),
            "dropped_fraction": _median(self.dropped),
            "carried": self.carried,
        }

    def figures(self) -> dict[str, Figure]:
        """For `bench compare`."""
        label = f"load {self.share:g}"
        found = {f"{label}, decided": Figure.of(self.decided_per_s, "cells/s")}
        for name, values in self.latency_ms.items():
            if values:
                found[f"{label}, latency {name}"] = Figure.of(values, "ms", "lower")
        if self.met:
            found[f"{label}, in time"] = Figure.of(self.met, "of the cells")
        found[f"{label}, frames dropped"] = Figure.of(self.dropped, "of the frames", "lower")
        return found


def point(
    share: float,
    frames_per_s: float,
    cells_per_s: float,
    engine_ms: float,
    summaries: Sequence[Mapping[str, Any]],
    latencies: Sequence[Mapping[str, Any]],
) -> Point:
    """A load from the summaries and the latencies of its runs. What a run did not decide at all has no latency."""
    met = tuple(s["deadline"]["met_fraction"] for s in summaries)
    decided, dropped = [], []
    for summary in summaries:
        frames, captured = summary["frames"], max(1, summary["frames"]["captured"])
        missing = sum(frames["dropped"].values()) + sum(frames["lost"].values())
        dropped.append(missing / captured)
        decided.append(summary["deadline"]["met"] / (captured / frames_per_s))
    latency = {name: tuple(value for one in latencies if (value := one[name]) is not None) for name in QUANTILES}
    return Point(
        share,
        frames_per_s,
        cells_per_s,
        engine_ms,
        tuple(decided),
        latency,
        tuple(value for value in met if value is not None),
        tuple(dropped),
    )


def knee(points: Sequence[Point]) -> dict[str, Any] | None:
    """The highest load below the first that is not carried, and what gave way there. None where even the least is not.

    `limited_by` is None where every load was carried: the knee lies beyond.
    """
    carried: Point | None = None
    for one in points:
        if not one.carried:
            break
        carried = one
    if carried is None:
        return None
    first = next((one for one in points if not one.carried), None)
    return {
        "share": carried.share,
        "cells_per_s": digits(carried.offered_cells_per_s),
        "latency_ms": {name: _median(values) for name, values in carried.latency_ms.items()},
        "limited_by": None if first is None else _gave_way(first),
    }


def _gave_way(one: Point) -> str:
    dropped = float(np.median(one.dropped))
    if dropped > 0:
        return f"at {one.share:g} of the full rate {100 * dropped:.3g} % of the frames were dropped"
    met = float(np.median(one.met)) if one.met else 0.0
    return f"at {one.share:g} of the full rate {100 * met:.3g} % of the cells were decided in time"


def _median(values: Sequence[float]) -> float | None:
    return digits(float(np.median(values))) if values else None


def _range(values: Sequence[float]) -> list[float] | None:
    return [digits(min(values)), digits(max(values))] if values else None
