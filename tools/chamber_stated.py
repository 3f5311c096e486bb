"""Whether the ± that a picking list states holds, for somebody who picks by the list without looking again.

python tools/chamber_stated.py --runs 150

The stage of a settings file, with all its faults and nothing drawn, is sent through a scan and then to a list of places
one after the other, as a picker without a camera would do; cells creep meanwhile. A pick is within its ± if it is off
by no more than 2.45 standard deviations, which hold 95 % of a round normal error. `tools/chamber_refind.py` says the
same of whole runs with pictures, by `stated` here.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.chamber import Phase
from hspc_live.core.clock import NS_PER_MS, NS_PER_S
from hspc_live.processes.chamber_values import ChamberReport
from hspc_live.settings.chamber_run import ChamberRunSettings
from hspc_live.settings.load import load_run
from hspc_live.settings.shipped import shipped_config
from hspc_live.stages.looks import NS_PER_MIN
from hspc_live.stages.picking import WITHIN_95, place_later
from hspc_live.twin.chamber_truth import ChamberTruth
from hspc_live.twin.stage import StageModel

MATCH_UM = 4.0
LIST_SD_UM = 0.25  # of a place at the end of the scan; `chamber_refind.py` measures it


def main() -> None:
    """Print a table: how far picks are off, and how many are within what was stated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=shipped_config("rigs/twin_chamber"))
    parser.add_argument("--runs", type=int, default=150)
    parser.add_argument("--dwell", type=float, default=5.0, help="seconds that a pick takes")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE, as for `hspc-live run`")
    options = parser.parse_args()
    settings = load_run(options.config, options.set)
    assert isinstance(settings, ChamberRunSettings)
    print("| approach | picks | waited | all: off by, median / 95 % | within ± | before expiry | within ± | of those |")
    print("|---|---|---|---|---|---|---|---|")
    for approach in ("same_side", "any"):
        for picks, wait_s in ((20, 0.0), (70, 0.0), (200, 0.0), (70, 300.0)):
            off, sd, late = pick_blindly(settings, approach, picks, options.dwell, wait_s, options.runs)
            inside, fresh = off <= WITHIN_95 * sd, ~late
            tolerance = settings.chamber.picking.tolerance_um
            least = (off[fresh] <= tolerance).mean()
            share = f"{fresh.mean():.2f} | {inside[fresh].mean():.3f} | {least:.3f} within {tolerance:g} µm"
            print(
                f"| {approach} | {picks} | {wait_s:.0f} s | {np.median(off):.2f} / {np.quantile(off, 0.95):.2f} µm "
                f"| {inside.mean():.3f} | {share} |",
                flush=True,
            )


