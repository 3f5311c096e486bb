"""The XY stage of the twin: where it says it is, and where it truly is, at any time.

Pure: `StageModel.command` makes the state of a move from the one before, and every position follows from (state, time).
The encoder runs a straight line at limited speed and acceleration and arrives exactly. The table hangs behind it with
play (backlash: it follows only when pushed, by the play operator of Krasnosel'skii & Pokrovskii 1989, Systems with
Hysteresis), slips now and then, swings after arrival, and drifts as it warms up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hspc_live.core.clock import NS_PER_MS, NS_PER_S
from hspc_live.settings.chamber_twin import TwinStageSettings
from hspc_live.twin.field import SLIP, generator

Place = tuple[float, float]


@dataclass(frozen=True, slots=True)
class StageState:
    """One move, or standing still (`from_um` = `to_um`).

    `play_um` is how far the table was from the encoder when it began (in ± half the backlash), `slipped_um` the sum of
    all slips before this move, `slip_um` the slip that comes with it, `moves` how many there were.
    """

    begun_ns: int
    from_um: Place
    to_um: Place
    play_um: Place
    slipped_um: Place
    slip_um: Place
    moves: int


@dataclass(frozen=True, slots=True)
class StageModel:
    """The laws of a stage. `epoch_ns` is when its drift began, `seed` draws the slips."""

    settings: TwinStageSettings
    seed: int
    epoch_ns: int

    def at_rest(self) -> StageState:
        """Standing where it is switched on."""
        start = self.settings.start_um
        return StageState(self.epoch_ns, start, start, (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), 0)

    def refusal(self, x_um: float, y_um: float) -> str | None:
        """Why the stage will not go there; None if it will."""
        for name, value, (low, high) in (
            ("x", x_um, self.settings.x_limits_um),
            ("y", y_um, self.settings.y_limits_um),
        ):
            if not math.isfinite(value):
                return f"{name}_um is {value}, which is no place"
            if not low <= value <= high:
                return f"{name}_um = {value:g} is out of the stage's travel, {low:g} to {high:g} µm"
        return None

    def command(self, state: StageState, x_um: float, y_um: float, now_ns: int) -> StageState:
        """The move to (x_um, y_um) that begins at `now_ns`, from wherever the stage is then.

        Raises ValueError for a place that `refusal` names.
        """
        if (why := self.refusal(x_um, y_um)) is not None:
            raise ValueError(why)
        return self._next(state, (x_um, y_um), now_ns)

    def halt(self, state: StageState, now_ns: int) -> StageState:
        """Standing still where the encoder is at `now_ns`."""
        return state if now_ns >= self.arrives_ns(state) else self._next(state, self._encoder(state, now_ns), now_ns)

    def arrives_ns(self, state: StageState) -> int:
        """When the encoder arrives."""
        return state.begun_ns + round(self._duration_s(_way(state)) * NS_PER_S)

    def reported(self, state: StageState, at_ns: int) -> Place:
        """What the encoder says, in whole steps."""
        step = self.settings.resolution_um
        x, y = self._encoder(state, at_ns)
        return round(x / step) * step, round(y / step) * step

    def true(self, state: StageState, at_ns: int) -> Place:
        """Where the table truly is: the place on the glass that lies in the middle of the frame."""
        s = self.settings
        encoder = self._encoder(state, at_ns)
        play = self._play(state, encoder)
        share = self._share(state, at_ns)
        minutes = (at_ns - self.epoch_ns) / (60 * NS_PER_S)
        drift = s.drift_um_per_min * minutes
        direction = math.cos(math.radians(s.drift_deg)), math.sin(math.radians(s.drift_deg))
        swing = self._swing(state, at_ns)
        x, y = (
            encoder[i] + play[i] + state.slipped_um[i] + share * state.slip_um[i] + drift * direction[i] + swing[i]
            for i in (0, 1)
        )
        return x, y

    def _next(self, state: StageState, to_um: Place, now_ns: int) -> StageState:
        here = self._encoder(state, now_ns)
        share = self._share(state, now_ns)
        slipped = (
            state.slipped_um[0] + share * state.slip_um[0],
            state.slipped_um[1] + share * state.slip_um[1],
        )
        play, moves = self._play(state, here), state.moves + 1
        return StageState(now_ns, here, to_um, play, slipped, self._slip(moves) if to_um != here else (0.0, 0.0), moves)

    def _slip(self, move: int) -> Place:
        rng = generator(self.seed, SLIP, move)
        if rng.random() >= self.settings.slip_chance:
            return 0.0, 0.0
        x, y = (self.settings.slip_um * rng.standard_normal(2)).tolist()
        return x, y

    def _play(self, state: StageState, encoder: Place) -> Place:
        """The table lags by half the backlash at most: it stays until the encoder has taken up the play."""
        half = self.settings.backlash_um / 2
        x, y = (
            min(max(state.from_um[i] + state.play_um[i] - encoder[i], -half), half) for i in (0, 1)
        )  # exact, as each axis of a move runs one way only
        return x, y

    def _encoder(self, state: StageState, at_ns: int) -> Place:
        share = self._share(state, at_ns)
        x, y = (a + share * (b - a) for a, b in zip(state.from_um, state.to_um, strict=True))
        return (x, y) if share < 1.0 else state.to_um

    def _share(self, state: StageState, at_ns: int) -> float:
        """Share of the way that the encoder has gone: speeding up, going on, slowing down evenly."""
        way = _way(state)
        total_s = self._duration_s(way)
        t = (at_ns - state.begun_ns) / NS_PER_S
        if t >= total_s or way == 0.0:
            return 1.0
        a = self.settings.acceleration_um_s2
        ramp_s = self._peak_um_s(way) / a
        if t <= 0:
            return 0.0
        if t < ramp_s:
            return a * t * t / 2 / way
        if t > total_s - ramp_s:
            return 1 - a * (total_s - t) ** 2 / 2 / way
        return (a * ramp_s * ramp_s / 2 + a * ramp_s * (t - ramp_s)) / way

    def _duration_s(self, way: float) -> float:
        peak, a = self._peak_um_s(way), self.settings.acceleration_um_s2
        return way / peak + peak / a if way else 0.0

    def _peak_um_s(self, way: float) -> float:
        return min(self.settings.speed_um_s, math.sqrt(way * self.settings.acceleration_um_s2))

    def _swing(self, state: StageState, at_ns: int) -> Place:
        """The ring of the table along the way it came, begun at arrival, larger after a faster move."""
        s = self.settings
        since_ns = at_ns - self.arrives_ns(state)
        way = _way(state)
        if since_ns <= 0 or way == 0.0:
            return 0.0, 0.0
        size = s.ringing_um * self._peak_um_s(way) / s.speed_um_s
        turns = 2 * math.pi * s.ringing_hz * since_ns / NS_PER_S
        size *= math.exp(-since_ns / (s.settle_ms * NS_PER_MS)) * math.sin(turns)
        return (
            size * (state.to_um[0] - state.from_um[0]) / way,
            size * (state.to_um[1] - state.from_um[1]) / way,
        )


def _way(state: StageState) -> float:
    return math.dist(state.from_um, state.to_um)
