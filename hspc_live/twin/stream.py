"""Who enters the channel when, and where everything is at a given time.

Objects arrive as a Poisson process and move along +x, each at its own velocity: a parabola across y, times a spread
that stands for its position in depth; so cells overtake. Everything that changes the flow as a whole (drift, and the
slowing while the channel is clogged) is a single *flow time* T(t) = ∫ rate dt: an object is at x = v·(T(t) - T(entry)).
The object that clogs the channel stands still while it is stuck. Times are seconds since the start of the stream.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hspc_live.settings.twin import TwinFlowSettings
from hspc_live.twin.cells import KINDS
from hspc_live.twin.field import ARRIVALS, generator

SLOWEST = 0.05  # a drift never takes the flow below this share of its velocity
BLURRED_UM = 5.0  # objects farther than this from the plane of focus count as blurred
BLOCK = 1.0  # arrivals are drawn for this much flow time at once
_CLOG_AT = 0.5  # the clogging object sticks in the middle of the view

ARRIVAL_DTYPE = np.dtype(
    [
        ("entry", "<f8"),  # flow time at which the centre passes x = 0
        ("kind", "<i4"),
        ("y_um", "<f8"),
        ("velocity_um_s", "<f8"),  # at a flow rate of 1
        ("jitter", "<f8"),  # relative, of the transit to the junction
        ("depth_um", "<f8"),  # height over the plane of focus at the start
        ("sticks", "?"),
    ]
)

Times = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FlowTime:
    """The flow's own time, T(t), and back. Rate = max(SLOWEST, 1 + drift·t), times `slowing` while clogged."""

    drift_per_s: float
    clog_from: float
    clog_to: float
    slowing: float

    @classmethod
    def of(cls, settings: TwinFlowSettings) -> FlowTime:
        """The flow time that the settings' mishaps make."""
        mishaps = settings.mishaps
        start = np.inf if mishaps.clog_at_s is None else mishaps.clog_at_s
        return cls(mishaps.velocity_drift_per_s, start, start + mishaps.clog_seconds, mishaps.clog_slowing)

    def at(self, seconds: Times | float) -> Times:
        """Flow time at stream time `seconds` (≥ 0)."""
        t = np.asarray(seconds, np.float64)
        whole = self._drifted(t)
        if np.isinf(self.clog_from):
            return whole
        stuck = self._drifted(np.clip(t, self.clog_from, self.clog_to)) - self._drifted(np.asarray(self.clog_from))
        return np.asarray(whole - (1 - self.slowing) * stuck)

    def rate(self, seconds: Times | float) -> Times:
        """dT/dt: the flow's velocity relative to the settings'."""
        t = np.asarray(seconds, np.float64)
        slowed = np.where((t >= self.clog_from) & (t < self.clog_to), self.slowing, 1.0)
        return np.asarray(np.maximum(SLOWEST, 1 + self.drift_per_s * t) * slowed)

    def when(self, flow_time: Times | float) -> Times:
        """Stream time (s) at which the flow time is `flow_time`, to a nanosecond, by bisection (T is increasing)."""
        target = np.atleast_1d(np.asarray(flow_time, np.float64))
        low = np.zeros_like(target)
        high = np.ones_like(target)
        while (short := self.at(high) < target).any():
            high[short] *= 2
        for _ in range(64):
            middle = (low + high) / 2
            before = self.at(middle) < target
            low, high = np.where(before, middle, low), np.where(before, high, middle)
        return (low + high) / 2

    def _drifted(self, t: Times) -> Times:
        if self.drift_per_s >= 0:
            return np.asarray(t + self.drift_per_s * t * t / 2)
        floor_at = (SLOWEST - 1) / self.drift_per_s  # from here on the rate stays at SLOWEST
        falling = np.minimum(t, floor_at)
        return np.asarray(falling + self.drift_per_s * falling**2 / 2 + SLOWEST * np.maximum(t - floor_at, 0.0))


