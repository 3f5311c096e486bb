"""Micro-Manager's libraries and device adapters: where they are, what they were built for, and why one does not load.

The core says only "Failed to load device adapter". What a person needs to know is which file, and what to install.
"""

from __future__ import annotations

import ctypes
import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hspc_live.core.errors import DeviceError
from hspc_live.core.protocols import EndOfStream
from hspc_live.settings.micromanager import MicroManagerCore

INSTALL = 'Install with: pip install "hspc-live[rig]"'


@contextmanager
def told(what: str) -> Iterator[None]:
    """The core's errors, which are of many types, as DeviceError that begins with `what`."""
    try:
        yield
    except (DeviceError, EndOfStream):
        raise
    except Exception as error:
        raise DeviceError(f"{what}: {error}") from error


def module(name: str) -> Any:
    """A library of the extra `rig`. Raises DeviceError if it is not there."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DeviceError(f"the Python package {name.split('.')[0]} is not there ({error}). {INSTALL}") from error


def strings(values: Any) -> tuple[str, ...]:
    """A list as the core gives it, as texts: a tuple, or a vector or an object of Java."""
    if hasattr(values, "size") and hasattr(values, "get"):
        return tuple(str(values.get(place)) for place in range(values.size()))
    return tuple(map(str, values)) if isinstance(values, Iterable) else (str(values),)


def adapter_folder(settings: MicroManagerCore) -> Path:
    """Where the device adapters are. Raises DeviceError if nowhere."""
    if settings.adapters is not None:
        if not settings.adapters.is_dir():
            raise DeviceError(f"core.adapters: {settings.adapters}: there is no such folder")
        return settings.adapters
    if settings.config is None:
        return Path(module("mm_test_adapters").device_adapter_path())
    found = module("pymmcore_plus").find_micromanager()
    if not found:
        raise DeviceError("Micro-Manager was not found: give its folder as core.adapters, or in MICROMANAGER_PATH")
    return Path(found)


def load_device(core: Any, folder: Path, label: str, adapter: str, name: str) -> None:
    """Load and initialise one device. Raises DeviceError that says what is wrong with its adapter."""
    try:
        core.loadDevice(label, adapter, name)
        core.initializeDevice(label)
    except Exception as error:
        raise DeviceError(f"device {label} ({adapter}/{name}): {_why(core, folder, adapter, str(error))}") from error


def device_failures(core: Any, config: Path, folder: Path) -> Iterator[str]:
    """Every device of a configuration file that cannot be loaded or initialised, in words. Leaves the core empty."""
    core.unloadAllDevices()
    loaded: list[str] = []
    lines = [line.strip().split(",") for line in config.read_text(encoding="utf-8", errors="replace").splitlines()]
    properties = [line for line in lines if line[0] == "Property" and len(line) == 4 and line[1] != "Core"]
    for line in lines:
        if line[0] != "Device" or len(line) != 4:
            continue
        _, label, adapter, name = line
        try:
            core.loadDevice(label, adapter, name)
            loaded.append(label)
        except Exception as error:
            yield f"device {label} ({adapter}/{name}): {_why(core, folder, adapter, str(error))}"
    for label in loaded:
        try:
            for _, device, key, value in properties:
                if device == label and core.isPropertyPreInit(device, key):
                    core.setProperty(device, key, value)
            core.initializeDevice(label)
        except Exception as error:
            yield f"device {label}: {error}"
    core.unloadAllDevices()


def interface_version(core: Any) -> int:
    """The number of the device interface that this core speaks; adapters must have been built for the same."""
    found = re.search(r"Device API version (\d+)", str(core.getAPIVersionInfo()))
    return int(found.group(1)) if found else -1


def adapter_files(folder: Path) -> Mapping[str, Path]:
    """The device adapters in a folder by name."""
    files = [*folder.glob("libmmgr_dal_*"), *folder.glob("mmgr_dal_*.dll")]
    return {path.name.removeprefix("lib").removeprefix("mmgr_dal_").split(".")[0]: path for path in sorted(files)}


def adapter_interface(path: Path) -> int | None:
    """The device interface that an adapter was built for, by its own word; None where the file cannot be loaded."""
    try:
        return int(ctypes.CDLL(str(path)).GetDeviceInterfaceVersion())
    except (OSError, AttributeError):
        return None


def _why(core: Any, folder: Path, adapter: str, error: str) -> str:
    """Why an adapter failed, in more words than the core has."""
    files = adapter_files(folder)
    if adapter not in files:
        near = ", ".join(files) or "none at all"
        return f"there is no adapter {adapter} in {folder}; there are: {near} (core.adapters names the folder)"
    speaks, built = interface_version(core), adapter_interface(files[adapter])
    if built is not None and built != speaks:
        return (
            f"{files[adapter]} was built for device interface {built}, this core speaks {speaks}: install a pymmcore "
            f"whose fourth number is {built}, or a Micro-Manager of interface {speaks}"
        )
    if built is None:
        return f"{files[adapter]} cannot be loaded, most often as a library of the device's maker is missing ({error})"
    return error
