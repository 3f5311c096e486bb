"""Does finding cells in other people's brightfield recordings hang on the settings, or on the pictures it was set on?

    python tools/recall_robustness.py RECORDING.rtdc... [--made 30] [--json]

Background and segmentation with the settings that `hspc-live replay` takes for RT-DC files, detections held against
masks as `replay_recall.py` does, on: (a) the recordings, with every constant varied alone by 0.5, 0.7, 1.4 and 2;
(b) changed copies of the recordings, made in memory; (c) films made by wave optics (`channel_films.py`), whose outlines
are known. Each line: rows found of rows with a mask, and how many were found twice.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import channel_films
import cv2
import numpy as np
from numpy.typing import NDArray
from replay_recall import Rows, score

from hspc_live.core.crop import CropGeometry
from hspc_live.core.values import Modality
from hspc_live.recording.reader import open_recording
from hspc_live.settings.load import load
from hspc_live.settings.segment import BackgroundSettings, SegmentSettings
from hspc_live.settings.shipped import shipped_config
from hspc_live.stages import foreground, segment, split
from hspc_live.stages.background import Background

FACTORS = (0.5, 0.7, 1.4, 2.0)
BRIGHT = Modality.BRIGHTFIELD
Grey = NDArray[np.uint8]
CONSTANTS: tuple[tuple[Any, str], ...] = (
    *((foreground, name) for name in (
        "SMOOTHING_UM", "REACH_UM", "DEPTH_UM", "HALO_UM", "BRIDGE_UM", "SMALLEST_UM", "SPECK_UM", "WEAK", "RISE")),
    (segment, "SUSPECT"), (split, "NECK"), (split, "SMALLEST_PEAK"),
)  # fmt: skip
SETTINGS = ("noise_factor", "min_diameter_um", "max_diameter_um", "max_deformation", "min_solidity")


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """A recording in memory: (number, captured_ns, pixels, background or None), and the masks of each frame."""

    um_per_px: float
    frames: list[tuple[int, int, Grey, Grey | None]]
    rows: Rows


@dataclass(frozen=True, slots=True)
class Score:
    """Rows with a mask, of them found, of these found twice."""

    rows: int = 0
    hits: int = 0
    twice: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(self.rows + other.rows, self.hits + other.hits, self.twice + other.twice)

    def __str__(self) -> str:
        share = self.hits / self.rows if self.rows else 1.0
        return f"{self.hits:4d} of {self.rows:4d} ({share:6.1%}), {self.twice} twice"


def read(path: Path) -> Film:
    """A recording, whole."""
    rows: Rows = {}
    with open_recording(path) as recording:
        frames = [(f.index, f.captured_ns, f.pixels, f.background) for f in recording.frames()]
        for row in recording.rows():
            if row.mask is not None and row.mask.any():
                rows.setdefault(row.frame, []).append(row.mask)
        return Film(recording.info.um_per_px, frames, rows)


def made(lens: channel_films.Lens, frames: int, seed: int) -> Film:
    """A film by wave optics, a frame every 20 ms: files keep only frames that show something."""
    shots = channel_films.film(lens, frames, seed)
    rows = {i: shot.masks for i, shot in enumerate(shots) if shot.masks}
    return Film(lens.um_per_px, [(i, i * 20_000_000, s.pixels, s.background) for i, s in enumerate(shots)], rows)


def judge(film: Film, settings: SegmentSettings, background: BackgroundSettings) -> Score:
    """Segment the film frame by frame and hold the objects, rejects too, against its rows."""
    shape = film.frames[0][2].shape
    still = Background(background, (shape[0], shape[1]), film.frames[0][2].dtype)
    segmenter = segment.Segmenter(settings, film.um_per_px, BRIGHT, CropGeometry())
    found: dict[int, list[tuple[float, float]]] = {}
    current = None
    for index, at_ns, pixels, recorded in film.frames:
        current = still.update(pixels, at_ns, recorded) or current
        assert current is not None
        result = segmenter(index, at_ns, pixels, current.pixels, current.number, current.noise_sd)
        found[index] = list(zip(result.objects["x_um"].tolist(), result.objects["y_um"].tolist(), strict=True))
    return Score(*score(film.rows, found, film.um_per_px))


# ---- (a) the constants, one at a time --------------------------------------------------------------------------------


@contextmanager
def varied(module: Any, name: str, factor: float) -> Iterator[None]:
    """A constant of a stage, times `factor` for as long as this lasts (of a table by modality: brightfield's)."""
    value = getattr(module, name)
    changed = {**value, BRIGHT: value[BRIGHT] * factor} if isinstance(value, dict) else value * factor
    setattr(module, name, changed)
    try:
        yield
    finally:
        setattr(module, name, value)


def sensitivity(judged: Callable[[SegmentSettings], Score], settings: SegmentSettings) -> dict[str, list[Score]]:
    """For each constant and setting the scores at `FACTORS` of the shipped value (shares are kept at 1 or below)."""
    table = {}
    for module, name in CONSTANTS:
        scores = []
        for factor in FACTORS:
            with varied(module, name, factor):
                scores.append(judged(settings))
        table[name] = scores
    for name in SETTINGS:
        shipped = getattr(settings, name)
        limit = 1.0 if shipped < 1.0 else np.inf
        changed = [settings.model_copy(update={name: min(limit, shipped * factor)}) for factor in FACTORS]
        table[name] = [judged(one) for one in changed]
    return table


# ---- (b) changed copies ----------------------------------------------------------------------------------------------


def _counts(light: NDArray[Any]) -> Grey:
    return np.clip(np.rint(light), 0, 255).astype(np.uint8)


def _each(film: Film, change: Callable[[Grey, Grey], tuple[NDArray[Any], NDArray[Any] | None]]) -> Film:
    """`film` with `change(pixels, background)` for every frame; the background may go."""
    frames: list[tuple[int, int, Grey, Grey | None]] = []
    for index, at_ns, pixels, still in film.frames:
        assert still is not None
        new, new_still = change(pixels, still)
        frames.append((index, at_ns, _counts(new), None if new_still is None else _counts(new_still)))
    return replace(film, frames=frames)


def _contrast(film: Film, by: float) -> Film:
    return _each(film, lambda p, b: (b + by * (p.astype(float) - b), b))


def _noise(film: Film, sd: float) -> Film:
    rng = np.random.default_rng(5)
    return _each(film, lambda p, b: (p + rng.normal(0, sd, p.shape), b))


def _blur(film: Film, px: float) -> Film:
    return _each(film, lambda p, b: (cv2.GaussianBlur(p, (0, 0), px), cv2.GaussianBlur(b, (0, 0), px)))


def _resized(film: Film, by: float, same_cells: bool) -> Film:
    way = cv2.INTER_AREA if by < 1 else cv2.INTER_CUBIC

    def change(image: Any, flag: int = way) -> Any:
        return cv2.resize(image, None, fx=by, fy=by, interpolation=flag)

    rows = {n: [change(m.astype(np.uint8) * 255) >= 128 for m in masks] for n, masks in film.rows.items()}
    rows = {n: [m for m in masks if m.any()] for n, masks in rows.items()}
    resized = _each(film, lambda p, b: (change(p), change(b)))
    return replace(resized, rows=rows, um_per_px=film.um_per_px / by if same_cells else film.um_per_px)


def _mirrored(film: Film) -> Film:
    rows = {n: [m[:, ::-1] for m in masks] for n, masks in film.rows.items()}
    return replace(_each(film, lambda p, b: (p[:, ::-1].copy(), b[:, ::-1].copy())), rows=rows)


def _uneven(film: Film, depth: float, both: bool) -> Film:
    height, width = film.frames[0][2].shape
    ramp = 1 + depth * np.add.outer(np.linspace(-0.5, 0.5, height), np.linspace(-0.5, 0.5, width))
    return _each(film, lambda p, b: (p * ramp, b * ramp if both else b))


def _in_one_place(film: Film) -> Film:
    """Each frame moved along the channel until its first cell lies at the middle, as older instruments trigger."""
    frames, rows = [], {}
    for index, at_ns, pixels, still in film.frames:
        masks = film.rows.get(index, [])
        step = round(pixels.shape[1] / 2 - float(np.argwhere(masks[0])[:, 1].mean())) if masks else 0
        frames.append((index, at_ns, np.roll(pixels, step, 1), None if still is None else np.roll(still, step, 1)))
        moved = [np.roll(mask, step, 1) for mask in masks]
        rows[index] = [m for m in moved if not (m[:, 0].any() or m[:, -1].any())]  # cut in two by the border
    return Film(film.um_per_px, frames, rows)


def _without_background(film: Film) -> Film:
    return _each(film, lambda p, b: (p, None))


def _first(film: Film, frames: int) -> Film:
    kept = film.frames[:frames]
    return Film(film.um_per_px, kept, {n: film.rows[n] for n, *_ in kept if n in film.rows})


VARIANTS: dict[str, Callable[[Film], Film]] = {
    "as recorded": lambda f: f,
    "contrast x 0.5": lambda f: _contrast(f, 0.5),
    "contrast x 0.5, noise sd 1.5 added": lambda f: _noise(_contrast(f, 0.5), 1.5),
    "contrast x 1.6": lambda f: _contrast(f, 1.6),
    "gain x 0.6": lambda f: _each(f, lambda p, b: (0.6 * p, 0.6 * b)),
    "gain x 1.3": lambda f: _each(f, lambda p, b: (1.3 * p, 1.3 * b)),
    "offset +30": lambda f: _each(f, lambda p, b: (p + 30.0, b + 30.0)),
    "offset -40": lambda f: _each(f, lambda p, b: (p - 40.0, b - 40.0)),
    "lamp 5 % brighter than the background": lambda f: _each(f, lambda p, b: (1.05 * p, b)),
    "noise sd 1.5 added": lambda f: _noise(f, 1.5),
    "noise sd 3 added": lambda f: _noise(f, 3.0),
    "blur 0.7 px": lambda f: _blur(f, 0.7),
    "magnified x 0.7": lambda f: _resized(f, 0.7, True),
    "magnified x 1.4": lambda f: _resized(f, 1.4, True),
    "cells x 0.7": lambda f: _resized(f, 0.7, False),
    "cells x 1.4": lambda f: _resized(f, 1.4, False),
    "flow reversed (mirror)": _mirrored,
    "uneven light, 60 % across, in both": lambda f: _uneven(f, 0.6, True),
    "light 6 % off the background across": lambda f: _uneven(f, 0.06, False),
    "background missing": _without_background,
    "background missing, first 4 frames only": lambda f: _without_background(_first(f, 4)),
    "all cells at one place": _in_one_place,
    "all cells at one place, background missing": lambda f: _without_background(_in_one_place(f)),
}


def _plain(scores: Score | list[Score]) -> list[Any]:
    """As JSON: [rows, found, twice], or a list of these."""
    return [_plain(one) for one in scores] if isinstance(scores, list) else [scores.rows, scores.hits, scores.twice]


# ---- all of it -------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> int:
    """Print the three tables; 0 if on the made films recall is at least 95 % and nothing is found twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="*", type=Path)
    parser.add_argument("--made", type=int, default=30, help="frames of each made film; 0 for none")
    parser.add_argument("--seed", type=int, default=1, help="of the made films")
    parser.add_argument("--only", choices=("constants", "variants", "made"), action="append")
    parser.add_argument("--json", action="store_true", help="the tables as JSON on stdout")
    asked = parser.parse_args(arguments)
    wanted = asked.only or ["constants", "variants", "made"]
    cv2.setNumThreads(1)
    shipped = load(shipped_config("replay_rtdc"))
    films = [read(path) for path in asked.recordings]
    lenses = channel_films.LENSES if asked.made else ()
    by_lens = {lens.name: made(lens, asked.made, asked.seed + i) for i, lens in enumerate(lenses)}

    def over(some: Sequence[Film]) -> Callable[[SegmentSettings], Score]:
        return lambda settings: sum((judge(f, settings, shipped.background) for f in some), Score())

    out: dict[str, Any] = {}
    if "variants" in wanted and films:
        out["variants"] = {name: over([change(f) for f in films])(shipped.segment) for name, change in VARIANTS.items()}
    if "made" in wanted and by_lens:
        out["made"] = {name: over([film])(shipped.segment) for name, film in by_lens.items()}
        out["made"]["all"] = sum(out["made"].values(), Score())
        bare = [_without_background(film) for film in by_lens.values()]
        out["made"]["all, background missing"] = over(bare)(shipped.segment)
        bare = [_without_background(_in_one_place(film)) for film in by_lens.values()]
        out["made"]["all, at one place, background missing"] = over(bare)(shipped.segment)
    if "constants" in wanted:
        for name, some in (("constants, recordings", films), ("constants, made films", list(by_lens.values()))):
            if some:
                out[name] = sensitivity(over(some), shipped.segment)
    if asked.json:
        print(json.dumps({t: {name: _plain(s) for name, s in rows.items()} for t, rows in out.items()}))
    else:
        for title, table in out.items():
            print(f"\n{title}" + (f", at {FACTORS} of the shipped value" if "constants" in title else ""))
            for name, line in table.items():
                print(f"  {name:40s}" + ("  ".join(map(str, line)) if isinstance(line, list) else str(line)))
    total = out.get("made", {}).get("all", Score())
    return int(total.hits < 0.95 * total.rows or total.twice > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
