"""The chamber under the microscope: any exposure at any place and time, from a seed, and what is in it.

`ChamberTwin.render` is pure: place, time, channel and the exposure's number decide every pixel. Cells keep their
pictures' axes in the camera's own frame, as the DIC prism does; the mounting's rotation, scale and shear move where
they show, and its mean scale how large (over one cell, its shear is a few nanometres).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import DeviceError
from hspc_live.core.values import CameraInfo, Modality, Pixels
from hspc_live.settings.chamber_twin import TwinChamberSettings
from hspc_live.twin.field import NOISE, Sensor, empty_field, generator
from hspc_live.twin.flow import FOCUS_STEP_UM, REACH_UM
from hspc_live.twin.glow import counts_per_electron, dark_field, emission, shine
from hspc_live.twin.optics import Image, Optics, add, multiply, place
from hspc_live.twin.phase import path_length
from hspc_live.twin.settled import Settled
from hspc_live.twin.view import Points, View

TRANSMITTED = "transmitted"  # the name of the DIC or brightfield channel
_KEPT = 512

VISIBLE_DTYPE = np.dtype(
    [
        ("object", "<i8"),
        ("x_um", "<f8"),  # chamber coordinates
        ("y_um", "<f8"),
        ("x_px", "<f8"),
        ("y_px", "<f8"),
        ("defocus_um", "<f8"),
        ("whole", "?"),  # its circle lies inside the frame
    ]
)


class ChamberTwin:
    """Films a chamber. Not for several threads at once."""

    def __init__(self, settings: TwinChamberSettings) -> None:
        self.settings = settings
        self.view = View.of(settings)
        self.settled = Settled(settings)
        self._optics = Optics.of(settings)
        self._field = empty_field(settings)
        self._excitation, self._dark = dark_field(settings)
        self._sensor = Sensor(settings, self._field.shape)
        self._picture = lru_cache(_KEPT)(self._take_picture)
        self._glow = lru_cache(_KEPT)(self._take_glow)
        angle = np.deg2rad(settings.focus_tilt_deg)
        self._tilt = settings.focus_tilt_um_per_mm / 1000 * np.array([np.cos(angle), np.sin(angle)])

    @property
    def channels(self) -> tuple[str, ...]:
        """What an exposure may show: transmitted light, fluorescence."""
        return (TRANSMITTED, self.settings.fluorescence.channel)

    def exposure_ms(self, channel: str) -> float:
        """The nominal exposure of a channel. Raises DeviceError for one that the camera does not have."""
        if channel not in self.channels:
            raise DeviceError(f"the simulated camera has no channel {channel!r}; it has {', '.join(self.channels)}")
        return self.settings.exposure_ms if channel == TRANSMITTED else self.settings.fluorescence.exposure_ms

    def info(self) -> CameraInfo:
        """What the camera that films this promises; `um_per_px` is the nominal scale."""
        s = self.settings
        modality = Modality(s.modality)
        return CameraInfo(
            height_px=s.height_px,
            width_px=s.width_px,
            dtype="uint8" if s.bits == 8 else "uint16",
            um_per_px=s.um_per_px,
            frames_per_s=1000 / (s.exposure_ms + s.readout_ms),
            modality=modality,
            shear_axis_deg=s.shear_axis_deg if modality is Modality.DIC else None,
            exposure_us=s.exposure_ms * 1000,
            model="digital twin",
        )

    def background(self, channel: str = TRANSMITTED) -> Pixels:
        """The empty field at the nominal exposure without noise, (height, width) in the camera's dtype."""
        self.exposure_ms(channel)
        return self._sensor.quantise(self._field if channel == TRANSMITTED else self._dark)

    def render(
        self,
        x_um: float,
        y_um: float,
        seconds: float = 0.0,
        *,
        channel: str = TRANSMITTED,
        exposure_ms: float | None = None,
        number: int = 0,
        sweep_um: Sequence[tuple[float, float]] = ((0.0, 0.0),),
        z_um: float = 0.0,
    ) -> Pixels:
        """One exposure with the stage truly at (x_um, y_um), (height, width) uint8 or uint16.

        `seconds` is the time since the cells settled, `number` that of the exposure (each has its own noise). While
        the table moves, `sweep_um` are its places relative to (x_um, y_um) at even times in the exposure. `z_um` is the
        height of the focus drive.
        """
        nominal_ms = self.exposure_ms(channel)
        light = self.light(x_um, y_um, seconds, channel=channel, sweep_um=sweep_um, z_um=z_um)
        if exposure_ms is not None:
            light *= np.float32(exposure_ms / nominal_ms)
        return self._sensor.expose(light, generator(self.settings.seed, NOISE, number))

    def light(
        self,
        x_um: float,
        y_um: float,
        seconds: float = 0.0,
        *,
        channel: str = TRANSMITTED,
        sweep_um: Sequence[tuple[float, float]] = ((0.0, 0.0),),
        z_um: float = 0.0,
    ) -> Image:
        """An exposure before the camera's noise and quantisation: (height, width) float32, in counts, nominal."""
        total = np.zeros_like(self._field) if len(sweep_um) > 1 else None
        for dx, dy in sweep_um:
            stage = np.array([x_um + dx, y_um + dy])
            shown = self._transmitted if channel == TRANSMITTED else self._emitted
            light = shown(stage, seconds, z_um)
            if total is None:
                return light
            total += light / np.float32(len(sweep_um))
        assert total is not None
        return total

    def visible(self, x_um: float, y_um: float, seconds: float = 0.0, z_um: float = 0.0) -> NDArray[np.void]:
        """The truth of an exposure: objects whose middle lies in the frame, (n,) of `VISIBLE_DTYPE`, by number."""
        s = self.settings
        numbers, places, spots = self._in_reach(np.array([x_um, y_um]), seconds)
        size = np.array([s.width_px, s.height_px])
        inside = ((spots >= -0.5) & (spots < size - 0.5)).all(axis=1)
        seen = np.zeros(int(inside.sum()), VISIBLE_DTYPE)
        seen["object"] = numbers[inside]
        seen["x_um"], seen["y_um"] = places[inside].T
        seen["x_px"], seen["y_px"] = spots[inside].T
        seen["defocus_um"] = self._defocus(numbers[inside], places[inside], z_um)
        radius = self.settled.rows["diameter_um"][seen["object"]] / 2 / self.view.mean_um_per_px
        edge = np.minimum(spots[inside], size - 1 - spots[inside]).min(axis=1)
        seen["whole"] = edge >= radius
        return seen

    def labels(self, x_um: float, y_um: float, seconds: float = 0.0) -> tuple[NDArray[np.uint16], NDArray[np.intp]]:
        """True outlines: a label image (height, width), 0 = empty, and the object's number for each label 1 … n.

        Bodies that touch (doublets, clusters) have a label each. Objects that reach in from outside are drawn too.
        """
        s, um = self.settings, self.view.mean_um_per_px
        numbers, _, spots = self._in_reach(np.array([x_um, y_um]), seconds)
        image = np.zeros((s.height_px, s.width_px), np.uint16)
        owners: list[int] = []
        angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
        waves = np.stack([f(m * angle) for f in (np.cos, np.sin) for m in range(2, 6)])
        for number, spot in zip(numbers.tolist(), spots, strict=True):
            for globe in self.settled.thing(number).globes:
                radius = globe.radius_um * (1 + globe.outline.ravel() @ waves) / um
                rim = (
                    spot + globe.centre_um[:2] / um + radius[:, None] * np.column_stack((np.cos(angle), np.sin(angle)))
                )
                body = np.zeros_like(image, np.uint8)
                cv2.fillPoly(body, [np.rint(rim * 16).astype(np.int32)], (1,), shift=4)
                if body.any():
                    owners.append(number)
                    image[(body > 0) & (image == 0)] = len(owners)
        return image, np.asarray(owners, np.intp)

    def _in_reach(self, stage_um: Points, seconds: float) -> tuple[NDArray[np.intp], Points, Points]:
        """Numbers, places (µm) and spots (px) of all that may show in the frame."""
        numbers, places = self.settled.near(stage_um, self.view.reach_um() + REACH_UM, seconds)
        spots = self.view.to_px(places, stage_um)
        reach = REACH_UM / self.settings.um_per_px
        size = np.array([self.settings.width_px, self.settings.height_px])
        near = ((spots > -reach) & (spots < size + reach)).all(axis=1)
        return numbers[near], places[near], spots[near]

    def _defocus(self, numbers: NDArray[np.intp], places: Points, z_um: float) -> NDArray[np.float64]:
        plane_um = self.settings.focus_offset_um + z_um
        return np.asarray(self.settled.rows["depth_um"][numbers] + places @ self._tilt - plane_um)

    def _transmitted(self, stage_um: Points, seconds: float, z_um: float) -> Image:
        light = self._field.copy()
        numbers, places, spots = self._in_reach(stage_um, seconds)
        scale = self.view.mean_um_per_px
        for number, focus, (x_px, y_px) in self._each(numbers, places, spots, z_um):
            multiply(light, *place(self._picture(number, focus), x_px, y_px, scale))
        return light

    def _emitted(self, stage_um: Points, seconds: float, z_um: float) -> Image:
        light = np.zeros_like(self._field)
        numbers, places, spots = self._in_reach(stage_um, seconds)
        scale = self.view.mean_um_per_px
        for number, focus, (x_px, y_px) in self._each(numbers, places, spots, z_um):
            if (picture := self._glow(number, focus)) is not None:
                add(light, *place(picture, x_px, y_px, scale, empty=0.0))
        light *= self._excitation * np.float32(counts_per_electron(self.settings))
        light += self._dark
        return light

    def _each(
        self, numbers: NDArray[np.intp], places: Points, spots: Points, z_um: float
    ) -> list[tuple[int, int, tuple[float, float]]]:
        """Number, whole steps of defocus and spot of every object."""
        focus = np.rint(self._defocus(numbers, places, z_um) / FOCUS_STEP_UM).astype(int)
        return [
            (number, step, (spot[0], spot[1]))
            for number, step, spot in zip(numbers.tolist(), focus.tolist(), spots.tolist(), strict=True)
        ]

    def _take_picture(self, number: int, focus: int) -> Image:
        defocus_um = focus * FOCUS_STEP_UM
        path = path_length(self.settled.thing(number), self._optics, defocus_um)
        return self._optics.contrast(path, defocus_um)

    def _take_glow(self, number: int, focus: int) -> Image | None:
        thing = self.settled.thing(number)
        glow = shine(self.settings, number, thing)
        return emission(thing, glow, self._optics, focus * FOCUS_STEP_UM, self.settings.fluorescence.haze)