class Stream:
    """All objects of a seed, drawn block by block as time goes on; object number = row of `upto`."""

    def __init__(self, settings: TwinFlowSettings) -> None:
        self._settings = settings
        self.flow_time = FlowTime.of(settings)
        self._shares = np.asarray(settings.mix.shares()) / sum(settings.mix.shares())
        self._rows = np.zeros(0, ARRIVAL_DTYPE)
        self._blocks = 0
        self._width_um = settings.width_px * settings.um_per_px
        clog = settings.mishaps.clog_at_s
        self._clog_entry = None if clog is None else self._clog_entry_for(clog)

    def upto(self, flow_time: float) -> NDArray[np.void]:
        """Every object that has entered by `flow_time`, in the order of entry (`ARRIVAL_DTYPE`)."""
        while self._blocks * BLOCK <= flow_time:
            self._rows = np.concatenate((self._rows, self._draw(self._blocks)))
            self._blocks += 1
        return self._rows[: int(np.searchsorted(self._rows["entry"], flow_time, side="right"))]

    def row(self, number: int) -> np.void:
        """One object that `upto` or `candidates` has already told of."""
        row: np.void = self._rows[number]
        return row

    def x_um(self, rows: NDArray[np.void], seconds: Times | float) -> Times:
        """Where `rows` are at stream time `seconds` (broadcast against the rows)."""
        flow = self.flow_time.at(seconds)
        gone = flow - rows["entry"]
        if self._clog_entry is not None:
            gone = gone - np.where(rows["sticks"], self._stood(flow), 0.0)
        return np.asarray(rows["velocity_um_s"] * gone)

    def junction_s(self, rows: NDArray[np.void]) -> Times:
        """Stream time (s) at which each of `rows` passes the junction, its transit's jitter included."""
        settings = self._settings
        transit = settings.junction_um / rows["velocity_um_s"] * (1 + rows["jitter"])
        arrival = rows["entry"] + transit
        if self._clog_entry is not None:
            arrival = arrival + np.where(rows["sticks"], self._stood(np.inf), 0.0)
        return self.flow_time.when(arrival)

    def candidates(self, seconds: float, reach_um: float) -> tuple[NDArray[np.intp], Times]:
        """Numbers and x (µm) of the objects within `reach_um` of the view at stream time `seconds`."""
        flow = float(self.flow_time.at(seconds))
        settings = self._settings
        slowest = settings.velocity_um_s * (1 - settings.profile_loss) * (1 - 4 * settings.velocity_cv)
        fastest = settings.velocity_um_s * (1 + 4 * settings.velocity_cv)
        rows = self.upto(flow + reach_um / fastest)
        first = int(np.searchsorted(rows["entry"], flow - (self._width_um + reach_um) / slowest))
        numbers = np.arange(first, len(rows))
        if self._clog_entry is not None:
            numbers = np.union1d(numbers, np.flatnonzero(rows["sticks"]))
        x = self.x_um(rows[numbers], seconds)
        near = (x > -reach_um) & (x < self._width_um + reach_um)
        return numbers[near], x[near]

    def _draw(self, block: int) -> NDArray[np.void]:
        settings = self._settings
        rng = generator(settings.seed, ARRIVALS, block)
        count = int(rng.poisson(settings.events_per_s * BLOCK))
        rows = np.zeros(count, ARRIVAL_DTYPE)
        rows["entry"] = (block + np.sort(rng.random(count))) * BLOCK
        rows["kind"] = rng.choice(len(KINDS), size=count, p=self._shares)
        height = settings.height_px * settings.um_per_px
        across = rng.uniform(-0.5, 0.5, count) * settings.stream_share
        rows["y_um"] = height / 2 + across * height
        profile = 1 - settings.profile_loss * (2 * across) ** 2
        rows["velocity_um_s"] = settings.velocity_um_s * profile * (1 + settings.velocity_cv * _bounded(rng, count))
        rows["jitter"] = settings.transit_jitter * _bounded(rng, count)
        far = rng.random(count) < settings.blurred_share
        blurred = rng.choice((-1.0, 1.0), count) * rng.uniform(6.0, 10.0, count)
        rows["depth_um"] = np.where(far, blurred, settings.focus_sd_um * _bounded(rng, count))
        entry = self._clog_entry
        if entry is not None and block == max(0, int(np.floor(entry / BLOCK))):
            row = np.zeros(1, ARRIVAL_DTYPE)
            row["entry"], row["kind"], row["sticks"] = entry, KINDS.index("cluster"), True
            row["y_um"], row["velocity_um_s"] = height / 2, settings.velocity_um_s
            rows = np.concatenate((rows, row))
            rows = rows[np.argsort(rows["entry"], kind="stable")]
        return rows

    def _clog_entry_for(self, clog_at_s: float) -> float:
        """The flow time at which the clogging object must enter to be in the middle of the view at `clog_at_s`."""
        way = _CLOG_AT * self._width_um / self._settings.velocity_um_s
        return float(self.flow_time.at(clog_at_s)) - way

    def _stood(self, flow: Times | float) -> Times:
        """Flow time that the stuck object has missed by `flow`."""
        start, end = self.flow_time.at(self.flow_time.clog_from), self.flow_time.at(self.flow_time.clog_to)
        return np.clip(np.asarray(flow, np.float64), start, end) - start


def _bounded(rng: np.random.Generator, count: int) -> Times:
    """Standard normal, cut at ±4 so that the slowest object can be reckoned with."""
    return np.clip(rng.standard_normal(count), -4.0, 4.0)
