"""Messages as a run would send them, made up; and the tiny facts of such a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from hspc_live.core.values import OBJECT_DTYPE, CameraInfo, CellOutcome, CellRecord, Classification, Modality
from hspc_live.settings.load import load_text
from hspc_live.stages.ledger import Ledger
from hspc_live.view.about import About
from hspc_live.wire.telemetry import LATENCY_BINS, OutletCount, Seen, Shown, Standing, Telemetry

CLASSES = ("LT-HSC", "ST-HSC", "MPP")


def record(cell: int, scores: Sequence[float] | None = (0.7, 0.2, 0.1), **changes: Any) -> CellRecord:
    """A cell's last word."""
    verdict = None
    if scores is not None:
        verdict = Classification(cell, tuple(scores), CLASSES[int(np.argmax(scores))], 2)
    given: dict[str, Any] = {
        "cell": cell, "first_frame": 1, "last_frame": 4, "views": ((1, 0), (2, 0)), "outcome": CellOutcome.PASSED,
        "reason": "no_gate", "outlet": None, "classification": verdict, "velocity_um_s": 2000.0,
        "velocity_sd_um_s": 20.0, "arrival_ns": 5, "arrival_sd_ns": 1, "y_um": 10.0, "last_capture_ns": 3,
        "decided_ns": 4, "latency_ns": 1, "features": {"diameter_um": 8.0 + cell % 3, "area_um2": 50.0},
    }  # fmt: skip
    return CellRecord(**{**given, **changes})


def standing(**changes: Any) -> Standing:
    """How a run stands, but for `changes`; `ledger` may be given as a Ledger."""
    ledger = changes.pop("ledger", Ledger())
    given: dict[str, Any] = {
        "armed": False, "waits_to_arm": False, "alarms": {}, "told_alarms": {}, "disarmed": [], "lasting": [],
        "passing": [], "gate_revision": 0, "outlets": "[]", "ledger": json.dumps(ledger.to_json()), "open_cells": 0,
        "classes": dict.fromkeys(CLASSES, 0), "sorted": [], "met": 0, "missed": 0, "unrecorded": 0, "queue": 0,
        "held": 0, "slots": 64, "unshown": 0, "ended": False,
    }  # fmt: skip
    return Standing(**{**given, **changes})


def shown(
    number: int = 0,
    *,
    sent_ns: int = 10**9,
    cells: Sequence[CellRecord] = (),
    crops: Sequence[tuple[int, int, int]] = (),
    run: str = "run-1",
    objects: Any = None,
    masks: Any = None,
    seen: Sequence[Seen] | None = None,
    stands: Standing | None = None,
    frame: int = 7,
) -> Shown:
    """A telemetry message."""
    objects = np.zeros(0, OBJECT_DTYPE) if objects is None else objects
    masks = np.zeros((0, 0, 0), np.uint8) if masks is None else masks
    told = Telemetry(
        number, sent_ns, frame, sent_ns, sent_ns, (), tuple(masks.shape[1:]),
        list(seen) if seen is not None else [Seen(0, -1)] * len(objects), list(cells), list(crops),
        stands if stands is not None else standing(),
    )  # fmt: skip
    return Shown(
        run, told, np.zeros((96, 256), np.uint8), objects, masks, np.zeros(LATENCY_BINS, np.uint32),
        np.full((len(crops), 8, 8), 9, np.uint8),
    )  # fmt: skip


@pytest.fixture
def about() -> Callable[..., About]:
    """The facts of a run."""

    def make(run: str = "run-1", *, live: bool = True, overrides: Sequence[str] = (), **changes: Any) -> About:
        settings = load_text("{}", "test", list(overrides))
        given: dict[str, Any] = {
            "run": run, "control": "ipc:///nowhere/control.sock", "show": "ipc:///nowhere/show.sock", "live": live,
            "settings": settings, "camera": CameraInfo(96, 256, "uint8", 0.4, 100.0, Modality.DIC), "classes": CLASSES,
            "engine": "torch-eager/cpu", "on_cpu": True, "recording": None,
        }  # fmt: skip
        return About(**{**given, **changes})

    return make


__all__ = ["CLASSES", "OutletCount", "record", "shown", "standing"]
