"""Settings of the sort core: tracking, closing, gates, timing, limits and the alarms that disarm."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from hspc_live.settings.base import Section


class TrackSettings(Section):
    """How views become tracks. Positions in the frame's µm; flow is along +x."""

    velocity_um_s: float = Field(4000.0, gt=0, description="prior velocity of the flow")
    velocity_sd_um_s: float = Field(800.0, gt=0, description="spread of that prior")
    position_sd_um: float = Field(0.3, gt=0, description="error of a measured position")
    lateral_sd_um: float = Field(1.0, gt=0, description="spread of y between two looks at one object")
    slack_um: float = Field(0.5, ge=0, description="what a prediction may be off beyond its own uncertainty")
    max_missed: int = Field(2, ge=0, description="frames a track may go unseen before it is closed")


class CloseSettings(Section):
    """When a cell has been looked at enough. Follows capture time, never what happens to have arrived."""

    views: int = Field(3, ge=1, description="accepted views after which a cell is closed")
    decision_line_um: float = Field(220.0, gt=0, description="x past which a cell is closed whatever it has")


class Correction(Section):
    """What corrected scores are made with, filled in when the settings are checked against the model.

    A score is multiplied by its class's factor (declared share by the share under which the model's scores hold), then
    all are divided by their sum. `basis` is a hash of all that the factors follow from.
    """

    factors: dict[str, float]
    basis: str


class ScoreGate(Section):
    """Passes a cell whose score for `class` is at least `min`, and whose best class it is if `top` is set.

    `score: corrected` judges the scores as they would be in the declared population (`population.prevalence`).
    """

    kind: Literal["score"] = "score"
    class_name: str
    min: float = Field(0.34, ge=0, le=1)
    top: bool = True
    score: Literal["model", "corrected"] = "model"
    correction: Correction | None = Field(None, description="filled in by the program; leave it out")


class ShareSeen(Section):
    """A share among `n` calibration cells, with its 95 % interval."""

    rate: float
    low: float
    high: float
    n: int


class MadePromise(Section):
    """The threshold that a promise came to and what it rests on, filled in when the settings are checked.

    `seen` is the share of the class among the calibration cells above the threshold, as they come; `kept` the share of
    the class that is above it: the yield. Of both only the purity that was asked for is promised. `tested` counts the
    cells that it rests on. `basis` is a hash of all that was asked, and of which model: ask otherwise, and it is made
    anew.
    """

    threshold: float = Field(ge=0, le=1)
    seen: ShareSeen
    kept: ShareSeen
    tested: int
    method: str
    data: str
    taken: Literal["flow", "crops"]
    calibration_sha256: str
    basis: str


class PromiseGate(Section):
    """Passes cells of best class `class` with such scores that, of what it passes, a share of `purity` is of the class.

    The threshold is found in the model's calibration cells (`hspc_models.promise`): with a chance of `confidence` over
    their draw the purity is kept, in the declared population. It must be an outlet's whole gate, and no outlet tried
    before may take part of its cells.
    """

    kind: Literal["promise"]
    class_name: str
    purity: float = Field(gt=0, lt=1)
    confidence: float = Field(0.95, gt=0, lt=1)
    made: MadePromise | None = Field(None, description="filled in by the program; leave it out")


class RangeGate(Section):
    """Passes a cell whose feature (a `Detection` name, or `score:<class>`) lies in [min, max]."""

    kind: Literal["range"]
    feature: str
    min: float | None = None
    max: float | None = None


class PolygonGate(Section):
    """Passes a cell whose two features lie inside a polygon (even-odd rule)."""

    kind: Literal["polygon"]
    x: str
    y: str
    vertices: tuple[tuple[float, float], ...] = Field(min_length=3)


class TopPercentGate(Section):
    """Passes a cell among the top `percent` by `feature` of the last `window` cells (none before it is full)."""

    kind: Literal["top_percent"]
    feature: str
    percent: float = Field(gt=0, le=100)
    window: int = Field(200, ge=10)


class AndGate(Section):
    """Passes what every member passes."""

    kind: Literal["and"]
    of: tuple[Gate, ...] = Field(min_length=1)


class OrGate(Section):
    """Passes what any member passes."""

    kind: Literal["or"]
    of: tuple[Gate, ...] = Field(min_length=1)


class NotGate(Section):
    """Passes what its member does not."""

    kind: Literal["not"]
    of: Gate


