"""bench segment: milliseconds a frame of segmentation, beside scikit-image and a bare pass over the memory.

One core, CPU time; ours, the peer and the bare pass take turns on the same pictures within every repeat. The bare pass
reads frame and background once and writes their difference: no segmentation can be quicker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.bench.drawn import flow_frame, still_field
from hspc_live.bench.figures import Began, Figure, Say, digits, result
from hspc_live.bench.segment_peer import UM_PER_PX, flow_peer, still_peer
from hspc_live.core.crop import CropGeometry
from hspc_live.core.errors import SettingsError
from hspc_live.core.values import Modality, Pixels
from hspc_live.recording.images import image_files, read_image
from hspc_live.settings.segment import BackgroundSettings, SegmentSettings
from hspc_live.stages.background import Background, noise_sd
from hspc_live.stages.field import FieldSegmenter
from hspc_live.stages.segment import Segmenter

FLOW: Final = ((80, 320, 0.34, 5), (80, 320, 0.34, 0), (256, 1024, 0.25, 3))  # height, width, µm/px, cells
STILL_EDGE: Final = 2048
PICTURES: Final = 8
FRAMES: Final = 200
STILL_FRAMES: Final = 10
_STILL = SegmentSettings(max_diameter_um=16.0, max_objects=5000)


@dataclass(frozen=True, slots=True)
class _Case:
    """A kind of picture: each step takes the number of a run, in which it sees the picture of that number.

    `middle` sums the runs of a repeat up: the mean where most runs do nothing, because the work comes in lumps.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    pictures: int
    objects: float
    ours: Callable[[int], object]
    peer: Callable[[int], object] | None
    bare: Callable[[int], object]
    runs: int
    peer_runs: int
    middle: Callable[[Sequence[float]], Any] = np.median


def measure_segment(repeats: int, say: Say, images: Sequence[Path] = (), share: float = 1.0) -> dict[str, Any]:
    """The whole bench as JSON. `images`: still DIC fields of 0.25 µm/px to time as well; `share` of the usual runs.

    Raises SettingsError for images of another scale, RecordingError for those that cannot be read.
    """
    began = Began.now()
    stills = [_still_image(file) for file in image_files(list(images))] if images else []
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    figures: dict[str, Figure] = {}
    rows = []
    try:
        for case in _cases(stills, share):
            say(f"{case.name} …")
            rows.append(_measure(case, repeats, figures))
    finally:
        cv2.setNumThreads(threads)
    asked = {"repeats": repeats, "images": len(stills), "share": share}
    return result("segment", asked, figures, {"segment": rows, "time": "CPU time of one core"}, began)


def _measure(case: _Case, repeats: int, figures: dict[str, Figure]) -> dict[str, Any]:
    steps = {"ours": case.ours, "bare": case.bare} | ({"peer": case.peer} if case.peer is not None else {})
    middles: dict[str, list[float]] = {name: [] for name in steps}
    all_ms: list[float] = []
    for step in steps.values():
        step(0)
    for _ in range(repeats):
        for name, step in steps.items():
            runs = case.peer_runs if name == "peer" else case.runs
            taken = [_spent_ms(step, number) for number in range(runs)]
            middles[name].append(float(case.middle(taken)))
            all_ms += taken if name == "ours" else []
    ms = {name: Figure.of(values, "ms", "lower") for name, values in middles.items()}
    figures |= {f"{case.name}, {name}": figure for name, figure in ms.items()}
    peer = ms.get("peer")
    return {
        "case": case.name,
        "frame": list(case.shape),
        "dtype": case.dtype,
        "pictures": case.pictures,
        "objects": case.objects,
        "ms": ms["ours"].median,
        "ms_range": ms["ours"].range,
        "p99_ms": digits(float(np.percentile(all_ms, 99))),
        "peer_ms": None if peer is None else peer.median,
        "peer_ms_range": None if peer is None else peer.range,
        "memory_pass_ms": ms["bare"].median,
        "times_as_fast_as_peer": None if peer is None else digits(peer.median / ms["ours"].median, 3),
        "memory_passes": digits(ms["ours"].median / max(ms["bare"].median, 1e-6), 3),
    }


def _spent_ms(step: Callable[[int], object], number: int) -> float:
    began = time.thread_time_ns()
    step(number)
    return (time.thread_time_ns() - began) / 1e6


