"""What every process of a run is told at its start: who it is, where the others are, what the settings say.

A plan is plain data, so it survives `spawn`. Settings travel as the JSON they were checked as.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hspc_live.core.clock import NS_PER_S
from hspc_live.settings.faults import FaultPlan
from hspc_live.settings.schema import RunSettings
from hspc_live.wire.links import endpoint

RECEIPT_GRACE_NS = NS_PER_S
"""How long after its last pulse a sorter's receipts are waited for, before they count as missing."""


@dataclass(frozen=True, slots=True)
class GateEdit:
    """A set of gates that a person put in force during a recorded run; `outlets` is JSON text, as in the settings."""

    first_frame: int
    by: str
    outlets: str


@dataclass(frozen=True, slots=True)
class RunPlan:
    """One run's plan. `live` drops (and counts) what it cannot hold; otherwise everything waits and nothing is lost.

    `control` is where the supervisor listens; the other links' addresses are told once they are bound. `speed` paces a
    replay (None: as fast as it goes). `recording` is the file to write, `truth_path` and `pulse_log` are where the
    simulated devices leave what really happened, for the scorer and for nobody else. `gate_edits` are those that a
    replay repeats; `faults_json` is a fault plan, if there is one.
    """

    run_id: str
    folder: str
    ring_folder: str
    control: str
    settings_json: str
    live: bool
    speed: float | None = None
    recording: str | None = None
    truth_path: str | None = None
    pulse_log: str | None = None
    gate_edits: tuple[GateEdit, ...] = ()
    faults_json: str | None = None

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The plan as `json.dumps(asdict(plan))` wrote it."""
        plan = json.loads(text)
        return cls(**{**plan, "gate_edits": tuple(GateEdit(**edit) for edit in plan["gate_edits"])})

    @property
    def settings(self) -> RunSettings:
        """The settings, parsed."""
        return RunSettings.model_validate_json(self.settings_json)

    @property
    def faults(self) -> FaultPlan | None:
        """The fault plan, parsed; None without one."""
        return None if self.faults_json is None else FaultPlan.model_validate_json(self.faults_json)

    def bind(self, name: str) -> str:
        """The address at which to bind the link called `name`."""
        return endpoint(Path(self.folder), name)
