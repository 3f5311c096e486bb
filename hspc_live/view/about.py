"""What is known of a run from its start: settings, camera, classes, engine. No Qt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from hspc_live.core.values import CameraInfo
from hspc_live.processes.facts import camera_info
from hspc_live.processes.plan import RunPlan
from hspc_live.settings.devices import SimulatedCamera, SimulatedSorter
from hspc_live.settings.schema import RunSettings


@dataclass(frozen=True, slots=True)
class About:
    """One run under way. `show` is where it publishes, `control` where it takes wishes."""

    run: str
    control: str
    show: str
    live: bool
    settings: RunSettings
    camera: CameraInfo
    classes: tuple[str, ...]
    engine: str
    on_cpu: bool
    recording: Path | None

    @property
    def simulated(self) -> bool:
        """Whether the cells, or the sorter, are not real."""
        return isinstance(self.settings.camera, SimulatedCamera) or (
            self.live and isinstance(self.settings.sorter, SimulatedSorter)
        )

    @property
    def deadline_ms(self) -> float:
        """From the decision line until the sorter must have its command, at the expected velocity, shortest pulse."""
        sort = self.settings.sort
        timing = sort.timing
        way_um = timing.junction_um - sort.close.decision_line_um
        return way_um / sort.track.velocity_um_s * 1e3 - timing.device_lead_ms - timing.min_pulse_ms / 2

    @property
    def title(self) -> str:
        """The run in a few words."""
        kind = "live" if self.live else "replay"
        return f"{self.settings.name} ({kind}) {self.run}"


def about(detail: str, control: str) -> About:
    """From the detail of the answer to `AskRun`. Raises KeyError, ValueError for what is none."""
    told = json.loads(detail)
    plan = RunPlan.from_json(json.dumps(told["plan"]))
    sort = told["facts"]["sort"]
    settings = plan.settings
    return About(
        run=plan.run_id,
        control=control,
        show=sort["show"],
        live=plan.live,
        settings=settings,
        camera=camera_info(told["facts"]["acquire"]),
        classes=tuple(sort["classes"]),
        engine=sort["engine"],
        on_cpu="/cpu" in sort["engine"],  # "torch-eager/cpu", "openvino/cpu@…"
        recording=Path(plan.recording) if plan.recording is not None else None,
    )
