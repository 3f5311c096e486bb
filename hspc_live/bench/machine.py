"""The machine that a figure belongs to: without it no figure is worth anything."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any, Final

PACKAGES: Final = (
    "hspc-live", "numpy", "torch", "opencv-python-headless", "onnxruntime", "openvino", "torch-tensorrt", "h5py",
    "hdf5plugin", "pyzmq", "scikit-image",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """Processor, cores, memory, GPU, versions, and the load average (1, 5, 15 min) as it is now; null is "unknown"."""
    return {
        "cpu": _cpu(),
        "cores": usable_cores(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "load_average": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "gpu": _gpu(),
        "versions": {name: found for name in PACKAGES if (found := _version(name)) is not None},
    }


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_words(known: dict[str, Any]) -> str:
    """The machine in a sentence."""
    gpu = known["gpu"]
    driver = "" if gpu is None or gpu["driver"] is None else f", driver {gpu['driver']}"
    shown = "no GPU in use" if gpu is None else f"{gpu['name']} (compute capability {gpu['capability']}{driver})"
    load = known["load_average"]
    busy = "" if load is None else f"; load average at the start {load[0]:g}"
    return f"{known['cpu']}, {known['cores']} cores, {shown}, {known['system']}, Python {known['python']}{busy}"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _gpu() -> dict[str, Any] | None:
    import torch  # slow to import, and not needed where only the rest is asked

    if not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability(0)
    return {
        "name": torch.cuda.get_device_name(0),
        "capability": f"{major}.{minor}",
        "cuda": torch.version.cuda,
        "driver": _driver(),
    }


def _driver() -> str | None:
    """Of the NVIDIA kernel module, e.g. `570.86.15`."""
    try:
        first = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        return None
    return next((word for word in first.split() if word[:1].isdigit() and "." in word), None)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
