"""Is a promise of purity kept by the live path? Runs of the twin in virtual time with the real network, new seeds.

    python tools/promise_live.py [--purity 0.9] [--confidence 0.95] [--seeds 10] [--seconds 20] [--first-seed 9001]

The gate of the shipped rig's outlet becomes a promise, resolved as a run resolves it. Counted against truth, over all
seeds: what the gate wanted (of this the purity is promised), and what the sorter collected (with everything that
nobody saw). Prints a line a seed and, last, one JSON object. Exit 0 unless the wanted cells are less pure than
promised, more surely than by chance (one-sided binomial test at 5 %).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from functools import partial

from scipy import stats

from hspc_drivers.virtual_sorter import VirtualSorter
from hspc_live.core.values import CellOutcome
from hspc_live.processes.virtual_twin import TwinRun, run_twin
from hspc_live.settings.devices import SimulatedSorter
from hspc_live.settings.load import load
from hspc_live.settings.shipped import shipped_config
from hspc_live.settings.sort import PromiseGate
from hspc_live.stages.gate_words import promises, stated
from hspc_live.twin.score import match_records, wilson
from hspc_live.wiring import crop_geometry, model_card, resolve_gates
from hspc_models.open_engine import open_engine


def main() -> int:
    """Run the seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--purity", type=float, default=0.9)
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--class", default="LT-HSC", dest="class_name")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--first-seed", type=int, default=9001)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    given = parser.parse_args()
    asked = f"{{kind: promise, class_name: {given.class_name}, purity: {given.purity}, confidence: {given.confidence}}}"
    settings = load(shipped_config("rigs/twin_flow"), [f"sort.outlets.0.gate={asked}", *given.overrides])
    settings = resolve_gates(settings)
    for sentence in stated(settings.sort.outlets, settings.sort.abstain):
        print(sentence)
    gate, card = settings.sort.outlets[0].gate, model_card(settings)
    assert isinstance(gate, PromiseGate) and isinstance(settings.sorter, SimulatedSorter)
    engine = open_engine(settings.engine)
    wanted: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    doubts: Counter[str] = Counter()
    collected = right = 0
    balanced = True
    began = time.process_time()
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        run = run_twin(
            settings, engine, crop_geometry(card), partial(VirtualSorter, settings.sorter), given.seconds, seed
        )
        mine, all_cells, unsure = _kinds(run)
        wanted, passed, doubts = wanted + mine, passed + all_cells, doubts + unsure
        collected, right = collected + run.sort["collected"], right + run.sort["wanted"]
        balanced &= not run.result.violations
        print(f"seed {seed}: wanted {dict(mine)}, collected {run.sort['collected_by_kind']}", flush=True)
    n, hits = wanted.total(), wanted[given.class_name]
    broken = n > 0 and stats.binomtest(hits, n, given.purity, alternative="less").pvalue < 0.05
    result = {
        "promise": promises(settings.sort.outlets)[0],
        "wanted": dict(wanted),
        "purity_of_wanted": hits / n if n else None,
        "interval": wilson(hits, n),
        "yield": hits / passed[given.class_name] if passed[given.class_name] else None,
        "yield_interval": wilson(hits, passed[given.class_name]),
        "collected": collected,
        "purity_of_collected": right / collected if collected else None,
        "collected_interval": wilson(right, collected),
        "judged": dict(passed),
        "abstained": dict(doubts),
        "balanced": balanced,
        "cpu_s": time.process_time() - began,
    }
    print(json.dumps(result))
    return int(broken or not balanced or n == 0)


def _kinds(run: TwinRun) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """True kinds of the cells that the gate wanted and of all that were judged; reasons of abstention, by kind."""
    wanted: Counter[str] = Counter()
    judged: Counter[str] = Counter()
    doubts: Counter[str] = Counter()
    for record, row in zip(run.result.records, match_records(run.result.records, run.truth), strict=True):
        if record.classification is None:
            continue
        kind = "unmatched" if row is None else run.truth.kinds[int(run.truth.objects["kind"][row])]
        judged[kind] += 1
        if record.outlet is not None:
            wanted[kind] += 1
        if record.outcome is CellOutcome.ABSTAINED:
            doubts[f"{record.reason}: {kind}"] += 1
    return wanted, judged, doubts


if __name__ == "__main__":
    sys.exit(main())
