"""check, schema, doctor, worker: about settings and machines, not about cells."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hspc_live.cli.join import join, join_far_away
from hspc_live.cli.options import Json, Set
from hspc_live.cli.output import emit, screen
from hspc_live.cli.rig_check import rig_findings, rig_rows
from hspc_live.cli.tables import facts
from hspc_live.core.errors import HspcError
from hspc_live.settings.base import Section
from hspc_live.settings.chamber_run import ChamberRunSettings
from hspc_live.settings.faults import FaultPlan
from hspc_live.settings.load import load_run
from hspc_live.settings.schema import Engine, NullEngine, RunSettings
from hspc_live.settings.shipped import shipped_configs
from hspc_live.stages.gate import check_gates
from hspc_live.stages.gate_words import promises, stated
from hspc_live.wire.links import private_folder
from hspc_live.wire.ring import pixel_folder
from hspc_live.wiring import arming_problems, check_keys, model_card, resolve_gates, this_pipeline_id, version
from hspc_live.wiring_chamber import (
    chamber_card,
    chamber_pipeline_id,
    chamber_remarks,
    check_chamber_gates,
    resolve_chamber_gates,
)
from hspc_models.card import Card, find_model, load_card

PACKAGES = ("numpy", "torch", "opencv-python-headless", "h5py", "hdf5plugin", "pyzmq", "msgspec", "pydantic", "dclab")


def check(
    config: Annotated[Path, typer.Argument(help="A settings file, of a flow or a chamber.")],
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Check a settings file without touching a device: keys, types, contradictions, the model and the gates."""
    settings = load_run(config, set_ or [])
    if isinstance(settings, ChamberRunSettings):
        mode: str = settings.mode
        card, settings = chamber_card(settings), resolve_chamber_gates(settings, anew=True)
        if (classes := _classes(settings.engine, card)) is not None:
            check_chamber_gates(settings, classes)
        identity, remarks, would = chamber_pipeline_id(settings, card), chamber_remarks(settings, card), "note"
    else:
        check_keys(settings)
        mode, card, settings = "flow", model_card(settings), resolve_gates(settings, anew=True)
        if (classes := _classes(settings.engine, card)) is not None:
            check_gates(settings.sort, classes)
        identity, remarks = this_pipeline_id(settings, card), list(arming_problems(settings, card, None))
        would = "would not arm"
    result: dict[str, Any] = {
        "config": str(config),
        "valid": True,
        "mode": mode,
        "pipeline_id": identity,
        "model": card.name if card is not None else None,
        "classes": list(card.classes) if card is not None else None,
        "remarks": remarks,
        "promises": promises(settings.sort.outlets),
    }
    if as_json:
        emit(result)
        return
    known = "" if card is None else f"; model {card.name}: {', '.join(card.classes)}"
    screen.print(f"{config}: valid, for a {mode}{known}", markup=False, soft_wrap=True)
    for sentence in stated(settings.sort.outlets, settings.sort.abstain, chamber=mode == "chamber"):
        screen.print(f"  {sentence}", markup=False, soft_wrap=True)
    for remark in remarks:
        screen.print(f"  {would}: {remark}", markup=False, soft_wrap=True)


def _classes(engine: Engine, card: Card | None) -> tuple[str, ...] | None:
    """The classes that gates may name: those of the model, or of the engine that has none."""
    if isinstance(engine, NullEngine):
        return engine.classes
    return card.classes if card is not None else None


def schema(
    mode: Annotated[
        Literal["flow", "chamber", "faults"],
        typer.Option(help="The kind of run that the settings are for, or faults for a fault plan (--faults)."),
    ] = "flow",
) -> None:
    """Print the JSON schema of the settings, for editors that complete and check YAML."""
    models: dict[str, type[Section]] = {"flow": RunSettings, "chamber": ChamberRunSettings, "faults": FaultPlan}
    emit(models[mode].model_json_schema())


