"""bench record: megabytes of pictures a second into a recording, beside a plain file and the bare compression.

The writer is driven as the record process drives it: frame by frame, flushed on a clock. `plain` writes the same frames
to a file, uncompressed; `filter` only compresses them, as HDF5 has it done; `compress` does so without what the filter
spends on memory (left out where that function cannot be called). All take turns within every repeat. Nobody waits for
the disk itself: what is flushed survives a crash of the program, and the system writes it out when it likes.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hspc_live.bench.bare_filter import BareCompression, BareFilter
from hspc_live.bench.drawn import flow_frame, still_field
from hspc_live.bench.figures import Began, Figure, Say, digits, result
from hspc_live.core.errors import HspcError, OutputError
from hspc_live.core.values import CameraInfo, Modality
from hspc_live.recording.writer import RecordingWriter

BYTES: Final = 128 << 20
DISTINCT: Final = 16
FLUSH_S: Final = 0.5
WINDOW: Final = (80, 80)
LARGE: Final = 2048

Compress = Callable[[NDArray[Any]], int]


def measure_record(folder: Path | None, repeats: int, say: Say, share: float = 1.0) -> dict[str, Any]:
    """The whole bench as JSON. Files are written into `folder` (None: the system's for temporary files) and removed.

    Raises OutputError where they cannot be written, HspcError where the filter cannot be called.
    """
    began = Began.now()
    bare: dict[str, Compress] = {"filter": BareFilter()}
    with contextlib.suppress(HspcError):
        bare["compress"] = BareCompression()
    rows = []
    figures: dict[str, Figure] = {}
    for label, frames in _films():
        say(f"{label} …")
        try:
            with tempfile.TemporaryDirectory(prefix="hspc-bench-", dir=folder) as scratch:
                rows.append(_measure(label, frames, Path(scratch), repeats, share, bare, figures))
        except OSError as error:
            raise OutputError(f"{error.filename or folder}: cannot be written: {error.strerror}") from error
    asked = {"repeats": repeats, "share": share, "folder": "given" if folder is not None else "temporary"}
    return result("record", asked, figures, {"record": rows}, began)


def _films() -> list[tuple[str, list[NDArray[Any]]]]:
    def flow(height: int, width: int, um_per_px: float, cells: int) -> list[NDArray[Any]]:
        return [flow_frame(height, width, um_per_px, cells, Modality.DIC, seed)[0] for seed in range(DISTINCT)]

    return [
        ("80 × 320, 8 bits", flow(80, 320, 0.34, 5)),
        ("256 × 1024, 8 bits", flow(256, 1024, 0.25, 3)),
        (f"{LARGE} × {LARGE}, 12 bits", [still_field(LARGE, seed) for seed in range(2)]),
    ]


def _measure(
    label: str,
    frames: Sequence[NDArray[Any]],
    scratch: Path,
    repeats: int,
    share: float,
    bare: Mapping[str, Compress],
    figures: dict[str, Figure],
) -> dict[str, Any]:
    size = frames[0].nbytes
    count = max(4, round(share * BYTES / size))
    ways = ("record", "plain", *bare)
    wall: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    stored = 0
    for repeat in range(-1, repeats):  # the first round does not count
        file = scratch / "recording.rtdc"
        raw = scratch / "plain.raw"
        spent = {
            "record": _record(file, frames, count),
            "plain": _plain(raw, frames, count),
            **{way: _compress(compress, frames, count) for way, compress in bare.items()},
        }
        for way in ways if repeat >= 0 else ():
            wall[way].append(count * size / spent[way].wall_s / 1e6)
            cpu[way].append(count * size / max(spent[way].cpu_s, 1e-9) / 1e6)
        stored = file.stat().st_size
        file.unlink()
        raw.unlink()
    rate = {way: Figure.of(wall[way], "MB/s") for way in ways}
    figures |= {f"{label}, {way}": figure for way, figure in rate.items()}
    return {
        "frames": label,
        "count": count,
        "MB_per_s": {way: figure.median for way, figure in rate.items()},
        "MB_per_s_range": {way: figure.range for way, figure in rate.items()},
        "MB_per_cpu_s": {way: Figure.of(cpu[way], "MB/s").median for way in ways},
        **{f"of_{way}": _ratio(wall["record"], wall[way]) for way in bare},
        **{f"of_{way}_cpu": _ratio(cpu["record"], cpu[way]) for way in bare},
        "of_plain": _ratio(wall["record"], wall["plain"]),
        "stored_of_raw": digits(stored / (count * size), 3),
    }


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return digits(float(np.median([a / b for a, b in zip(ours, theirs, strict=True)])), 3)


class _Spent:
    """Wall and CPU seconds of a `with` block."""

    def __enter__(self) -> _Spent:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s, self.cpu_s = time.perf_counter() - self._wall, time.process_time() - self._cpu


def _record(file: Path, frames: Sequence[NDArray[Any]], count: int) -> _Spent:
    """What a run waits for: frames and flushes. The file is made before it begins and completed when it is over."""
    height, width = frames[0].shape
    writer = RecordingWriter.create(
        file,
        run_id="bench",
        settings_json="{}",
        camera=CameraInfo(height, width, str(frames[0].dtype), 0.25, 1000.0, Modality.DIC),
        classes=("a", "b"),
        card_yaml="",
        pipeline_id="",
        versions={},
        window=WINDOW,
        record_frames=True,
    )
    with _Spent() as spent:
        flushed = time.monotonic()
        for number in range(count):
            writer.write_frame(number, number * 1_000_000, frames[number % len(frames)], 1)
            if time.monotonic() - flushed >= FLUSH_S:
                writer.flush()
                flushed = time.monotonic()
        writer.flush()
    writer.close(None, None)
    return spent


def _plain(file: Path, frames: Sequence[NDArray[Any]], count: int) -> _Spent:
    with file.open("xb", buffering=0) as out, _Spent() as spent:
        for number in range(count):
            out.write(frames[number % len(frames)].data)
    return spent


def _compress(compress: Compress, frames: Sequence[NDArray[Any]], count: int) -> _Spent:
    with _Spent() as spent:
        for number in range(count):
            compress(frames[number % len(frames)])
    return spent
