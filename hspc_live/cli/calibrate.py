"""calibrate-delay: how long a cell takes from the decision line to the sort junction."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hspc_drivers.virtual_sorter import VirtualSorter
from hspc_live.cli.execute import new_file
from hspc_live.cli.options import Json, Set
from hspc_live.cli.output import emit, progress, screen
from hspc_live.core.errors import SettingsError
from hspc_live.settings.devices import SimulatedCamera, SimulatedSorter
from hspc_live.settings.load import load
from hspc_live.settings.schema import NullEngine
from hspc_models.open_engine import open_engine

if TYPE_CHECKING:  # it needs SciPy, which every command would wait for
    from hspc_live.processes.calibrate import DelayCalibration


def calibrate_delay(
    config: Annotated[Path, typer.Argument(help="Settings file of the rig, e.g. configs/rigs/twin_flow.yaml.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="New YAML file for the result, to be given to `run --delay`.")
    ] = Path("sort_delay.yaml"),
    beads: Annotated[int, typer.Option(min=5, metavar="N", help="Simulated beads at each of the delays tried.")] = 25,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Number that the beads are drawn from: another one, other beads.")
    ] = 1,
    counts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Beads counted on a real rig instead: CSV with the columns delay_ms,deflected,total."
        ),
    ] = None,
    pulse: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="MS", help="With --counts: how long the pulses were. Default: as in the twin."),
    ] = None,
    velocity: Annotated[
        float | None,
        typer.Option(
            min=1, metavar="UM_S", help="With --counts: how fast the beads were. Default: sort.track.velocity_um_s."
        ),
    ] = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Measure with beads, simulated or counted by you, how long a cell takes to the sort junction; write it down."""
    from hspc_live.processes.calibrate import PULSE_MS, calibrate, calibrate_counts, read_counts

    settings = load(config, set_ or [])
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if counts is not None:
        new_file(out)
        flows = settings.sort.track.velocity_um_s if velocity is None else velocity
        _report(calibrate_counts(read_counts(counts), PULSE_MS if pulse is None else pulse, flows, now), out, as_json)
        return
    if not isinstance(settings.camera, SimulatedCamera) or not isinstance(settings.sorter, SimulatedSorter):
        raise SettingsError(
            f"{config}: calibrate-delay films beads on a simulated rig; on a real one count them, and say --counts"
        )
    new_file(out)
    progress.print("filming beads in virtual time; this takes a minute or more …")
    engine = open_engine(NullEngine(kind="null"))
    found = calibrate(settings, engine, partial(VirtualSorter, settings.sorter), now, beads_per_delay=beads, seed=seed)
    _report(found, out, as_json)


def _report(found: DelayCalibration, out: Path, as_json: bool) -> None:
    from hspc_live.processes.calibrate import write_calibration

    write_calibration(out, found)
    if as_json:
        emit({**asdict(found), "out": str(out)})
        return
    screen.print(f"sort delay {found.delay_ms:.2f} ± {found.sd_ms:.2f} ms at {found.flow}")
    screen.print(f"{found.fit.plateau:.0%} of the beads deflected at best; goodness of fit p = {found.fit.p_value:.2g}")
    screen.print(f"written to {out}; give it to `hspc-live run` with --delay {out}", markup=False)
