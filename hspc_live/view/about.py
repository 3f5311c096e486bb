"""What is known of a run from its start: settings, camera, classes, engine. Of a flow, or of a chamber. No Qt."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.values import CameraInfo
from hspc_live.processes.facts import camera_info
from hspc_live.processes.plan import RunPlan
from hspc_live.settings.devices import SimulatedCamera, SimulatedSorter
from hspc_live.settings.schema import RunSettings
from hspc_live.wire.chamber_telemetry import ChamberHead


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


@dataclass(frozen=True, slots=True)
class ChamberAbout:
    """A chamber run; `control` is where it takes wishes, empty for a recording of one."""

    head: ChamberHead
    control: str = ""

    @property
    def run(self) -> str:
        """The run's id."""
        return self.head.run

    @property
    def show(self) -> str:
        """Where it publishes."""
        return self.head.show

    @property
    def on_cpu(self) -> bool:
        """Whether the model runs on the processor."""
        return "/cpu" in self.head.engine

    @property
    def title(self) -> str:
        """The run in a few words."""
        return f"{self.head.name} ({'chamber' if self.head.live else 'recorded chamber'}) {self.run}"

    def corners_um(self, x_um: float, y_um: float) -> NDArray[np.float64]:
        """The outline of a field with the stage at (x_um, y_um), (4, 2) µm: the outer borders of its corner pixels."""
        affine = np.array(self.head.affine)
        right, bottom = self.head.width_px - 0.5, self.head.height_px - 0.5
        corners = np.array([(-0.5, -0.5), (right, -0.5), (right, bottom), (-0.5, bottom)])
        return np.asarray(corners @ affine[:, :2].T + affine[:, 2] + (x_um, y_um))


def about(detail: str, control: str) -> About | ChamberAbout:
    """From the detail of the answer to `AskRun`. Raises KeyError, ValueError for what is none."""
    told = json.loads(detail)
    if told.get("mode") == "chamber":
        return ChamberAbout(msgspec.convert(told["head"], ChamberHead), control)  # its errors are ValueErrors
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
