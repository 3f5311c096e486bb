"""The simulated chamber rig: one table, one focus drive, one camera, one clock. Their drivers share it.

On a running clock, moves and exposures take their time. On a `VirtualClock`, waiting moves the clock instead, so a run
over many fields costs no more than its rendering, and repeats exactly.
"""

from __future__ import annotations

import bisect
import math
import threading
import time
from dataclasses import replace

import numpy as np

from hspc_live.core.clock import NS_PER_MS, NS_PER_S, Clock, VirtualClock
from hspc_live.core.errors import DeviceError
from hspc_live.core.values import CameraInfo, Frame, StagePosition
from hspc_live.settings.chamber_twin import TwinChamberSettings
from hspc_live.twin.chamber import ChamberTwin
from hspc_live.twin.chamber_truth import EXPOSURE_DTYPE, ChamberTruth, tell
from hspc_live.twin.stage import StageModel, StageState

_LOOKS = 9  # at so many moments in an exposure the table's place is asked for
_BLUR_PX = 0.15  # a table that moves less than this in an exposure stands still
_SWEEP_PX = 0.5  # pictures of a moving table are laid over each other this far apart ...
_SWEEP_MOST = 24  # ... unless that would be too many


class ChamberWorld:
    """What stands on the microscope. Time zero of cells and drift is the clock's now. Safe for several threads."""

    def __init__(self, settings: TwinChamberSettings, clock: Clock) -> None:
        self.settings = settings
        self._clock = clock
        self._start_ns = clock.now_ns()
        self._twin = ChamberTwin(settings)
        self.stage = StageModel(settings.stage, settings.seed, self._start_ns)
        self._states = [self.stage.at_rest()]
        self._focus = (0.0, 0.0, clock.now_ns())  # from, to (µm), begun
        self._exposures: list[tuple[float, ...]] = []  # rows of EXPOSURE_DTYPE
        self._moving = threading.Lock()  # the list of moves
        self._exposing = threading.Lock()  # the camera and its renderer
        self._halted = threading.Condition(self._moving)

    @property
    def channels(self) -> tuple[str, ...]:
        """What an exposure may show."""
        return self._twin.channels

    def info(self) -> CameraInfo:
        """What the camera's pictures will be."""
        return self._twin.info()

    def now_ns(self) -> int:
        """The rig's time."""
        return self._clock.now_ns()

    def move(self, x_um: float, y_um: float) -> int:
        """Set out now; returns the time of arrival. Raises ValueError for a place that the stage refuses."""
        with self._moving:
            state = self.stage.command(self._states[-1], x_um, y_um, self._clock.now_ns())
            self._states.append(state)
            return self.stage.arrives_ns(state)

    def slip(self, x_um: float, y_um: float) -> None:
        """The table slips by so much more, with the move that was made last."""
        with self._moving:
            state = self._states[-1]
            self._states[-1] = replace(state, slip_um=(state.slip_um[0] + x_um, state.slip_um[1] + y_um))

    def focus(self, z_um: float) -> None:
        """Set out for a height now, from wherever the focus drive is. Raises ValueError for one it does not reach."""
        low, high = self.settings.stage.z_limits_um
        if not low <= z_um <= high:  # written so that NaN is refused
            raise ValueError(f"z_um = {z_um:g} is out of the focus drive's travel, {low:g} to {high:g} µm")
        with self._moving:
            now_ns = self._clock.now_ns()
            self._focus = (self._height(now_ns), z_um, now_ns)

    def height(self) -> tuple[float, bool]:
        """What the focus drive's encoder says now, µm, and whether it is on its way."""
        with self._moving:
            now_ns = self._clock.now_ns()
            z_um, step = self._height(now_ns), self.settings.stage.z_resolution_um
            return round(z_um / step) * step, z_um != self._focus[1]

    def wait_for_focus(self) -> None:
        """Let the time pass that the focus drive still needs."""
        with self._moving:
            start_um, end_um, begun_ns = self._focus
        self._wait_until(begun_ns + round(abs(end_um - start_um) / self.settings.stage.z_speed_um_s * NS_PER_S) + 1)

    def _height(self, at_ns: int) -> float:
        start_um, end_um, begun_ns = self._focus
        way_um = (at_ns - begun_ns) / NS_PER_S * self.settings.stage.z_speed_um_s
        return end_um if way_um >= abs(end_um - start_um) else start_um + math.copysign(way_um, end_um - start_um)

    def halt(self) -> None:
        """Stop the table where it is, and wake who waits for its arrival."""
        with self._halted:
            state = self.stage.halt(self._states[-1], self._clock.now_ns())
            if state is not self._states[-1]:
                self._states.append(state)
            self._halted.notify_all()

    def wait_for_arrival(self, timeout_s: float) -> bool:
        """Wait until the table reports its arrival or is halted, `timeout_s` at most; whether it stands."""
        with self._halted:
            until_ns = self._clock.now_ns() + round(timeout_s * NS_PER_S)
            while True:
                arrives_ns, now_ns = self.stage.arrives_ns(self._states[-1]), self._clock.now_ns()
                if now_ns >= arrives_ns:
                    return True
                if now_ns >= until_ns:
                    return False
                next_ns = min(arrives_ns, until_ns)
                if isinstance(self._clock, VirtualClock):
                    self._clock.advance_to(next_ns)
                else:
                    self._halted.wait((next_ns - now_ns) / NS_PER_S)

    def position(self) -> StagePosition:
        """What the encoder says now."""
        now_ns = self._clock.now_ns()
        state = self._state(now_ns)
        x_um, y_um = self.stage.reported(state, now_ns)
        return StagePosition(x_um, y_um, now_ns, now_ns < self.stage.arrives_ns(state))

    def expose(self, channel: str, exposure_ms: float | None) -> Frame:
        """Open the shutter now; returns the picture when it is read out.

        Raises DeviceError for a channel or an exposure that there is not.
        """
        length_ms = self._twin.exposure_ms(channel) if exposure_ms is None else exposure_ms
        if not 0 < length_ms <= 60_000:
            raise DeviceError(f"the simulated camera exposes for more than 0 and up to 60000 ms, not {length_ms:g}")
        with self._exposing:
            open_ns = self._clock.now_ns()
            close_ns = open_ns + round(length_ms * NS_PER_MS)
            self._wait_until(close_ns)  # the moves made meanwhile are known then
            times = np.linspace(open_ns, close_ns, _LOOKS).round().astype(int).tolist()
            places = np.array([self.stage.true(self._state(at_ns), at_ns) for at_ns in times])
            captured_ns = (open_ns + close_ns) // 2
            x_um, y_um = self.stage.true(self._state(captured_ns), captured_ns)
            swept_um = float(np.linalg.norm(np.ptp(places, axis=0)))
            number = len(self._exposures)
            with self._moving:
                z_um = self._height(captured_ns)
            pixels = self._twin.render(
                x_um,
                y_um,
                (captured_ns - self._start_ns) / NS_PER_S,
                channel=channel,
                exposure_ms=length_ms,
                number=number,
                sweep_um=self._sweep(places - (x_um, y_um), swept_um),
                z_um=z_um,
            )
            reported = self.stage.reported(self._state(captured_ns), captured_ns)
            kind = self.channels.index(channel)
            row = (number, kind, captured_ns, length_ms, x_um, y_um, z_um, *reported, swept_um)
            self._exposures.append(row)
            self._wait_until(close_ns + round(self.settings.readout_ms * NS_PER_MS))
            return Frame(number, captured_ns, self._clock.now_ns(), pixels)

    def truth(self) -> ChamberTruth:
        """What really lay there until now, and what every exposure showed. For the scorer, after the run."""
        with self._exposing:
            exposures = np.array(self._exposures, EXPOSURE_DTYPE)
            return tell(self._twin, self._start_ns, self._clock.now_ns(), exposures)

    def _state(self, at_ns: int) -> StageState:
        """The move that was under way, or had last ended, at `at_ns`."""
        with self._moving:
            place = bisect.bisect_right(self._states, at_ns, key=lambda state: state.begun_ns)
            return self._states[max(0, place - 1)]

    def _sweep(self, ways_um: np.ndarray, swept_um: float) -> tuple[tuple[float, float], ...]:
        """Places at even times in the exposure, as close together as a moving picture needs."""
        um_per_px = self.settings.um_per_px
        if swept_um < _BLUR_PX * um_per_px:
            return ((0.0, 0.0),)
        count = int(np.clip(np.ceil(swept_um / (_SWEEP_PX * um_per_px)), 2, _SWEEP_MOST))
        at = (np.arange(count) + 0.5) / count * (_LOOKS - 1)
        xs, ys = (np.interp(at, np.arange(_LOOKS), ways_um[:, axis]).tolist() for axis in (0, 1))
        return tuple(zip(xs, ys, strict=True))

    def _wait_until(self, until_ns: int) -> None:
        if isinstance(self._clock, VirtualClock):
            self._clock.advance_to(until_ns)
            return
        while (left_ns := until_ns - self._clock.now_ns()) > 0:
            time.sleep(left_ns / NS_PER_S)