Gate = Annotated[
    ScoreGate | PromiseGate | RangeGate | PolygonGate | TopPercentGate | AndGate | OrGate | NotGate,
    Field(discriminator="kind"),
]
AndGate.model_rebuild()
OrGate.model_rebuild()
NotGate.model_rebuild()

SortMode = Literal["purity", "recovery", "single"]


class Outlet(Section):
    """Where a gate's cells go. Outlets are tried by `priority`, lowest first; the first whose gate passes wins."""

    name: str = Field(min_length=1)
    gate: Gate
    mode: SortMode = "purity"
    priority: int = 0
    limit: int | None = Field(None, ge=1, description="stop sorting into this outlet after so many cells")


class OutletsSection(Section):
    """A file of outlets by themselves: what a person puts in force during a run."""

    outlets: tuple[Outlet, ...]


class KnownStrangers(Section):
    """The model's limit of strangeness, filled in when the settings are checked against the model.

    None for a model that has none. At most `wrongly` of known cells are taken for strangers; None where the limit was
    calibrated on fewer looks than are combined, so that nothing is known of that share. `basis` is a hash of the
    model and of how many looks it combines.
    """

    measure: Literal["max_score"] = "max_score"
    limit: float | None
    wrongly: float | None
    basis: str


class AbstainSettings(Section):
    """When the classifier's word is not taken."""

    min_score: float = Field(0.34, ge=0, le=1, description="best combined score below which a cell is abstained on")
    min_views: int = Field(1, ge=1, description="scored views a verdict needs")
    strangers: Literal["auto", "abstain", "ignore"] = Field(
        "auto",
        description="cells that seem to be of no class of the model; auto: abstain if the model's card has a limit",
    )
    known: KnownStrangers | None = Field(None, description="filled in by the program; leave it out")


class TimingSettings(Section):
    """From the frame to the junction. `junction_um` is in the frame's x; calibration measures `sort_delay_ms`."""

    junction_um: float = Field(2600.0, gt=0)
    sort_delay_ms: float | None = Field(
        None, gt=0, description="calibrated: decision line to junction at `sort_delay_velocity_um_s`; None is geometry"
    )
    sort_delay_velocity_um_s: float | None = Field(None, gt=0)
    sort_delay_date: datetime | None = Field(None, description="ISO date-time of the calibration; stale = no arming")
    sort_delay_max_age_h: float = Field(24.0, gt=0)
    transit_sd_fraction: float = Field(0.004, ge=0, description="relative spread of the transit time beyond the fit")
    k_sigma: float = Field(3.0, gt=0, description="half the pulse, in standard deviations of the arrival")
    min_pulse_ms: float = Field(2.0, gt=0)
    max_pulse_ms: float = Field(40.0, gt=0, description="a cell whose arrival is less certain is aborted")
    commit_lead_ms: float = Field(120.0, gt=0, description="before arrival, in capture time: coincidence is judged")
    device_lead_ms: float = Field(20.0, gt=0, description="before the pulse: the sorter must have the command")
    max_clock_error_ms: float = Field(1.0, gt=0, description="of the sorter's clock: known less well, no arming")
    refractory_ms: float = Field(5.0, ge=0, description="between the end of a pulse and the next one's start")


class AlarmSettings(Section):
    """What breaks trust while sorting. Each alarm disarms; re-arming is a person's act."""

    velocity_drift: float = Field(0.15, gt=0, description="relative change of the median velocity against calibration")
    velocity_window: int = Field(30, ge=5, description="tracks the median is taken over")
    blur_fraction: float = Field(0.5, gt=0, le=1, description="share of blurred objects that means focus was lost")
    clog_frames: int = Field(20, ge=2, description="consecutive frames an object may stand still")
    window: int = Field(50, ge=5, description="objects the blur share is taken over")


class SortSettings(Section):
    """Everything the pure sort core is told."""

    track: TrackSettings = TrackSettings()
    close: CloseSettings = CloseSettings()
    abstain: AbstainSettings = AbstainSettings()
    outlets: tuple[Outlet, ...] = ()
    timing: TimingSettings = TimingSettings()
    alarms: AlarmSettings = AlarmSettings()
    total_limit: int | None = Field(None, ge=1, description="stop sorting altogether after so many cells")
    max_tracks: int = Field(500, ge=1, description="objects followed at once; the rest is counted")
