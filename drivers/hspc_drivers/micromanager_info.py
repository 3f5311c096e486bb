"""What a camera of Micro-Manager is and gives: its label, its part of the sensor, its promise, its measured rate."""

from __future__ import annotations

import math
import statistics
import time
from itertools import pairwise
from typing import Any

from hspc_drivers.micromanager_adapters import strings
from hspc_drivers.micromanager_core import CoreSession
from hspc_drivers.micromanager_time import residency_ns
from hspc_live.core.clock import NS_PER_S
from hspc_live.core.errors import DeviceError
from hspc_live.core.values import CameraInfo
from hspc_live.settings.devices import RigSettings

CAMERA = 2  # MM::DeviceType
DTYPES = {1: "uint8", 2: "uint16"}
TRIAL_FRAMES, TRIAL_S = 16, 2.0
"""The sequence that measures the frame rate: so many frames, or as many as come in this time, but three at least."""
LOOK_S = 1e-3


def camera_label(session: CoreSession, wanted: str) -> str:
    """The label of the camera. Raises DeviceError if there is none of that name, or no default one."""
    found = str(wanted or session.core.getCameraDevice())
    if not found:
        raise DeviceError("the configuration makes no camera the default one: name one as camera.device")
    cameras = session.labels(CAMERA)
    if found not in cameras:
        raise DeviceError(f"there is no camera {found!r}; there are: {', '.join(cameras) or 'none'}")
    return found


def set_roi(core: Any, label: str, roi: tuple[int, int, int, int] | None) -> None:
    """Film a part of the sensor, (left, top, width, height) in px; None all of it. Raises DeviceError if out of it."""
    core.clearROI()
    if roi is None:
        return
    width, height = core.getImageWidth(), core.getImageHeight()
    left, top, wide, high = roi
    if left < 0 or top < 0 or wide < 1 or high < 1 or left + wide > width or top + high > height:
        raise DeviceError(f"camera.roi {list(roi)} is not within the sensor of {width} x {height} pixels")
    core.setROI(label, *roi)
    got = (core.getImageWidth(), core.getImageHeight())
    if got != (wide, high):
        raise DeviceError(f"camera.roi: the camera makes {got[0]} x {got[1]} pixels of {wide} x {high}: ask for that")


def camera_info(
    session: CoreSession,
    rig: RigSettings,
    label: str,
    um_per_px: float | None,
    *,
    frames_per_s: float,
    exposure_ms: float,
    time_sd_us: float,
) -> CameraInfo:
    """What the default camera promises. Raises DeviceError for colour pictures, and where nobody knows the scale."""
    core = session.core
    depth = core.getBytesPerPixel()
    if core.getNumberOfComponents() != 1 or depth not in DTYPES:
        raise DeviceError(
            f"camera {label} gives pictures of {depth} bytes a pixel in {core.getNumberOfComponents()} colours: set "
            "its PixelType to 8 or 16 bit grey in camera.properties"
        )
    stated = float(core.getPixelSizeUm())
    scale = um_per_px if um_per_px is not None else stated
    if not scale > 0:
        raise DeviceError("the configuration does not say the pixel size: give it as camera.um_per_px")
    affine, roi = " ".join(strings(core.getPixelSizeAffine())), " ".join(strings(core.getROI()))
    about = session.about(label)
    about |= {"um_per_px": f"{stated:g}", "affine": affine, "roi": roi}
    return CameraInfo(
        height_px=core.getImageHeight(),
        width_px=core.getImageWidth(),
        dtype=DTYPES[depth],
        um_per_px=scale,
        frames_per_s=frames_per_s,
        modality=rig.modality,
        shear_axis_deg=rig.shear_axis_deg,
        exposure_us=1e3 * exposure_ms,
        model=session.model(label),
        time_sd_us=time_sd_us,
        device=about,
    )


def measured_rate(session: CoreSession, label: str, exposure_ms: float) -> tuple[float, float]:
    """Frames a second of a free-running sequence, and the jitter of their times in ms. Raises DeviceError if none come.

    The rate is that of the whole trial, as the frames' numbers count it; the jitter is the median deviation from it,
    as a standard deviation of a single frame's time.
    """
    core = session.core
    times: list[tuple[int, int]] = []  # number, ns in the core
    core.clearCircularBuffer()
    core.startContinuousSequenceAcquisition(0)
    try:
        begun = time.monotonic()
        patience_s = TRIAL_S + 5 * exposure_ms / 1e3
        while len(times) < TRIAL_FRAMES:
            waited = time.monotonic() - begun
            if waited > patience_s or (waited > TRIAL_S and len(times) >= 3):
                break
            if core.getRemainingImageCount() == 0:
                time.sleep(LOOK_S)
                continue
            popped = session.pop()
            waited_ns, now_ns = residency_ns(popped.received)
            times.append((popped.number, now_ns - waited_ns))
    finally:
        core.stopSequenceAcquisition(label)
        core.clearCircularBuffer()
    if len(times) < 3:
        raise DeviceError(
            f"camera {label} gave {len(times)} frames in {patience_s:.1f} s: if it waits for a trigger, give its rate "
            "as camera.frames_per_s"
        )
    (first, first_ns), (last, last_ns) = times[0], times[-1]
    period_ns = (last_ns - first_ns) / (last - first)
    off = [abs((b_ns - a_ns) - (b - a) * period_ns) for (a, a_ns), (b, b_ns) in pairwise(times)]
    jitter_ns = 1.4826 * statistics.median(off) / math.sqrt(2)
    return NS_PER_S / max(period_ns, 1.0), jitter_ns / 1e6
