"""How many of a recording's outlined cells does the pipeline detect, and is any detected twice?

    python tools/replay_recall.py RECORDING.rtdc...

Replays each file through the whole pipeline (no classifier) and holds the detections against the masks in the file:
one to one, centre to centre within 4 µm, as many as can be, least total distance. A row counts as found twice when the
centre of a second detection lies in its mask and no other row of the frame claims it. Rows judge recall only: files
leave objects out.
"""

from __future__ import annotations

import sys
import tempfile
from collections import defaultdict
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from hspc_live.cli.execute import RECORDING
from hspc_live.cli.runs import replay
from hspc_live.recording.reader import open_recording

REACH_UM = 4.0


def detections(recording: Path, folder: Path) -> dict[int, list[tuple[float, float]]]:
    """Frame → positions (x_um, y_um) of all objects found, rejects too."""
    with redirect_stdout(sys.stderr):
        replay(recording, out=folder, set_=["engine.kind=null", "record.frames=false"], speed_="max", as_json=True)
    found: dict[int, list[tuple[float, float]]] = defaultdict(list)
    with open_recording(folder / RECORDING) as ours:
        objects = ours.table("objects")
        assert objects is not None
        for frame, x_um, y_um in zip(*(objects[n].tolist() for n in ("frame", "x_um", "y_um")), strict=True):
            found[frame].append((x_um, y_um))
    return found


Rows = dict[int, list[np.ndarray]]


def score(rows: Rows, found: dict[int, list[tuple[float, float]]], um_per_px: float) -> tuple[int, int, int]:
    """Rows with a mask, rows detected, rows detected twice. `rows`: frame → masks; `found`: frame → (x_um, y_um)."""
    total = hits = twice = 0
    for frame, masks in rows.items():
        points = found.get(frame, [])
        total += len(masks)
        centres = [np.argwhere(mask).mean(axis=0)[::-1] * um_per_px for mask in masks]
        away = np.array([[np.hypot(x - px, y - py) for px, py in points] for x, y in centres])
        if not away.size:
            continue
        # what is out of reach costs alike, or a row without a detection could take that of another
        cost = np.where(away <= REACH_UM, away, 1e6)
        pairs = [(i, j) for i, j in zip(*linear_sum_assignment(cost), strict=True) if away[i, j] <= REACH_UM]
        hits += len(pairs)
        claimed = {j for _, j in pairs}
        for i, mask in enumerate(masks):
            inside = {j for j, (px, py) in enumerate(points) if _inside(mask, px / um_per_px, py / um_per_px)}
            twice += len(inside - claimed) > 0 and any(pair[0] == i for pair in pairs)
    return total, hits, twice


def main() -> int:
    """A line a file and one for all; 0 if at least 95 % of all rows are found and none twice."""
    all_rows = all_hits = all_twice = 0
    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as temporary:
            found = detections(Path(name), Path(temporary) / "out")
        rows: Rows = defaultdict(list)
        with open_recording(name) as recording:
            scale = recording.info.um_per_px
            for row in recording.rows():
                if row.mask is not None and row.mask.any():
                    rows[row.frame].append(row.mask)
        total, hits, twice = score(rows, found, scale)
        share = hits / total if total else 1.0
        all_rows, all_hits, all_twice = all_rows + total, all_hits + hits, all_twice + twice
        print(f"{name}: {hits} of {total} rows detected ({share:.1%}), {twice} twice")
    overall = all_hits / all_rows if all_rows else 1.0
    print(f"all: {all_hits} of {all_rows} rows detected ({overall:.1%}), {all_twice} twice")
    return int(overall < 0.95 or all_twice > 0)


def _inside(mask: np.ndarray, x_px: float, y_px: float) -> bool:
    row, column = round(y_px), round(x_px)
    return 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1] and bool(mask[row, column])


if __name__ == "__main__":
    sys.exit(main())
