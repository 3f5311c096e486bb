"""The flow channel under the microscope: any frame of it, from a seed, and the truth about it."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.clock import NS_PER_S
from hspc_live.core.values import CameraInfo, Modality, Pixels
from hspc_live.settings.twin import TwinFlowSettings, TwinScene
from hspc_live.twin.cells import KINDS, draw
from hspc_live.twin.field import NOISE, OBJECT, Sensor, empty_field, generator
from hspc_live.twin.optics import FINE_UM, Image, Optics, multiply, place
from hspc_live.twin.phase import PhaseObject, path_length
from hspc_live.twin.stream import BLURRED_UM, Stream
from hspc_live.twin.truth import SIGHTING_DTYPE, TRUTH_DTYPE, FlowTruth

REACH_UM = 30.0  # half the size of the largest object with its blur: what may still show from outside the view
FOCUS_STEP_UM = 0.05  # pictures of an object are kept for reuse per step of its defocus ...
MOTION_STEP_UM = 0.02  # ... and of the way it moves during the exposure
_KEPT = 256


def frame_time_s(settings: TwinFlowSettings, index: int) -> float:
    """Stream time of frame `index`'s mid-exposure: the middle of its period."""
    return (index + 0.5) / settings.frames_per_s


def mid_exposure_ns(settings: TwinFlowSettings, index: int) -> int:
    """The same in nanoseconds after the start."""
    return round(frame_time_s(settings, index) * NS_PER_S)


def class_shares(settings: TwinScene) -> tuple[float, float, float]:
    """The relative shares of the three classes, of which doublets and clusters are made (equal where none flows)."""
    shares = (settings.mix.lt_hsc, settings.mix.st_hsc, settings.mix.mpp)
    return shares if sum(shares) > 0 else (1.0, 1.0, 1.0)


