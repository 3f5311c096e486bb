"""Who made a verdict: one hash over settings, model and version, and a name for each run.

Two runs with the same pipeline id would judge the same frames alike (on the same engine build and machine type). What
cannot change a verdict is left out, so that a recorded run and its replay, or the same analysis by more
workers, share one id.
"""

from __future__ import annotations

import copy
import hashlib
import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

# Where things are kept and how the work is shared out. `camera` says what is filmed, not how it is judged; only a scale
# or frame rate that overrules a recording's own comes back in below. The model's place is replaced by its hash. The
# sorter acts on verdicts and makes none.
_NO_VERDICT: tuple[tuple[str, ...], ...] = (
    ("name",),
    ("record",),
    ("camera",),
    ("sorter",),
    ("door",),
    ("retry",),
    ("engine", "model"),
    ("pipeline", "workers"),
    ("pipeline", "ring_slots"),
    ("pipeline", "frames_per_lease"),
    ("pipeline", "lease_timeout_s"),
    ("pipeline", "silent_periods"),
)
_CAMERA_OVERRULES = ("um_per_px", "frames_per_s")


def pipeline_id(settings: Mapping[str, Any], model_sha256: str, version: str) -> str:
    """SHA-256 (hex) of everything that may change a verdict.

    `settings` is a dumped RunSettings (`model_dump(mode="json")`), whose key order does not matter; `model_sha256` is
    the hash of the weights ("" for an engine without), `version` that of HSPC Live. Raises ValueError on NaN.
    """
    kept = copy.deepcopy(dict(settings))
    camera = kept.get("camera", {})
    overrules = {key: camera[key] for key in _CAMERA_OVERRULES if camera.get(key) is not None}
    for path in _NO_VERDICT:
        _remove(kept, path)
    return canonical_sha256(
        {"settings": kept, "camera_overrules": overrules, "model_sha256": model_sha256, "version": version}
    )


def canonical_sha256(value: Any) -> str:
    """SHA-256 (hex) of `value` as canonical JSON: sorted keys, no spaces, UTF-8. Raises ValueError on NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def run_id() -> str:
    """A new run's name: UTC start time, which sorts, and six random hex digits, e.g. `20260102T030405Z-a1b2c3`."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def _remove(tree: dict[str, Any], path: tuple[str, ...]) -> None:
    *parents, last = path
    for key in parents:
        tree = tree.get(key, {})
    tree.pop(last, None)
