"""Is the purity predicted before a run kept? Twenty runs of the twin in virtual time, each with another seed.

    python tools/purity_coverage.py [--seeds 20] [--seconds 20] [--mode purity|recovery|single] [--first-seed 1001]

For each seed: the prediction made from the card's confusion table, the declared population and the mode, and what was
measured against truth. Prints a line a seed and, last, one JSON object. Exit 0 if the 95 % interval held the measured
purity in at least nine of ten runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from statistics import mean
from typing import Any

from hspc_drivers.virtual_sorter import VirtualSorter
from hspc_live.cli.score import predicted
from hspc_live.processes.virtual_twin import run_twin
from hspc_live.settings.devices import SimulatedSorter
from hspc_live.settings.load import load
from hspc_live.settings.shipped import shipped_config
from hspc_live.wiring import crop_geometry, model_card, resolve_gates
from hspc_models.open_engine import open_engine


def main() -> int:
    """Run the seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--mode", choices=("purity", "recovery", "single"), default="purity")
    parser.add_argument("--first-seed", type=int, default=1001)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args()
    overrides = [f"sort.outlets.0.mode={arguments.mode}", *arguments.overrides]
    settings = resolve_gates(load(shipped_config("rigs/twin_flow"), overrides))
    card = model_card(settings)
    assert isinstance(settings.sorter, SimulatedSorter)
    engine = open_engine(settings.engine)
    before = predicted(settings, card, arguments.seconds)
    if before is None or before.interval is None or before.purity is None:
        raise SystemExit("nothing can be predicted: the card has no cell confusion, or no population is declared")
    low, high = before.interval
    runs: list[dict[str, Any]] = []
    started = time.monotonic()
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        run = run_twin(
            settings, engine, crop_geometry(card), partial(VirtualSorter, settings.sorter), arguments.seconds, seed
        )
        purity = run.sort["purity"]
        held = purity is None or low <= purity <= high
        runs.append({"seed": seed, "held": held, "balanced": not run.result.violations, **run.sort, "cells": run.cells})
        print(
            f"seed {seed}: purity {'none' if purity is None else f'{purity:.3f}'} ({run.sort['collected']} collected), "
            f"predicted {before.purity:.3f} [{low:.3f}, {high:.3f}] {'held' if held else 'MISSED'}; "
            f"recovery {run.sort['recovery']}; consistency {run.cells['consistency_rate']}",
            flush=True,
        )
    measured = [run["purity"] for run in runs if run["purity"] is not None]
    held = sum(run["held"] for run in runs)
    rates = [run["cells"]["consistency_rate"] for run in runs if run["cells"]["consistency_rate"] is not None]
    result = {
        "mode": arguments.mode,
        "seeds": arguments.seeds,
        "seconds": arguments.seconds,
        "held": held,
        "predicted_purity": before.purity,
        "predicted_interval": before.interval,
        "mean_measured_purity": mean(measured) if measured else None,
        "without_a_collected_cell": arguments.seeds - len(measured),
        "mean_consistency_rate": mean(rates) if rates else None,
        "balanced": all(run["balanced"] for run in runs),
        "wall_s": time.monotonic() - started,
    }
    print(json.dumps(result))
    return int(held < 0.9 * arguments.seeds or not result["balanced"])


if __name__ == "__main__":
    sys.exit(main())
