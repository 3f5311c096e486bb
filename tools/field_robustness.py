"""Does finding cells in still fields hang on the settings, or on the pictures that these were set on?

    python tools/field_robustness.py [DIC_DIR] [--films 3] [--only changed] [--peer all] [--overlays DIR] [--json]

Everything goes the way of `hspc-live segment` (the image tells which contrast it was made with), beside it the
scikit-image peer of `bench segment`. DIC_DIR holds `<stem>.png` at 0.25 µm/px and beside each `<stem>_cells.png` with
its outlines. Tables: its frames, changed (`field_changes.py`); fields made by wave optics (`field_films.py`) whose
outlines are known; each constant of the stages, varied alone, on the frames and on the first made field of each kind.

A cell counts as found where a label overlaps it with IoU >= 0.5; what touches the border, and what lies in truth label
65535, counts neither way. "merged/acc." are labels that hold two cells or more, and of these those accepted; "size" is
the found over the true diameter (of circles of equal area), median and quartiles; ms are CPU time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import cv2
import field_films
import numpy as np
from field_changes import CHANGES, Frame
from field_score import Labels, Score, score

from hspc_live.bench.segment_peer import UM_PER_PX, still_peer
from hspc_live.core.crop import CropGeometry
from hspc_live.core.values import Modality, Pixels
from hspc_live.settings.segment import SegmentSettings
from hspc_live.stages import body, company, discs, lobes, parting, piece, still
from hspc_live.stages import field as field_stage
from hspc_live.stages.symmetry import modality_of

FACTORS = (0.7, 0.85, 1.15, 1.4)
WANTED = (0.985, 0.985, 0.87)


# ---- judging ---------------------------------------------------------------------------------------------------------


def ours(frames: Sequence[Frame], overlays: Path | None = None) -> Score:
    """Segment as `hspc-live segment` does, with its default sizes, and score."""
    settings = SegmentSettings(min_diameter_um=4.5, max_diameter_um=16.0, max_objects=20_000)
    total, stages = Score(), {}
    for frame in frames:
        for told in (Modality.DIC, Modality.BRIGHTFIELD):
            if (told, frame.um_per_px) not in stages:
                stage = field_stage.FieldSegmenter(settings, frame.um_per_px, told, CropGeometry())
                stages[told, frame.um_per_px] = stage
        began = time.process_time()
        told = Modality.DIC
        result = stages[told, frame.um_per_px].field(frame.pixels)
        if modality_of(frame.pixels, result) is not told:
            told = Modality.BRIGHTFIELD
            result = stages[told, frame.um_per_px].field(frame.pixels)
        ms = 1e3 * (time.process_time() - began)
        accepted = [reason is None for reason, whole in zip(result.reasons, result.whole, strict=True) if whole]
        one = score(result.labels, frame.truth, np.array(accepted, bool))
        one.ms, one.mistaken = [ms], int(frame.dic is not None and (told is Modality.DIC) != frame.dic)
        total += one
        if overlays is not None:
            _draw(frame, result.labels, overlays / f"{frame.name}.png")
    return total


def plain(frames: Sequence[Frame]) -> Score:
    """The peer; its lengths are pixels of 0.25 µm, so pictures of another scale are resized for it."""
    total = Score()
    for frame in frames:
        ratio = frame.um_per_px / UM_PER_PX
        height, width = frame.truth.shape
        size = (round(width * ratio), round(height * ratio)) if abs(ratio - 1) > 0.01 else (width, height)
        way = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
        seen = cast("Pixels", cv2.resize(frame.pixels, size, interpolation=way))
        began = time.process_time()
        found = still_peer(seen)
        ms = 1e3 * (time.process_time() - began)
        labels: Labels = cv2.resize(found.astype(np.uint16), (width, height), interpolation=cv2.INTER_NEAREST)
        total += replace(score(labels, frame.truth, np.ones(int(labels.max()), bool)), ms=[ms])
    return total


def _draw(frame: Frame, labels: Labels, path: Path) -> None:
    """The picture with the true outlines in green and the found in magenta."""
    light = frame.pixels.astype(np.float32) / np.quantile(frame.pixels, 0.999) * 255
    picture = cv2.cvtColor(np.clip(light, 0, 255).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    for image, colour in ((frame.truth, (0, 220, 0)), (labels, (255, 0, 255))):
        for number in np.unique(image)[1:]:
            mask = (image == number).astype(np.uint8)
            outlines = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
            cv2.drawContours(picture, outlines, -1, colour, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture)


# ---- the constants, one at a time ------------------------------------------------------------------------------------

STAGES: tuple[Any, ...] = (body, company, discs, field_stage, lobes, parting, piece, still)


def constants() -> list[str]:
    """The names of the stages' numbers and tables of numbers, their own and those they take from elsewhere."""
    names = {name: value for stage in STAGES for name, value in vars(stage).items() if name.isupper()}
    return sorted(name for name, value in names.items() if _times(name, value, 2.0) is not None)


