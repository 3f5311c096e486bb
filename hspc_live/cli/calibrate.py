"""calibrate-delay: how long a cell takes from the decision line to the sort junction."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from hspc_drivers.virtual_sorter import VirtualSorter
from hspc_live.cli.execute import new_file
from hspc_live.cli.options import Json, Set
from hspc_live.cli.output import emit, progress, screen
from hspc_live.core.errors import SettingsError
from hspc_live.processes.calibrate import calibrate, write_calibration
from hspc_live.settings.devices import SimulatedCamera, SimulatedSorter
from hspc_live.settings.load import load
from hspc_live.settings.schema import NullEngine
from hspc_models.open_engine import open_engine


def calibrate_delay(
    config: Annotated[Path, typer.Argument(help="Settings file of the rig, e.g. configs/rigs/twin_flow.yaml.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="New YAML file for the result, to be given to `run --delay`.")
    ] = Path("sort_delay.yaml"),
    beads: Annotated[int, typer.Option(min=5, metavar="N", help="Simulated beads at each of the delays tried.")] = 25,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Number that the beads are drawn from: another one, other beads.")
    ] = 1,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Measure on simulated beads how long a cell takes to the sort junction, and write it down with date and flow."""
    settings = load(config, set_ or [])
    if not isinstance(settings.camera, SimulatedCamera) or not isinstance(settings.sorter, SimulatedSorter):
        raise SettingsError(f"{config}: calibrate-delay films beads on the twin: camera and sorter must be simulated")
    new_file(out)
    progress.print("filming beads in virtual time; this takes a minute or more …")
    engine = open_engine(NullEngine(kind="null"))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    found = calibrate(settings, engine, partial(VirtualSorter, settings.sorter), now, beads_per_delay=beads, seed=seed)
    write_calibration(out, found)
    if as_json:
        emit({**asdict(found), "out": str(out)})
        return
    screen.print(f"sort delay {found.delay_ms:.2f} ± {found.sd_ms:.2f} ms at {found.flow}")
    screen.print(f"{found.fit.plateau:.0%} of the beads deflected at best; goodness of fit p = {found.fit.p_value:.2g}")
    screen.print(f"written to {out}; give it to `hspc-live run` with --delay {out}", markup=False)
