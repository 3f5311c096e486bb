"""Stage and camera as one hand and eye: go to a place from the right side, wait until the picture stands, expose.

Every function blocks; nothing here knows asyncio. Targets are checked by the caller, all of them before the first move.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import cast

import numpy as np

from hspc_live.core.chamber import Settled
from hspc_live.core.errors import DeviceError
from hspc_live.core.protocols import SnapCamera, Stage
from hspc_live.core.values import CameraInfo, Frame, Pixels, StageInfo, StageReceipt, StageTarget
from hspc_live.settings.chamber import SettleSettings
from hspc_live.settings.chamber_run import ChamberRunSettings
from hspc_live.stages.settle import Settle, SettleLook, judge, picture_shift
from hspc_live.stages.tiling import Point

EMPTY_FROM = 5
"""So many pictures of different places show, in their median, what belongs to the camera and not to the sample."""


class Rig:
    """An open stage and an open camera."""

    def __init__(
        self,
        stage: Stage,
        camera: SnapCamera,
        settle: SettleSettings,
        um_per_px: float,
        arrive_timeout_s: float,
        exposure_ms: float | None = None,
        halted: threading.Event | None = None,
    ) -> None:
        """From when `halted` is set, by any thread, nothing moves and no picture is taken: DeviceError."""
        self._stage, self._camera, self._settle = stage, camera, settle
        self._um_per_px, self._timeout_s, self._exposure_ms = um_per_px, arrive_timeout_s, exposure_ms
        self._channel = camera.channels[0]
        self._halted = threading.Event() if halted is None else halted
        self._places: deque[Pixels] = deque(maxlen=EMPTY_FROM)
        self._empty: Pixels | None = None

    @property
    def empty(self) -> Pixels | None:
        """What the camera sees without a sample, once it has been to enough places; None until then."""
        return self._empty

    def go(self, waypoints: Sequence[Point], target: StageTarget) -> StageReceipt:
        """Through `waypoints`, the last of which is the target; the ways back before it go by its number.

        Raises DeviceError if the stage refuses, fails, or does not arrive in time.
        """
        for x_um, y_um in waypoints[:-1]:
            self._move(StageTarget(target.target, x_um, y_um, target.cell))
        return self._move(target)

    def _move(self, target: StageTarget) -> StageReceipt:
        self._unless_halted()
        self._stage.move_to(target)
        if self._halted.is_set():  # in just this moment: the halt may have come before the move
            self._stage.stop()
        self._unless_halted()
        receipt = self._stage.wait(self._timeout_s)
        if receipt is None or receipt.target != target.target:
            raise DeviceError(
                f"the stage did not arrive at ({target.x_um:g}, {target.y_um:g}) µm in {self._timeout_s:g} s"
            )
        return receipt

    def still(self, receipt: StageReceipt) -> tuple[Settled, Frame | None]:
        """Look until the picture stands still; the last look is the exposure, so the very picture kept is proven still.

        No picture where it never does. Raises DeviceError.
        """
        looks: list[SettleLook] = []
        before: Frame | None = None
        while True:
            self._unless_halted()
            frame = self._camera.snap(self._channel, self._exposure_ms)
            here = self._stage.position()
            shift = None
            if before is not None:
                shift = picture_shift(before.pixels, frame.pixels, self._um_per_px, self._empty)
            looks.append(SettleLook(frame.captured_ns, shift, (here.x_um, here.y_um)))
            before = frame
            verdict = judge(looks, self._settle, receipt.arrived_ns)
            if verdict.settle is not Settle.WAIT:
                break
        waited_ns = max(0, before.captured_ns - receipt.arrived_ns)
        settled = Settled(verdict.reason, len(looks), waited_ns, verdict.moved_um)
        if verdict.settle is Settle.GIVE_UP:
            return settled, None
        self._learn(before.pixels)
        return settled, before

    def _unless_halted(self) -> None:
        if self._halted.is_set():
            raise DeviceError("the stage was halted")

    def snap(self, channel: str) -> Frame:
        """One exposure in a further channel."""
        return self._camera.snap(channel)

    def _learn(self, pixels: Pixels) -> None:
        """Dust and shading stay where they are when the stage moves: the median of several places has nothing else."""
        if self._empty is not None:
            return
        self._places.append(pixels)
        if len(self._places) == EMPTY_FROM:
            middle = np.sort(np.stack(self._places), axis=0)[EMPTY_FROM // 2]
            self._empty = cast("Pixels", middle)
            self._places.clear()


def open_rig(
    stage: Stage, camera: SnapCamera, settings: ChamberRunSettings, halted: threading.Event | None = None
) -> tuple[Rig, CameraInfo, StageInfo]:
    """Open stage and camera. Raises DeviceError that says of both what is wrong with them."""
    problems: list[str] = []
    camera_info: CameraInfo | None = None
    stage_info: StageInfo | None = None
    try:
        camera_info = camera.open()
    except DeviceError as error:
        problems.append(f"camera: {error}")
    try:
        stage_info = stage.open()
    except DeviceError as error:
        problems.append(f"stage: {error}")
    if camera_info is None or stage_info is None:
        raise DeviceError("\n".join(problems))
    rig = Rig(
        stage,
        camera,
        settings.chamber.settle,
        camera_info.um_per_px,
        settings.stage.arrive_timeout_s,
        settings.exposure.transmitted_ms,
        halted,
    )
    return rig, camera_info, stage_info
