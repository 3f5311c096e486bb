"""What the processes tell each other once, before the run begins: the camera's promises, as plain JSON values."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hspc_live.core.values import CameraInfo, Modality


def camera_facts(info: CameraInfo) -> dict[str, Any]:
    """`info` as JSON values under the key `camera`."""
    return {"camera": asdict(info)}


def camera_info(facts: dict[str, Any]) -> CameraInfo:
    """The inverse of `camera_facts`."""
    camera = dict(facts["camera"])
    camera["modality"] = Modality(camera["modality"])
    return CameraInfo(**camera)
