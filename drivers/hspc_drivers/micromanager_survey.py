"""What there is of Micro-Manager on this machine: core, adapters with their interfaces, and the devices they offer.

Loading an adapter runs its maker's code, and an installation has two hundred of them: looked into are those that the
configuration names, or those that come with the Python package.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

from hspc_drivers.micromanager_adapters import (
    adapter_files,
    adapter_folder,
    adapter_interface,
    interface_version,
    module,
    strings,
)
from hspc_live.core.errors import DeviceError
from hspc_live.settings.micromanager import MicroManagerCore

PACKAGES = ("pymmcore", "mm-test-adapters", "pymmcore-plus", "pycromanager")


def survey(settings: MicroManagerCore) -> dict[str, Any]:
    """As JSON values; `problems` says what stands in the way. Raises DeviceError without the extra `rig`."""
    core = module("pymmcore").CMMCore()
    folder = adapter_folder(settings)
    core.setDeviceAdapterSearchPaths([str(folder)])
    speaks = interface_version(core)
    files = adapter_files(folder)
    wanted = list(files) if settings.config is None else named_adapters(settings.config)
    adapters, problems = [], []
    for name in wanted:
        if name not in files:
            problems.append(f"{settings.config}: there is no adapter {name} in {folder}")
            continue
        interface = adapter_interface(files[name])
        devices: tuple[str, ...] = ()
        if interface == speaks:
            devices = strings(core.getAvailableDevices(name))
        else:
            told = "cannot be loaded" if interface is None else f"was built for device interface {interface}"
            problems.append(f"{files[name]} {told}, this core speaks {speaks}")
        adapters.append({"name": name, "interface": interface, "devices": list(devices)})
    return {
        "core": str(core.getVersionInfo()),
        "interface": speaks,
        "packages": {name: _version(name) for name in PACKAGES},
        "folder": str(folder),
        "adapters_there": len(files),
        "adapters": adapters,
        "problems": problems,
    }


def named_adapters(config: Path) -> list[str]:
    """The adapters that a configuration file loads, each once. Raises DeviceError if it cannot be read."""
    try:
        lines = config.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DeviceError(f"core.config: {config}: {error.strerror}") from error
    rows = [line.strip().split(",") for line in lines]
    return list(dict.fromkeys(row[2] for row in rows if row[0] == "Device" and len(row) == 4))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