def _times(name: str, value: Any, by: float) -> Any:
    """`value` times `by`, its shares at most 1, its counts whole; None for what is no number."""
    match value:
        case bool():
            return None
        case int():
            return max(1, round(value * by))
        case float():
            share = 0 < value < 1 and not name.endswith("_UM")
            return min(1.0, value * by) if share else value * by
        case tuple():
            parts = tuple(_times(name, one, by) for one in value)
            return None if not parts or None in parts else parts
        case dict():
            table = {key: _times(name, one, by) for key, one in value.items()}
            return None if not table or None in table.values() else table
        case _:
            return None


@contextmanager
def varied(name: str, by: float) -> Iterator[None]:
    """The constant `name` times `by` in every stage that knows it, for as long as this lasts."""
    shipped = [(stage, getattr(stage, name)) for stage in STAGES if hasattr(stage, name)]
    for stage, value in shipped:
        setattr(stage, name, _times(name, value, by))
    try:
        yield
    finally:
        for stage, value in shipped:
            setattr(stage, name, value)


# ---- all of it -------------------------------------------------------------------------------------------------------

REAL: list[Frame] = []
MADE: dict[str, list[Frame]] = {}
HEAD = "recall prec. IoU   miss false merged/acc. size found/true  ms"


@dataclass(frozen=True, slots=True)
class Job:
    """One cell of a table: `who` segments or, of the constants, which fields; times `factor` (0: none varied)."""

    table: str
    row: str
    who: str
    factor: float = 0.0
    overlays: Path | None = None

    @property
    def title(self) -> str:
        """Of its table."""
        return f"{self.table}, {self.who}"


def work(job: Job) -> tuple[Job, Score]:
    """Do one job, in a process that has `REAL` and `MADE` from its parent."""
    cv2.setNumThreads(1)
    match job.table:
        case "made":
            frames = MADE[job.row]
        case "changed":
            changed = [CHANGES[job.row](frame) for frame in REAL]
            frames = [one for many in changed for one in (many if isinstance(many, list) else [many])]
        case _:
            with varied(job.row, job.factor):
                return job, ours(REAL if job.who == "real" else [some[0] for some in MADE.values()])
    if job.who == "peer":
        return job, plain(frames)
    return job, ours(frames, None if job.overlays is None else job.overlays / job.row)


def make(job: tuple[str, int]) -> Frame:
    """A made field by recipe and seed."""
    name, seed = job
    recipe = next(one for one in field_films.RECIPES if one.name == name)
    made = field_films.field(recipe, seed)
    return Frame(f"{name}-{seed}", made.pixels, made.labels, made.um_per_px, made.dic)


def read(folder: Path) -> list[Frame]:
    """The outlined frames of a folder."""
    frames = []
    for path in sorted(folder.glob("*_cells.png")):
        stem = path.name.removesuffix("_cells.png")
        pixels = cv2.imread(str(path.with_name(f"{stem}.png")), cv2.IMREAD_UNCHANGED)
        truth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert pixels is not None and truth is not None, path
        frames.append(Frame(stem, pixels, truth, UM_PER_PX, dic=True))
    return frames


