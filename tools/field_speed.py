"""How long a still field takes, beside the scikit-image pipeline that finds its cells: CPU time of one core.

The peer (`hspc_live/bench/segment_peer.py`: local standard deviation, Otsu's threshold, filling, watershed) takes a
second a picture, so it gets every N-th picture of a round, ours all of them three times. `hspc-live bench segment` has
the same comparison on drawn pictures, and a bare pass over the memory.

    python tools/field_speed.py IMAGE… [--um-per-px 0.25] [--max-diameter-um 16] [--rounds 4]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import cv2
from numpy.typing import NDArray

from hspc_live.bench.segment_peer import still_peer
from hspc_live.core.crop import CropGeometry
from hspc_live.core.values import Modality
from hspc_live.settings.segment import SegmentSettings
from hspc_live.stages.field import FieldSegmenter

PEER_OF = 4
OURS_TIMES = 3


def mean_ms(work: Callable[[NDArray[Any]], object], pictures: Sequence[NDArray[Any]]) -> float:
    """CPU time of one picture, ms, in the mean."""
    began = time.process_time()
    for picture in pictures:
        work(picture)
    return (time.process_time() - began) * 1e3 / len(pictures)


def main() -> None:
    """Measure in turns, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--um-per-px", type=float, default=0.25)
    parser.add_argument("--max-diameter-um", type=float, default=16.0)
    parser.add_argument("--modality", choices=[one.value for one in Modality], default=Modality.DIC.value)
    parser.add_argument("--rounds", type=int, default=4)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    pictures: list[NDArray[Any]] = []
    for path in given.images:
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if picture is None or picture.ndim != 2:
            parser.error(f"{path}: no grey picture")
        pictures.append(picture)
    settings = SegmentSettings(max_diameter_um=given.max_diameter_um, max_objects=5000)
    ours = FieldSegmenter(settings, given.um_per_px, Modality(given.modality), CropGeometry())
    mean_ms(ours.field, pictures)
    rows = []
    for number in range(given.rounds):
        row = {
            "ours_ms": mean_ms(ours.field, pictures * OURS_TIMES),
            "peer_ms": mean_ms(still_peer, pictures[number % PEER_OF :: PEER_OF] or pictures),
        }
        rows.append({**row, "times": row["peer_ms"] / row["ours_ms"]})
    found = {key: round(median(row[key] for row in rows), 2) for key in rows[0]}
    ends = [round(pick(row["times"] for row in rows), 1) for pick in (min, max)]
    print(json.dumps({"pictures": len(pictures), **found, "times_range": ends}))


if __name__ == "__main__":
    main()