def doctor(
    config: Annotated[
        Path | None,
        typer.Argument(help="Settings of a rig, whose devices are opened once, too; nothing moves, nothing fires."),
    ] = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Check this machine: processors, memory, versions, the clock, the model, Micro-Manager, a rig's devices."""
    settings = load_run(config, set_ or []) if config is not None else None
    findings = _findings()
    findings |= rig_findings(settings, findings["problems"])
    if as_json:
        emit(findings)
    else:
        screen.print(facts([*_rows(findings), *rig_rows(findings), _problems(findings)]))
    if findings["problems"]:
        raise HspcError("; ".join(findings["problems"]))


def _findings() -> dict[str, Any]:
    import torch  # not needed for any other command here, and slow to import

    problems: list[str] = []
    ring = _free_gib(pixel_folder, problems)
    links = _free_gib(private_folder, problems)
    try:
        card = load_card(find_model("twin-lsm"))
        model = f"{card.name} {card.version}, weights intact"
    except HspcError as error:
        model = "not usable"
        problems.append(str(error))
    clock = time.get_clock_info("perf_counter")
    if clock.resolution > 1e-6:
        problems.append(f"the clock ticks every {clock.resolution * 1e3:g} ms: latencies cannot be trusted")
    return {
        "version": version(),
        "python": sys.version.split()[0],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "cuda": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "packages": {name: _version_of(name) for name in PACKAGES},
        "clock": {"implementation": clock.implementation, "resolution_ns": clock.resolution * 1e9},
        "ring_folder_free_gib": ring,
        "link_folder_free_gib": links,
        "disk_free_gib": round(shutil.disk_usage(Path.cwd()).free / 2**30, 1),
        "model": model,
        "shipped_settings": shipped_configs(),
        "problems": problems,
    }


def _rows(findings: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The findings in words."""
    yield "HSPC Live", f"{findings['version']}, Python {findings['python']}"
    yield "system", f"{findings['system']}, {findings['cores']} cores"
    yield "graphics processor", findings["cuda"] or "none that CUDA can use: the model runs on the CPU"
    yield "shipped model", findings["model"]
    yield "clock", f"ticks every {findings['clock']['resolution_ns']:g} ns"
    for name, key in (("frames in memory", "ring_folder_free_gib"), ("sockets", "link_folder_free_gib")):
        free = findings[key]
        yield f"room for {name}", "no folder can be made" if free is None else f"{free:g} GiB"
    yield "room on this disk", f"{findings['disk_free_gib']:g} GiB"
    yield "packages", ", ".join(f"{name} {found or 'absent'}" for name, found in findings["packages"].items())
    yield "shipped settings", ", ".join(findings["shipped_settings"])


def _problems(findings: dict[str, Any]) -> tuple[str, str]:
    return "problems", "\n".join(findings["problems"]) or "none"


def _version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _free_gib(make: Any, problems: list[str]) -> float | None:
    """Make the kind of folder a run makes, and say how much room is there."""
    with tempfile.TemporaryDirectory() as private:
        try:
            folder: Path = make(Path(private)) if make is pixel_folder else make()
        except OSError as error:
            problems.append(f"no private folder can be made: {error}")
            return None
        free = round(shutil.disk_usage(folder).free / 2**30, 1)
        shutil.rmtree(folder, ignore_errors=True)
    return free


def worker(
    control: Annotated[
        str,
        typer.Argument(
            help="The run's control address, from its line `running: control at …` on stderr; or the tcp:// address of "
            "the door of a run on another computer.",
            metavar="ADDRESS",
        ),
    ],
    name: Annotated[str, typer.Option(metavar="NAME", help="What the run shall call it in its messages.")] = "extra",
    secret: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For a run on another computer: this one's secret key file.")
    ] = None,
    run_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="For a run on another computer: that one's public key file.")
    ] = None,
) -> None:
    """Lend a run under way, here or elsewhere, one more process that looks for cells; Ctrl-C takes it away again."""
    if control.startswith("tcp://"):
        join_far_away(control, name, secret, run_key)
    else:
        join(control, name)
