"""How fast the twin films: frames a second of the default channel, and single-cell crops a second, on one core.

python tools/bench_twin.py --frames 1000
"""

from __future__ import annotations

import argparse
import json
import time

import cv2
import numpy as np

from hspc_live.settings.twin import TwinFlowSettings
from hspc_live.twin.flow import FlowTwin
from hspc_live.twin.samples import sample_crops


def main() -> None:
    """Film, time every frame, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--events-per-s", type=float, default=TwinFlowSettings().events_per_s)
    parser.add_argument("--bits", type=int, default=8)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    settings = TwinFlowSettings(events_per_s=options.events_per_s, bits=options.bits)
    twin = FlowTwin(settings)
    took_ms = []
    for index in range(options.frames):
        begun = time.process_time()
        twin.render(index)
        took_ms.append((time.process_time() - begun) * 1e3)
    begun = time.process_time()
    sample_crops(settings, options.frames, seed=1)
    crops_s = time.process_time() - begun
    figures = {
        "frame": [settings.height_px, settings.width_px],
        "events_per_s": options.events_per_s,
        "frames_per_cpu_s": round(1e3 * options.frames / sum(took_ms)),
        "ms_per_frame": {f"p{q}": round(float(np.percentile(took_ms, q)), 2) for q in (50, 99, 100)},
        "crops_per_cpu_s": round(options.frames / crops_s),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