def _cases(stills: Sequence[Pixels], share: float) -> Iterator[_Case]:
    for height, width, um_per_px, cells in FLOW:
        for modality in Modality:
            yield _flow_case(height, width, um_per_px, cells, modality, share)
    for height, width in ((80, 320), (256, 1024)):
        yield _background_case(height, width, share)
    edge = STILL_EDGE if share >= 1 else STILL_EDGE // 4
    yield _still_case(f"still {edge} × {edge}, 12 bits", [still_field(edge, seed) for seed in range(2)], share)
    if stills:
        yield _still_case("images given", stills, share)


def _flow_case(height: int, width: int, um_per_px: float, cells: int, modality: Modality, share: float) -> _Case:
    pictures = [flow_frame(height, width, um_per_px, cells, modality, seed) for seed in range(PICTURES)]
    segment = Segmenter(SegmentSettings(), um_per_px, modality, CropGeometry())
    noise = [noise_sd(*picture) for picture in pictures]

    def ours(number: int) -> int:
        at = number % PICTURES
        return len(segment(number, number, *pictures[at], 1, noise[at]).objects)

    return _Case(
        name=f"flow {height} × {width} {modality}, {cells} cells",
        shape=(height, width),
        dtype="uint8",
        pictures=PICTURES,
        objects=float(np.mean([ours(at) for at in range(PICTURES)])),
        ours=ours,
        peer=lambda number: flow_peer(*pictures[number % PICTURES], um_per_px),
        bare=_pass([picture for picture, _ in pictures], pictures[0][1]),
        runs=_some(FRAMES, share),
        peer_runs=_some(FRAMES // 5, share),
    )


def _background_case(height: int, width: int, share: float) -> _Case:
    """Fed 100 frames a second of the film's time."""
    pictures = [flow_frame(height, width, UM_PER_PX, 0, Modality.DIC, seed)[0] for seed in range(PICTURES)]
    background = Background(BackgroundSettings(), (height, width), np.dtype(np.uint8))
    fed = 0

    def ours(_: int) -> object:
        nonlocal fed
        fed += 1
        return background.update(pictures[fed % PICTURES], fed * 10_000_000)

    return _Case(
        name=f"background {height} × {width}",
        shape=(height, width),
        dtype="uint8",
        pictures=PICTURES,
        objects=0.0,
        ours=ours,
        peer=None,
        bare=_pass(pictures, pictures[0]),
        runs=_some(FRAMES, share),
        peer_runs=0,
        middle=np.mean,
    )


def _still_case(name: str, pictures: Sequence[Pixels], share: float) -> _Case:
    segmenter = FieldSegmenter(_STILL, UM_PER_PX, Modality.DIC, CropGeometry())
    flat = np.full_like(pictures[0], np.iinfo(pictures[0].dtype).max // 2)
    alike = [picture for picture in pictures if picture.shape == flat.shape and picture.dtype == flat.dtype]
    runs = max(len(pictures), _some(STILL_FRAMES, share))
    return _Case(
        name=name,
        shape=pictures[0].shape,
        dtype=str(pictures[0].dtype),
        pictures=len(pictures),
        objects=float(np.mean([segmenter.field(picture).whole.sum() for picture in pictures])),
        ours=lambda number: segmenter.field(pictures[number % len(pictures)]),
        peer=lambda number: still_peer(pictures[number % len(pictures)]),
        bare=_pass(alike, flat),
        runs=runs,
        peer_runs=max(1, min(len(pictures), runs)),
    )


def _pass(pictures: Sequence[NDArray[Any]], background: NDArray[Any]) -> Callable[[int], object]:
    """Read a picture and a background once, write their difference."""
    out = np.empty_like(background)
    return lambda number: cv2.absdiff(pictures[number % len(pictures)], background, dst=out)


def _still_image(file: Path) -> Pixels:
    image = read_image(file)
    if image.um_per_px is not None and abs(image.um_per_px / UM_PER_PX - 1) > 0.02:
        raise SettingsError(
            f"{file}: {image.um_per_px:g} µm/px; the scikit-image peer of `bench segment` is made for {UM_PER_PX:g}"
        )
    return image.pixels


def _some(count: int, share: float) -> int:
    return max(2, round(count * share))