def pick_blindly(
    settings: ChamberRunSettings, approach: str, picks: int, dwell_s: float, wait_s: float, runs: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """How far each pick is off, its ± per axis by then, and whether it had expired: arrays of (runs · picks,)."""
    position, twin = settings.chamber.position, settings.camera.twin
    fresh = float(np.hypot(LIST_SD_UM, position.repeatability_um))
    most = settings.chamber.picking.tolerance_um / position.k_sigma
    offs, sds, late = [], [], []
    for seed in range(runs):
        rng = np.random.default_rng([seed, 7])
        table = _Table(StageModel(twin.stage, 1000 + seed, 0), settings.chamber.tiling.overshoot_um)
        for number in range(100):
            table.go(number % 10 * 230.0 - 1000, number // 10 * 230.0 - 1000, "same_side")
        told, began_ns = table.error(), table.now_ns
        table.now_ns += round(wait_s * NS_PER_S)
        for x, y in sorted(
            rng.uniform(-1000, 1000, (picks, 2)).tolist(), key=lambda place: (place[1] // 200, place[0])
        ):
            table.go(x, y, approach)
            minutes = (table.now_ns - began_ns) / NS_PER_MIN
            own = rng.normal(0, np.sqrt(LIST_SD_UM**2 + twin.creep_um_per_sqrt_min**2 * minutes), 2)
            offs.append(float(np.hypot(*(table.error() - told + own))))
            sds.append(place_later(fresh, 60 * minutes, position))
            late.append(sds[-1] > most)
            table.now_ns += round(dwell_s * NS_PER_S)
    return np.array(offs), np.array(sds), np.array(late)


class _Table:
    """A stage that is sent from place to place."""

    def __init__(self, model: StageModel, overshoot_um: float) -> None:
        self._model, self._state, self._back = model, model.at_rest(), overshoot_um
        self.now_ns = 0

    def go(self, x_um: float, y_um: float, approach: str) -> None:
        for back in (self._back, 0.0) if approach == "same_side" else (0.0,):
            self._state = self._model.command(self._state, x_um - back, y_um - back, self.now_ns)
            self.now_ns = self._model.arrives_ns(self._state) + 250 * NS_PER_MS

    def error(self) -> NDArray[np.float64]:
        """True minus reported place."""
        now = self.now_ns
        return np.subtract(self._model.true(self._state, now), self._model.reported(self._state, now))


def stated(report: ChamberReport, truth: ChamberTruth, settings: ChamberRunSettings) -> dict[str, Any]:
    """Of a run with a second visit: errors of places (µm, median and 95 %), and the shares within what was stated.

    `listed`: places at the end of the scan, by the stage's reading then, ± `ChamberCell.sd_um`. `raw_first` and
    `raw_last`: what a pick by the list would miss by when the second visit begins and ends, ± as the list states it,
    grown since. `fresh`: the places of the second visit, ± `Revisited.sd_um`.
    """
    times = {visit.number: visit.captured_ns for visit in report.visits if visit.captured_ns is not None}
    scan = [times[v.number] for v in report.visits if v.phase is Phase.SCAN and v.number in times]
    again = [times[v.number] for v in report.visits if v.phase is Phase.REVISIT and v.number in times]
    if not report.listed.picks or not again:
        return {}
    end_ns, position = max(scan), settings.chamber.position
    cells = {cell.cell: cell for cell in report.cells}
    body = {
        pick.cell: _body(truth, cells[pick.cell].seen_ns, (pick.x_um, pick.y_um), end_ns)
        for pick in report.listed.picks
    }
    known = [pick for pick in report.listed.picks if body[pick.cell] >= 0]
    rows = np.array([body[pick.cell] for pick in known], np.int64)
    places = np.array([(pick.x_um, pick.y_um) for pick in known]).reshape(-1, 2)
    seen = np.array([truth.places_um(cells[pick.cell].seen_ns)[body[pick.cell]] for pick in known]).reshape(-1, 2)
    lost = len(report.listed.picks) - len(known)
    told = {
        "listed": _within(
            places + truth.stage_error_um(end_ns) - seen, [cells[pick.cell].sd_um for pick in known], lost
        )
    }
    for name, at_ns in (("raw_first", min(again)), ("raw_last", max(again))):
        after_s = (at_ns - end_ns) / NS_PER_S
        sds = [place_later(pick.pick_sd_um, after_s, position) for pick in known]
        told[name] = _within(places + truth.stage_error_um(at_ns) - truth.places_um(at_ns)[rows], sds, lost)
    found = [cell for cell in report.revisited if not cell.lost and body[cell.cell] >= 0]
    errors = [
        np.array((cell.x_um, cell.y_um))
        + truth.stage_error_um(times[cell.visit])
        - truth.places_um(times[cell.visit])[body[cell.cell]]
        for cell in found
    ]
    told["fresh"] = _within(np.array(errors).reshape(-1, 2), [cell.sd_um for cell in found])
    return told


def _body(truth: ChamberTruth, seen_ns: int, place: tuple[float, float], end_ns: int) -> int:
    """The row of the body that was listed there, -1 for none."""
    if not len(truth.bodies):
        return -1
    away = np.hypot(*(truth.places_um(seen_ns) - (place + truth.stage_error_um(end_ns))).T)
    nearest = int(away.argmin())
    return nearest if away[nearest] < MATCH_UM else -1


def _within(errors: NDArray[np.float64], sds: Sequence[float], lost: int = 0) -> list[float | None]:
    """[median, 95 %, median ±, share within 95 %] of errors (n, 2); `lost` more are too far off to be matched."""
    if not len(errors):
        return [None, None, None, None]
    off, sd = np.hypot(*errors.T), np.array(sds)
    numbers = np.median(off), np.quantile(off, 0.95), np.median(sd), np.sum(off <= WITHIN_95 * sd) / (len(off) + lost)
    return [round(float(number), 3) for number in numbers]


if __name__ == "__main__":
    main()
