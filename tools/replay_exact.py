"""Is replay exact? The same recording at full and at recorded speed, with one worker and with two, twice in a row.

    python tools/replay_exact.py RECORDING... [--set KEY=VALUE ...]

Runs `hspc-live replay --json` five times a recording and compares `decisions_sha256`. Exit 0 if all agree.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

RUNS = (("max", 1), ("max", 1), ("max", 2), ("1", 1), ("1", 2))


def replay(recording: str, speed: str, workers: int, overrides: list[str]) -> dict[str, Any]:
    """One replay's JSON."""
    command = [sys.executable, "-m", "hspc_live", "replay", recording, "--json", "--speed", speed]
    command += ["--workers", str(workers), *(part for o in overrides for part in ("--set", o))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> int:
    """Print a line a run; 0 if every recording gave one hash."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="+")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args()
    differing = 0
    for recording in arguments.recordings:
        hashes = set()
        for speed, workers in RUNS:
            result = replay(recording, speed, workers, arguments.overrides)
            hashes.add((result["decisions_sha256"], result["outcomes_sha256"]))
            cells, frames = result["cells"], result["frames"]
            print(
                f"{recording}  speed {speed:>3}  workers {workers}  {frames['processed']} frames  "
                f"{cells['tracked']} cells  balanced {result['ledger']['balanced']}  {result['decisions_sha256'][:16]}",
                flush=True,
            )
            differing += not result["ledger"]["balanced"]
        differing += len(hashes) != 1
        print(f"{recording}: {'the same decisions every time' if len(hashes) == 1 else 'DECISIONS DIFFER'}")
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