def main(arguments: Sequence[str]) -> int:
    """Print the tables; 0 if the real frames, and all made fields together, reach `WANTED` (recall, precision, IoU)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", nargs="?", type=Path, metavar="DIC_DIR")
    parser.add_argument("--films", type=int, default=3, help="made fields of each recipe; 0 for none")
    parser.add_argument("--seed", type=int, default=1, help="of the first made field")
    parser.add_argument("--only", choices=("changed", "made", "constants"), action="append")
    parser.add_argument("--row", action="append", help="only this recipe, change or constant")
    parser.add_argument(
        "--peer", choices=("none", "short", "all"), default="short", help="short: not on changed frames"
    )
    parser.add_argument("--overlays", type=Path, help="folder for pictures: true outlines green, found magenta")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--json", action="store_true", help="the tables as one JSON object")
    asked = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    REAL[:] = read(asked.frames) if asked.frames is not None else []
    fork = multiprocessing.get_context("fork")  # the frames are inherited, not sent
    kinds = [recipe.name for recipe in field_films.RECIPES if not asked.row or recipe.name in asked.row]
    if not asked.only or set(asked.only) & {"made", "constants"}:
        seeds = range(asked.seed, asked.seed + asked.films)
        with fork.Pool(asked.jobs) as pool:
            for frame in pool.imap(make, [(name, seed) for name in kinds for seed in seeds]):
                MADE.setdefault(frame.name.rsplit("-", 1)[0], []).append(frame)
    out: dict[str, dict[str, list[Score]]] = {}
    with fork.Pool(asked.jobs) as pool:
        for job, got in pool.imap(work, list(jobs(asked))):
            if job.title not in out and not asked.json:
                print(f"\n{job.title:32s}" + ("recall/precision/IoU at " + str(FACTORS) if job.factor else HEAD))
            row = out.setdefault(job.title, {}).setdefault(job.row, [])
            row.append(got)
            if job.table == "made":
                out[job.title].setdefault("all", [Score()])[0] += got
            if not asked.json and not job.factor:
                print(f"  {job.row:30s}{got}", flush=True)
            elif not asked.json and len(row) == len(FACTORS):
                figures = ("/".join(f"{v:.3f}" for v in one.figures()) for one in row)
                print(f"  {job.row:15s}" + "   ".join(figures), flush=True)
    if asked.json:
        print(json.dumps({t: {n: [s.plain() for s in row] for n, row in rows.items()} for t, rows in out.items()}))
    else:
        for title in [title for title in out if "all" in out[title]]:
            print(f"\n{title + ', all':32s}{out[title]['all'][0]}")
    judged = [out.get("changed, ours", {}).get("as recorded"), out.get("made, ours", {}).get("all")]
    return int(any(v < w for row in judged if row for v, w in zip(row[0].figures(), WANTED, strict=True)))


def jobs(asked: argparse.Namespace) -> Iterator[Job]:
    """What was asked for, in the order of the tables."""
    wanted = asked.only or ["changed", "made", "constants"]
    rows = [("changed", name) for name in CHANGES if REAL] + [("made", name) for name in MADE]
    rows = [(table, name) for table, name in rows if table in wanted and (not asked.row or name in asked.row)]
    yield from (Job(table, name, "ours", overlays=asked.overlays) for table, name in rows)
    for table, name in rows:
        if asked.peer == "all" or (asked.peer == "short" and (table == "made" or name == "as recorded")):
            yield Job(table, name, "peer")
    if "constants" in wanted:
        for on in ["real"] * bool(REAL) + ["made"] * bool(MADE):
            for name in constants():
                if not asked.row or name in asked.row:
                    yield from (Job("constants", name, on, by) for by in FACTORS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
