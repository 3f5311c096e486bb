"""A segment worker that starts while the run comes to its end."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hspc_live.core.crop import CropGeometry
from hspc_live.core.errors import WireError
from hspc_live.core.values import CameraInfo, Modality
from hspc_live.processes.child import Child
from hspc_live.processes.facts import camera_facts
from hspc_live.processes.segment_worker import segment
from hspc_live.settings.load import load
from hspc_live.settings.shipped import shipped_config


class Replacement:
    """What a worker knows of its supervisor: one that took the place of a dead worker, late."""

    def __init__(self, ring: Path) -> None:
        self.plan = SimpleNamespace(settings=load(shipped_config("rigs/twin_flow"), ()), recording=None)
        self.said: list[tuple[str, str]] = []
        geometry = CropGeometry()
        acquire = {"ring": str(ring), **camera_facts(CameraInfo(96, 256, "uint8", 0.25, 100.0, Modality.DIC))}
        sort = {"geometry": {"size_px": geometry.size_px, "um_per_px": geometry.um_per_px}}
        self._facts = {"acquire": acquire, "sort": sort}

    async def ready(self) -> dict[str, Any]:
        return self._facts

    def say(self, kind: str, text: str) -> None:
        self.said.append((kind, text))


async def test_one_that_finds_the_frames_gone_ends_without_a_failure(tmp_path: Path) -> None:
    late = Replacement(tmp_path / "pixels.ring")
    assert await segment(cast("Child", late)) == {"frames": 0, "stale": 0, "busy_ns": 0}
    assert [kind for kind, _ in late.said] == ["too_late"]


async def test_one_that_finds_something_else_there_fails(tmp_path: Path) -> None:
    path = tmp_path / "pixels.ring"
    path.write_bytes(b"no ring at all" * 100)
    with pytest.raises(WireError, match="not a pixel ring"):
        await segment(cast("Child", Replacement(path)))
