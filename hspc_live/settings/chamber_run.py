"""The settings of one chamber run, whole: a file that says `mode: chamber` (`settings.load.load_run` tells the modes).

Rig, segmentation, engine and gates mean what they mean in flow; camera and stage take the place of camera and sorter.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from hspc_live.settings.base import Section
from hspc_live.settings.chamber import ChamberSettings
from hspc_live.settings.chamber_twin import TwinChamberSettings
from hspc_live.settings.devices import RigSettings
from hspc_live.settings.focus import Focus, NoFocus
from hspc_live.settings.micromanager import MicroManagerSnapCamera, MicroManagerStage
from hspc_live.settings.schema import DeclaredShares, Engine, RecordSettings, TorchEager
from hspc_live.settings.segment import SegmentSettings
from hspc_live.settings.sort import AbstainSettings, Gate


class SimulatedRig(Section):
    """The digital twin's chamber: its camera, and the stage under it (`twin.stage`)."""

    kind: Literal["simulated"] = "simulated"
    twin: TwinChamberSettings = TwinChamberSettings()
    time: Literal["virtual", "host"] = Field(
        "virtual", description="virtual: moves and exposures take no time of ours, and a run repeats exactly"
    )

    @property
    def um_per_px(self) -> float:
        """The nominal scale."""
        return self.twin.um_per_px


class MountedStage(Section):
    """The stage that comes with the simulated rig."""

    kind: Literal["simulated"] = "simulated"
    arrive_timeout_s: float = Field(30.0, gt=0, description="a move that has not ended by then is a failure")


class TwinMicroManager(Section):
    """The digital twin's chamber, filmed and moved through a real Micro-Manager core: the drivers of a microscope."""

    kind: Literal["micromanager_twin"]
    twin: TwinChamberSettings = TwinChamberSettings()

    @property
    def um_per_px(self) -> float:
        """The nominal scale."""
        return self.twin.um_per_px


ChamberCamera = Annotated[SimulatedRig | MicroManagerSnapCamera | TwinMicroManager, Field(discriminator="kind")]
ChamberStage = Annotated[MountedStage | MicroManagerStage, Field(discriminator="kind")]


class MeasuredAffine(Section):
    """Camera against stage is measured before the scan, by moving the stage over cells and watching the picture."""

    kind: Literal["measure"] = "measure"
    step_um: float = Field(20.0, gt=0, description="first moves; those after them are as long as the picture allows")
    noise_um: float = Field(0.25, gt=0, description="error of one move and its shift, per axis")


class GivenAffine(Section):
    """Camera against stage as a calibration has found it: how the stage's place changes with the pixel, µm/px."""

    kind: Literal["given"]
    x_per_px: tuple[float, float] = Field(description="stage x per pixel to the right, and per pixel down")
    y_per_px: tuple[float, float] = Field(description="stage y per pixel to the right, and per pixel down")
    scale_sd: float = Field(0.001, ge=0, description="relative error of the scale")


Calibration = Annotated[MeasuredAffine | GivenAffine, Field(discriminator="kind")]


class PickOutlet(Section):
    """Where a gate's cells are picked to. Tried by `priority`, lowest first; the first whose gate passes wins."""

    name: str = Field(min_length=1)
    gate: Gate
    priority: int = 0


class PickGates(Section):
    """What is wanted. A cell is judged by its best look alone, so `abstain.min_views` above 1 is refused."""

    abstain: AbstainSettings = AbstainSettings()
    outlets: tuple[PickOutlet, ...] = ()


class ExposureSettings(Section):
    """What is exposed at each field, once the picture stands still."""

    transmitted_ms: float | None = Field(None, gt=0, description="None takes the camera's usual exposure")
    fluorescence: tuple[str, ...] = Field((), description="names of further channels, exposed in this order")


class SecondVisit(Section):
    """The second visit to the listed cells (`run --revisit`)."""

    after_s: float = Field(0.0, ge=0, le=86_400, description="wait so long between the list and the second visit")


class ChamberRunSettings(Section):
    """A whole chamber run."""

    mode: Literal["chamber"]
    name: str = "chamber"
    rig: RigSettings = RigSettings()
    camera: ChamberCamera = SimulatedRig()
    stage: ChamberStage = MountedStage()
    focus: Focus = NoFocus()
    calibration: Calibration = MeasuredAffine()
    exposure: ExposureSettings = ExposureSettings()
    segment: SegmentSettings = SegmentSettings()
    engine: Engine = TorchEager()
    sort: PickGates = PickGates()
    population: DeclaredShares = DeclaredShares()
    chamber: ChamberSettings = ChamberSettings()
    second_visit: SecondVisit = SecondVisit()
    record: RecordSettings = RecordSettings()

    @model_validator(mode="before")
    @classmethod
    def _kinds(cls, data: Any) -> Any:
        """A section that does not say its kind is of the default kind, as one that is left out altogether."""
        if not isinstance(data, dict):
            return data
        kinds = {
            "camera": "simulated",
            "stage": "simulated",
            "focus": "none",
            "engine": "torch",
            "calibration": "measure",
        }
        return {
            key: {"kind": kinds[key], **value} if key in kinds and isinstance(value, dict) else value
            for key, value in data.items()
        }
