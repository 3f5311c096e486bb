"""How fast the twin's chamber is filmed: CPU milliseconds a field, in transmitted light and in fluorescence, one core.

python tools/bench_chamber.py --fields 100 --size 1024

Every field is a new place, so no picture of a cell is found in the cache.
"""

from __future__ import annotations

import argparse
import json
import time

import cv2
import numpy as np

from hspc_live.settings.chamber_twin import TwinChamberSettings
from hspc_live.twin.chamber import ChamberTwin


def main() -> None:
    """Settle the cells, film fields side by side, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", type=int, default=100)
    parser.add_argument("--size", type=int, default=1024, help="height and width of a field in pixels")
    parser.add_argument("--bits", type=int, default=12)
    parser.add_argument("--density", type=float, default=TwinChamberSettings().density_per_mm2, help="objects a mm²")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    step_um = options.size * 0.25
    columns = int(np.ceil(np.sqrt(options.fields)))
    settings = TwinChamberSettings(
        height_px=options.size,
        width_px=options.size,
        bits=options.bits,
        density_per_mm2=options.density,
        width_mm=columns * step_um / 1000,
        height_mm=columns * step_um / 1000,
    )
    begun = time.process_time()
    twin = ChamberTwin(settings)
    settled_s = time.process_time() - begun
    took_ms: dict[str, list[float]] = {channel: [] for channel in twin.channels}
    objects = []
    for number in range(options.fields):
        x_um, y_um = ((place + 0.5 - columns / 2) * step_um for place in divmod(number, columns))
        seen = twin.visible(x_um, y_um, 60.0)
        objects.append(int((~twin.settled.rows["speck"][seen["object"]]).sum()))
        for channel in twin.channels:
            begun = time.process_time()
            twin.render(x_um, y_um, 60.0, channel=channel, number=number)
            took_ms[channel].append((time.process_time() - begun) * 1e3)
    figures = {
        "field": [options.size, options.size],
        "bits": options.bits,
        "objects_per_field": float(np.median(objects)),
        "settled": len(twin.settled.rows),
        "settling_cpu_s": round(settled_s, 2),
        "ms_per_field": {
            channel: {f"p{q}": round(float(np.percentile(took, q)), 1) for q in (50, 99, 100)}
            for channel, took in took_ms.items()
        },
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
