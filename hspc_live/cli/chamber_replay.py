"""Replay of a chamber recording: the fields as they were recorded, through the code that ran live."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hspc_live.cli.chamber import finish, recorders, say, say_gates, with_engine
from hspc_live.cli.chamber_progress import FieldProgress
from hspc_live.cli.execute import make_out
from hspc_live.core.chamber import Phase
from hspc_live.core.errors import SettingsError
from hspc_live.core.identity import run_id
from hspc_live.processes.chamber import ChamberRun
from hspc_live.recording.chamber_reader import open_chamber
from hspc_live.settings.chamber_run import ChamberRunSettings
from hspc_live.settings.load import AnyRun, load_run, load_run_text
from hspc_live.wiring_chamber import (
    build_chamber_replay,
    chamber_card,
    chamber_pipeline_id,
    chamber_remarks,
    resolve_chamber_gates,
)

DIFFERENT = "version, model or settings, as they are read now, are not those of the run"
ELSEWHERE = "settings, model and version are the same: program or machine are others"


def replay_chamber(
    recording: Path,
    config: Path | None,
    overrides: Sequence[str],
    *,
    flow_options: Sequence[str],
    out: Path | None,
    as_json: bool,
) -> None:
    """Replay `recording` with its own settings, or those of `config`; ends with the run's error, if it has one.

    Second visits are replayed where there were some. `flow_options` are options that were given and mean nothing here:
    refused.
    """
    if flow_options:
        raise SettingsError(
            f"{recording} is the recording of a chamber: {', '.join(flow_options)} is for a flow; leave it out"
        )
    with open_chamber(recording) as opened:
        own = opened.settings_json
        first_hash = (opened.summary or {}).get("decisions_sha256")
        first_id = opened.attributes["pipeline_id"]
        revisit = bool(opened.numbers(Phase.REVISIT))
        um_per_px = opened.facts.camera.um_per_px
    settings = resolve_chamber_gates(_settings(recording, own, config, overrides), recorded=config is None)
    settings = with_engine(settings)
    if out is not None:
        make_out(out)
    run, card = run_id(), chamber_card(settings)
    own_id = chamber_pipeline_id(settings, card)
    parts, source = build_chamber_replay(settings, recording, recorders(settings, out, run))
    remarks = chamber_remarks(settings, card, um_per_px)
    say(remarks)
    say_gates(settings)
    with FieldProgress() as listen:
        report = asyncio.run(ChamberRun(parts, settings, revisit=revisit, listen=listen).run())
    told_otherwise = config is not None or bool(overrides)
    same = None if first_hash is None else first_hash == report.summary["decisions_sha256"]
    if same is False and not told_otherwise and source.loss is None and not report.interrupted:
        source.warnings.append(
            f"other decisions than in the recorded run ({DIFFERENT if first_id != own_id else ELSEWHERE})"
        )
    say(source.warnings)
    summary: dict[str, Any] = {
        "run": run,
        "name": settings.name,
        "pipeline_id": own_id,
        "recording_replayed": str(recording),
        **report.summary,
        "same_decisions": same,
        "loss": None if source.loss is None else f"{recording}: {source.loss}",
        "warnings": [*remarks, *source.warnings],
    }
    finish(report, summary, f"Replay of {recording.name}", None, out, as_json)


def _settings(recording: Path, own: str | None, config: Path | None, overrides: Sequence[str]) -> ChamberRunSettings:
    """What to replay with; nothing is recorded but into --out. Raises SettingsError where it is no chamber run's."""
    if config is not None:
        found: AnyRun = load_run(config, overrides)
    elif own is not None:
        found = load_run_text(own, f"the settings in {recording}", overrides)
    else:
        raise SettingsError(f"the settings in {recording} cannot be read: give some with --config")
    if not isinstance(found, ChamberRunSettings):
        raise SettingsError(f"{config or recording}: these are the settings of a flow; {recording} shows a chamber")
    return found.model_copy(update={"record": found.record.model_copy(update={"path": None, "frames": True})})
