"""The part of `doctor` that asks the devices: Micro-Manager's adapters, and those of a rig, opened once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hspc_live.core.errors import DeviceError
from hspc_live.settings.load import AnyRun
from hspc_live.wiring_survey import DEMO, devices, micromanager


def rig_findings(settings: AnyRun | None, problems: list[str]) -> dict[str, Any]:
    """What there is of Micro-Manager, and what the devices say of themselves; what fails is added to `problems`.

    Without a rig the demonstration camera is opened, where Micro-Manager is installed; without it, that is no problem.
    """
    found: dict[str, Any] = {"micromanager": None, "devices": {}}
    try:
        found["micromanager"] = micromanager(settings)
    except DeviceError as error:
        found["micromanager"] = {"absent": str(error)}
        if settings is None:
            return found
    else:
        if found["micromanager"] is not None:
            problems.extend(found["micromanager"]["problems"])
    found["devices"], failed = devices(settings if settings is not None else DEMO)
    problems.extend(failed)
    return found


def rig_rows(findings: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The findings in words."""
    core = findings["micromanager"]
    if core is not None and "absent" in core:
        yield "Micro-Manager", core["absent"]
    elif core is not None:
        yield "Micro-Manager", f"{core['core']}, device interface {core['interface']}"
        yield "adapters", f"{core['adapters_there']} in {core['folder']}"
        for adapter in core["adapters"]:
            yield f"  {adapter['name']}", f"interface {adapter['interface']}: {', '.join(adapter['devices']) or 'none'}"
    for name, info in findings["devices"].items():
        yield name, " ".join(_words(info))


def _words(info: dict[str, Any]) -> Iterator[str]:
    yield info.get("model") or "opened"
    if "frames_per_s" in info:
        yield f"{info['width_px']} × {info['height_px']} {info['dtype']}, {info['um_per_px']:g} µm/px,"
        yield f"{info['frames_per_s']:.4g} frames/s, times ± {info['time_sd_us'] / 1e3:.3g} ms"
    if "x_limits_um" in info:
        (x0, x1), (y0, y1) = info["x_limits_um"], info["y_limits_um"]
        yield f"may go to x {x0:g} … {x1:g}, y {y0:g} … {y1:g} µm"
    if "limits_um" in info:
        low, high = info["limits_um"]
        yield f"may go to z {low:g} … {high:g} µm"