class FlowTwin:
    """Films a channel. Frame k depends on the settings and on k only. Not for several threads at once."""

    def __init__(self, settings: TwinFlowSettings) -> None:
        self.settings = settings
        self._optics = Optics.of(settings)
        self._stream = Stream(settings)
        self._field = empty_field(settings)
        self._sensor = Sensor(settings, self._field.shape)
        self._thing = lru_cache(_KEPT)(self._draw_thing)
        self._picture = lru_cache(_KEPT)(self._take_picture)
        self._bubble = _bubble(settings) if settings.mishaps.bubble_at_s is not None else None

    def info(self) -> CameraInfo:
        """What the camera that films this promises."""
        s = self.settings
        modality = Modality(s.modality)
        return CameraInfo(
            height_px=s.height_px,
            width_px=s.width_px,
            dtype="uint8" if s.bits == 8 else "uint16",
            um_per_px=s.um_per_px,
            frames_per_s=s.frames_per_s,
            modality=modality,
            shear_axis_deg=s.shear_axis_deg if modality is Modality.DIC else None,
            exposure_us=s.exposure_us,
            model="digital twin",
        )

    def background(self) -> Pixels:
        """The empty field without noise, (height, width) in the camera's dtype."""
        return self._sensor.quantise(self._field)

    def render(self, index: int) -> Pixels:
        """Frame `index` (≥ 0), (height, width) uint8 or uint16, at its mid-exposure."""
        light = self.light(index)
        return self._sensor.expose(light, generator(self.settings.seed, NOISE, index))

    def light(self, index: int) -> Image:
        """Frame `index` before the camera's noise and quantisation: (height, width) float32, in counts."""
        s = self.settings
        seconds = frame_time_s(s, index)
        light = self._field.copy()
        numbers, x_um = self._stream.candidates(seconds, REACH_UM)
        rate = float(self._stream.flow_time.rate(seconds))
        for number, x in zip(numbers.tolist(), x_um.tolist(), strict=True):
            row = self._stream.row(number)
            defocus = float(row["depth_um"]) + s.mishaps.focus_drift_um_per_s * seconds
            motion_um = float(row["velocity_um_s"]) * rate * s.exposure_us * 1e-6
            picture = self._picture(number, round(defocus / FOCUS_STEP_UM), round(motion_um / MOTION_STEP_UM))
            multiply(light, *place(picture, x / s.um_per_px, float(row["y_um"]) / s.um_per_px, s.um_per_px))
        if self._bubble is not None:
            self._sweep(light, seconds)
        return light

    def truth(self, frames: int, start_ns: int) -> FlowTruth:
        """Everything that was in view in frames 0 … frames - 1 or had entered by then, in host time from `start_ns`."""
        s = self.settings
        flow = self._stream.flow_time
        end_s = frames / s.frames_per_s
        rows = self._stream.upto(float(flow.at(end_s)))
        objects = np.zeros(len(rows), TRUTH_DTYPE)
        objects["id"] = np.arange(len(rows))
        entry_s = flow.when(np.maximum(rows["entry"], 0.0))
        for name in ("kind", "y_um", "depth_um"):
            objects[name] = rows[name]
        objects["velocity_um_s"] = rows["velocity_um_s"] * flow.rate(entry_s)
        objects["entry_ns"] = start_ns + np.rint(entry_s * NS_PER_S).astype(np.int64)
        objects["junction_ns"] = start_ns + np.rint(self._stream.junction_s(rows) * NS_PER_S).astype(np.int64)
        objects["blurred"] = np.abs(rows["depth_um"]) > BLURRED_UM
        objects["stuck"] = rows["sticks"]
        for number in range(len(rows)):
            thing = self._thing(number)
            objects["diameter_um"][number] = thing.diameter_um
            objects["members"][number] = thing.members
        return FlowTruth(KINDS, objects, self._sightings(rows, frames))

    def _sightings(self, rows: NDArray[np.void], frames: int) -> NDArray[np.void]:
        s = self.settings
        found: list[NDArray[np.void]] = []
        left, right = -0.5 * s.um_per_px, (s.width_px - 0.5) * s.um_per_px
        for index in range(frames):
            seconds = frame_time_s(s, index)
            numbers, x = self._stream.candidates(seconds, 0.5 * s.um_per_px)
            inside = (x >= left) & (x < right) & (numbers < len(rows))
            seen = np.zeros(int(inside.sum()), SIGHTING_DTYPE)
            seen["frame"], seen["object"], seen["x_um"] = index, numbers[inside], x[inside]
            seen["y_um"] = rows["y_um"][numbers[inside]]
            seen["defocus_um"] = rows["depth_um"][numbers[inside]] + s.mishaps.focus_drift_um_per_s * seconds
            seen["blurred"] = np.abs(seen["defocus_um"]) > BLURRED_UM
            found.append(seen)
        return np.concatenate(found) if found else np.zeros(0, SIGHTING_DTYPE)

    def _draw_thing(self, number: int) -> PhaseObject:
        """Object `number`, drawn from a generator of its own."""
        s = self.settings
        kind = KINDS[int(self._stream.row(number)["kind"])]
        return draw(kind, generator(s.seed, OBJECT, number), s.texture, class_shares(s))

    def _take_picture(self, number: int, focus: int, motion: int) -> Image:
        """The contrast of object `number` on the fine grid, at whole steps of defocus and of motion blur."""
        path = path_length(self._thing(number), self._optics, focus * FOCUS_STEP_UM)
        return self._optics.contrast(path, focus * FOCUS_STEP_UM, motion * MOTION_STEP_UM)

    def _sweep(self, light: Image, seconds: float) -> None:
        """Let the bubble pass: its middle is in the middle of the view at `bubble_at_s`."""
        s, flow = self.settings, self._stream.flow_time
        at = s.mishaps.bubble_at_s
        if at is None or self._bubble is None:
            return
        gone = float(flow.at(seconds) - flow.at(at)) * s.velocity_um_s
        x_px = s.width_px / 2 + gone / s.um_per_px
        half = self._bubble.shape[0] / 2 * FINE_UM / s.um_per_px + 2
        if -half < x_px < s.width_px + half:
            multiply(light, *place(self._bubble, x_px, s.height_px / 2, s.um_per_px))


def _bubble(settings: TwinFlowSettings) -> Image:
    """An air bubble between the walls on the fine grid: a bright disc with a broad black rim (total reflection)."""
    radius = settings.mishaps.bubble_diameter_um / 2 / FINE_UM
    half = int(np.ceil(radius * 1.1)) + 8
    axis = np.arange(-half, half + 1, dtype=np.float32)
    r = np.sqrt(axis**2 + axis[:, None] ** 2) / np.float32(radius)
    light = np.ones_like(r)
    light[r < 1.0] = 0.08
    light[r < 0.78] = 1.6
    return np.asarray(cv2.GaussianBlur(light, (0, 0), 6.0), np.float32)
