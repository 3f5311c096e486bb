"""Segmentation's results as messages, and back: what comes in is held to what this run's results look like.

A result may come from another computer, or from a worker gone mad. Past this point nobody looks again, so shapes,
counts, positions and names are judged here; a frame's pictures may be wrong, but nothing can break or grow on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import WireError
from hspc_live.core.values import OBJECT_DTYPE, FrameResult, Reject
from hspc_live.processes.facts import camera_info
from hspc_live.settings.schema import RunSettings
from hspc_live.wire.codec import encode
from hspc_live.wire.messages import ResultHead, Results

ALARMS = frozenset({"saturated", "black", "flat"})
RESULT_BYTES = 256 << 20  # of one message, at most
SPLIT = 4  # touching cells are parted after the objects of a frame are capped


@dataclass(frozen=True, slots=True)
class ResultShape:
    """What the results of one run look like: pictures' dtype and size; `window` None: none is recorded."""

    dtype: np.dtype[Any]
    size_px: int
    window: tuple[int, int] | None
    most_objects: int

    @classmethod
    def of(cls, settings: RunSettings, facts: Mapping[str, Mapping[str, Any]], *, recorded: bool) -> Self:
        """From the settings, and what camera and model have reported."""
        camera = camera_info(dict(facts["acquire"]))
        edge = settings.record.window_px
        return cls(
            np.dtype(camera.dtype),
            int(facts["sort"]["geometry"]["size_px"]),
            (min(edge, camera.height_px), min(edge, camera.width_px)) if recorded else None,
            settings.segment.max_objects * SPLIT,
        )


def encode_results(results: list[FrameResult], run: str) -> list[Any]:
    """One message for the results of several frames."""
    heads, arrays = pack_results(results)
    return encode(Results(heads), arrays, run=run)


def pack_results(results: list[FrameResult]) -> tuple[list[ResultHead], list[NDArray[Any]]]:
    """The heads of several frames' results, and the four arrays of all of them."""
    heads = [
        ResultHead(
            r.index, r.captured_ns, r.background, r.over_cap, r.alarms, r.segment_ns, len(r.objects), len(r.crops)
        )
        for r in results
    ]
    if len(results) == 1:
        only = results[0]
        return heads, [only.objects, only.crops, only.windows, only.masks]
    return heads, [
        _joined([r.objects for r in results]),
        _joined([r.crops for r in results]),
        _joined([r.windows for r in results]),
        _joined([r.masks for r in results]),
    ]


def _joined(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """Concatenated along the first axis; empty ones may have another shape behind it."""
    filled = [a for a in arrays if len(a)]
    return np.concatenate(filled) if filled else arrays[0]


def decode_results(message: Results, arrays: Sequence[NDArray[Any]], shape: ResultShape) -> list[FrameResult]:
    """The results of a message; arrays are views into it. Raises WireError for what no worker of this run can say."""
    if len(arrays) != 4:
        raise WireError(f"results with {len(arrays)} arrays; 4 are right")
    objects, crops, windows, masks = arrays
    _check(message, objects, crops, windows, masks, shape)
    results: list[FrameResult] = []
    o = c = 0
    for head in message.frames:
        rows = slice(o, o + head.objects)
        if int(np.count_nonzero(objects["reject"][rows] == Reject.ACCEPTED)) != head.crops:
            raise WireError("results whose crops are not those of the accepted objects")
        results.append(
            FrameResult(
                index=head.index,
                captured_ns=head.captured_ns,
                objects=objects[rows],
                crops=crops[c : c + head.crops],
                windows=windows[rows] if len(windows) else windows,
                masks=masks[rows] if len(masks) else masks,
                background=head.background,
                over_cap=head.over_cap,
                alarms=head.alarms,
                segment_ns=head.segment_ns,
            )
        )
        o += head.objects
        c += head.crops
    return results


def _check(
    message: Results,
    objects: NDArray[Any],
    crops: NDArray[Any],
    windows: NDArray[Any],
    masks: NDArray[Any],
    shape: ResultShape,
) -> None:
    heads = message.frames
    for head in heads:
        if not (0 <= head.objects <= shape.most_objects and 0 <= head.crops <= head.objects):
            raise WireError("results with impossible counts")
        if not (0 <= head.over_cap < 1 << 31 and 0 <= head.segment_ns < 1 << 62 and ALARMS.issuperset(head.alarms)):
            raise WireError("results with an impossible number or alarm")
        if len(set(head.alarms)) < len(head.alarms):
            raise WireError("results that say an alarm twice")
    if objects.dtype != OBJECT_DTYPE or objects.shape != (sum(head.objects for head in heads),):
        raise WireError("results whose objects are not as many as they say")
    placed = np.isfinite(objects["x_um"]).all() and np.isfinite(objects["y_um"]).all()
    if len(objects) and not (placed and objects["reject"].max() <= max(Reject)):
        raise WireError("results with an object that nobody can have measured")
    if crops.ndim != 3 or len(crops) != sum(head.crops for head in heads):
        raise WireError("results whose crops are not as many as they say")
    if len(crops) and (crops.dtype != shape.dtype or crops.shape[1:] != (shape.size_px, shape.size_px)):
        raise WireError("results with crops of another run")
    for pictures, dtype in ((windows, shape.dtype), (masks, np.dtype(np.uint8))):
        wanted = (len(objects), *shape.window) if shape.window is not None and len(objects) else None
        if (wanted is None and len(pictures)) or (wanted and (pictures.shape != wanted or pictures.dtype != dtype)):
            raise WireError("results with windows of another run")
