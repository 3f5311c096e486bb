"""What our Micro-Manager driver costs, against popping from the bare core in the same run.

    python tools/bench_camera.py [--seconds 2] [--rounds 5] [--json]

Two measures at 512 × 512 and 2048 × 2048, 16 bit, DemoCamera with FastImage, each alternating between both readers:
`live`, frames fetched a second from a running camera at its shortest exposure, and `drained`, frames fetched a second
from a buffer that a finished sequence has filled, where nothing but the fetching counts. The driver reads the number
and the time of every frame, without which neither drops nor latencies could be told; the bare reader does not. The
cost of the pixel ring behind the driver is stated apart. Last, the share of a core that waiting takes at 10 ms
exposure: CPU time of the reading thread over wall time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hspc_drivers.micromanager_camera import MicroManagerCamera
from hspc_drivers.micromanager_core import CoreSession
from hspc_live.core.protocols import EndOfStream
from hspc_live.settings.devices import RigSettings
from hspc_live.settings.micromanager import MicroManagerCamera as Settings
from hspc_live.settings.micromanager import MicroManagerCore
from hspc_live.wire.ring import PixelRing

SIZES = (512, 2048)
BUFFER_MB = 1024
DRAINED = {512: 400, 2048: 60}
SHORTEST_MS = 0.01


def camera(size: int, exposure_ms: float, frames: int | None = None) -> tuple[MicroManagerCamera, Any]:
    """Our driver, open, and the very core that it uses."""
    settings = Settings(
        kind="micromanager",
        core=MicroManagerCore(buffer_mb=BUFFER_MB),
        exposure_ms=exposure_ms,
        um_per_px=1.0,
        frames=frames,
        frames_per_s=500.0,  # about what the camera gives; no trial needed, and no stall in a benchmark
        stall_periods=1e6,
        properties={"PixelType": "16bit", "FastImage": 1, "OnCameraCCDXSize": size, "OnCameraCCDYSize": size},
    )
    session = CoreSession(settings.core)
    one = MicroManagerCamera(settings, RigSettings(), session)
    one.open()
    return one, session.core


def bare_pop(core: Any) -> bool:
    """What anybody would write against the core: look, fetch. It knows neither number nor time of its frames."""
    if core.getRemainingImageCount() == 0:
        time.sleep(1e-4)  # a reader that spins would starve the camera's own thread where cores are few
        return False
    core.popNextImage()
    return True


def fetch(take: Callable[[], bool], seconds: float, most: int | None) -> tuple[float, float]:
    """Frames a second, and CPU µs of this thread a frame."""
    count, begun, used = 0, time.perf_counter(), time.thread_time()
    while time.perf_counter() - begun < seconds and (most is None or count < most):
        count += take()
    wall, cpu = time.perf_counter() - begun, time.thread_time() - used
    return count / wall, 1e6 * cpu / max(count, 1)


def live(size: int, seconds: float, rounds: int) -> dict[str, Any]:
    """Both readers on a running camera, in turns."""
    ours, core = camera(size, SHORTEST_MS)
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "bare": []}
    for _ in range(rounds):
        ours.start()
        found["ours"].append(fetch(lambda: ours.read(0.5) is not None, seconds, None))
        ours.stop()
        core.clearCircularBuffer()
        core.startContinuousSequenceAcquisition(0)
        found["bare"].append(fetch(lambda: bare_pop(core), seconds, None))
        core.stopSequenceAcquisition()
    ours.close()
    return summary(found)


def drained(size: int, rounds: int) -> dict[str, Any]:
    """Both readers on a full buffer, in turns."""
    frames = DRAINED[size]
    ours, core = camera(size, SHORTEST_MS, frames)
    found: dict[str, list[tuple[float, float]]] = {"ours": [], "bare": []}

    def read() -> bool:
        try:
            return ours.read(0.5) is not None
        except EndOfStream:
            return False

    for _ in range(rounds):
        for name, take in (("ours", read), ("bare", lambda: bare_pop(core))):
            ours.start()
            while core.isSequenceRunning():
                time.sleep(0.01)
            found[name].append(fetch(take, 60.0, frames))
            ours.stop()
    ours.close()
    return summary(found)


def summary(found: dict[str, list[tuple[float, float]]]) -> dict[str, Any]:
    """Medians over the rounds, and the ratio of frames a second and of CPU time a frame."""
    fps = {name: statistics.median(rate for rate, _ in rows) for name, rows in found.items()}
    cpu = {name: statistics.median(us for _, us in rows) for name, rows in found.items()}
    ratios = [a / b for (a, _), (b, _) in zip(found["ours"], found["bare"], strict=True)]
    return {
        "frames_per_s": {name: round(value, 1) for name, value in fps.items()},
        "cpu_us_per_frame": {name: round(value, 1) for name, value in cpu.items()},
        "ratio": round(statistics.median(ratios), 3),
        "ratio_of_cpu": round(cpu["bare"] / cpu["ours"], 3),
    }


def ring(size: int, rounds: int) -> float:
    """CPU µs that one write into the pixel ring takes."""
    ours, _ = camera(size, SHORTEST_MS, 8)
    ours.start()
    frame = ours.read(5.0)
    ours.close()
    assert frame is not None
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        slots = PixelRing.create(Path(folder), 8, frame.pixels.nbytes)
        used = time.thread_time()
        for number in range(8 * rounds):
            slots.write(number % 8, frame.pixels)
        took = (time.thread_time() - used) / (8 * rounds)
        slots.close()
    return round(1e6 * took, 1)


def waiting(seconds: float) -> float:
    """Share of a core that the reading thread takes at 10 ms exposure."""
    ours, _ = camera(512, 10.0)
    ours.start()
    ours.read(1.0)
    begun, used = time.perf_counter(), time.thread_time()
    while time.perf_counter() - begun < seconds:
        ours.read(0.1)
    share = (time.thread_time() - used) / (time.perf_counter() - begun)
    ours.close()
    return round(share, 4)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found: dict[str, Any] = {}
    for size in SIZES:
        found[str(size)] = {
            "live": live(size, asked.seconds, asked.rounds),
            "drained": drained(size, asked.rounds),
            "ring_cpu_us_per_frame": ring(size, 10),
        }
    found["waiting_share_of_a_core_at_10_ms"] = waiting(3 * asked.seconds)
    if asked.json:
        print(json.dumps(found, indent=2))
        return
    for size in SIZES:
        for name in ("live", "drained"):
            row = found[str(size)][name]
            fps, cpu = row["frames_per_s"], row["cpu_us_per_frame"]
            print(
                f"{size}² {name:8} ours {fps['ours']:8.1f}/s {cpu['ours']:8.1f} µs   bare {fps['bare']:8.1f}/s "
                f"{cpu['bare']:8.1f} µs   ratio {row['ratio']:.3f}, of CPU time {row['ratio_of_cpu']:.3f}"
            )
        print(f"{size}² ring     {found[str(size)]['ring_cpu_us_per_frame']:.1f} µs more a frame")
    print(f"waiting at 10 ms exposure takes {100 * found['waiting_share_of_a_core_at_10_ms']:.1f} % of a core")


if __name__ == "__main__":
    main()
