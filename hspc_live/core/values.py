"""The values that travel from camera to sorter, in the order in which they are made.

Units stand in the names; `_ns` is host-monotonic nanoseconds (see `core.clock`). Positions are in the frame of the
camera: `x_um` grows downstream from the left border, `y_um` downwards from the top; both are pixel centre × µm/px.
The run id travels in the header of every message and in the recording, not in each value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8] | NDArray[np.uint16]


class Modality(StrEnum):
    """How the light makes the picture. A card's modality must be the rig's, or arming is refused."""

    DIC = "dic"
    BRIGHTFIELD = "brightfield"


@dataclass(frozen=True, slots=True)
class CameraInfo:
    """What a camera promises about the frames it will hand over.

    `counts_gaps` says whether a gap in `Frame.index` is a dropped frame (a live camera, a recording with every frame)
    or means nothing (an RT-DC file in which frames without cells were left out). `time_sd_us` is by how much
    `Frame.captured_ns` may be off (one standard deviation; 0: exact, or not known). `device` is what the device says
    of itself: adapter, versions, its part of the sensor, affine, properties.
    """

    height_px: int
    width_px: int
    dtype: str
    um_per_px: float
    frames_per_s: float
    modality: Modality
    shear_axis_deg: float | None = None
    exposure_us: float = 0.0
    model: str = ""
    counts_gaps: bool = True
    time_sd_us: float = 0.0
    device: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture. `pixels` is (height, width) uint8 or uint16; `captured_ns` is mid-exposure.

    `background`, where a recording carries one, is an image of the same shape and dtype without cells.
    """

    index: int
    captured_ns: int
    received_ns: int
    pixels: Pixels
    background: Pixels | None = None


class Reject(IntEnum):
    """Why a detection is no view to classify. The order is the order of judgement: the first that holds is booked."""

    ACCEPTED = 0
    BORDER = 1  # touches the frame's border: cannot be measured whole
    DEBRIS = 2  # smaller than a cell
    CLUSTER = 3  # larger than a cell, or joined cells that could not be parted
    NOT_UNIQUE = 4  # another object reaches into its crop (the paper's uniqueness check)
    SATURATED = 5  # too many pixels at the ends of the camera's range
    BLURRED = 6  # out of focus
    UNCROPPABLE = 7  # so near the border that its crop would leave the frame


class Detection(NamedTuple):
    """One object found in one frame; `reject` 0 makes it a view. Field order is the order of `OBJECT_DTYPE`.

    `deformation` is RT-DC's `deform`: 1 - 2·sqrt(pi·area)/perimeter, of the convex hull. `brightness` is the mean of
    the raw pixels inside the mask. `sharpness` is dimensionless (definition: `stages.segment`). Box corners are pixel
    indices, half-open.
    """

    x_um: float
    y_um: float
    area_um2: float
    diameter_um: float
    deformation: float
    brightness: float
    brightness_sd: float
    sharpness: float
    x0_px: int
    y0_px: int
    x1_px: int
    y1_px: int
    reject: int


OBJECT_DTYPE = np.dtype(
    [(name, "<i4" if name.endswith("_px") else "<u4" if name == "reject" else "<f8") for name in Detection._fields]
)


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """What segmentation found in one frame; every frame yields one, an empty one too.

    `objects` is (n,) of `OBJECT_DTYPE`, ordered by (x, y); the view's number is its row. `crops` is (m, S, S) in the
    camera's dtype: the accepted ones, in row order. `windows`/`masks` are (n, H, W) cut-outs at camera scale for the
    recording (masks uint8 0/1), empty when not recorded. `over_cap` counts objects beyond the settings' cap, which were
    not measured. `alarms` are frame-level findings: "saturated", "black", "flat".
    """

    index: int
    captured_ns: int
    objects: NDArray[np.void]
    crops: Pixels
    windows: Pixels
    masks: NDArray[np.uint8]
    background: int
    over_cap: int = 0
    alarms: tuple[str, ...] = ()
    segment_ns: int = 0

    def detections(self) -> tuple[Detection, ...]:
        """The rows of `objects` as plain values."""
        return tuple(map(Detection._make, self.objects.tolist()))


class CellOutcome(StrEnum):
    """What became of a cell. Every tracked cell ends in exactly one of these."""

    SORTED = "sorted"
    PASSED = "passed"  # no gate wants it
    ABSTAINED = "abstained"  # the classifier is not sure enough, or takes it for a stranger
    ABORTED = "aborted"  # wanted, but not safely sortable: reason says why
    UNRESOLVED = "unresolved"  # never came to a verdict: reason says why


@dataclass(frozen=True, slots=True)
class Classification:
    """The evidence of all views of one cell, combined. `scores` follow the card's class order and sum to 1."""

    cell: int
    scores: tuple[float, ...]
    predicted: str
    views: int


@dataclass(frozen=True, slots=True)
class GateDecision:
    """What the gates want of a cell before timing is looked at. `outlet` is None for waste.

    `gate_revision` numbers the set of gates in force when the cell closed: 0 are those of the settings.
    """

    cell: int
    outlet: str | None
    reason: str
    gate_revision: int
    last_capture_ns: int
    decided_ns: int


@dataclass(frozen=True, slots=True)
class SortCommand:
    """Deflect what passes the junction in [fire_at - width/2, fire_at + width/2] into `outlet`. Host time.

    `deadline_ns` is the last moment at which the sorter may accept it; a later one it refuses.
    """

    command: int
    cell: int
    outlet: str
    fire_at_ns: int
    width_ns: int
    deadline_ns: int
    sent_ns: int


class ReceiptKind(StrEnum):
    """What the sorter did with a command."""

    FIRED = "fired"
    REFUSED = "refused"


DUPLICATE = "duplicate"
"""A sorter's reason for refusing a command whose number it has had before."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The sorter's answer to one command. `at_ns` is host time (converted), `reason` is empty for FIRED."""

    command: int
    kind: ReceiptKind
    at_ns: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CellRecord:
    """The last word on one cell: what the recording, the hash of the verdicts and the scorer read.

    Positions and times extrapolate the track: `arrival_ns` ± `arrival_sd_ns` at the junction, None where unknown.
    `features` are means over the accepted views, by the names of `Detection`; `gate_revision` as in `GateDecision`.
    """

    cell: int
    first_frame: int
    last_frame: int
    views: tuple[tuple[int, int], ...]
    outcome: CellOutcome
    reason: str
    outlet: str | None
    classification: Classification | None
    velocity_um_s: float | None
    velocity_sd_um_s: float | None
    arrival_ns: int | None
    arrival_sd_ns: int | None
    y_um: float
    last_capture_ns: int
    decided_ns: int
    latency_ns: int | None
    command: int | None = None
    features: dict[str, float] = field(default_factory=dict)
    gate_revision: int = 0


# ---- chamber: a motorised stage brings places to the middle of the frame ---------------------------------------------


@dataclass(frozen=True, slots=True)
class StageInfo:
    """What a stage promises: travel (low, high) per axis, the smallest step it reports, and its name.

    `label` is what Micro-Manager's configuration calls it; empty where that is not known.
    """

    x_limits_um: tuple[float, float]
    y_limits_um: tuple[float, float]
    resolution_um: float
    model: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class FocusInfo:
    """What a focus drive promises: where it may go (low, high), its name, and its label in Micro-Manager's words."""

    limits_um: tuple[float, float]
    model: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class StageTarget:
    """Bring the place (x_um, y_um) to the middle of the frame. Stage coordinates: those that the stage reports.

    `target` numbers the targets of a run; `cell` is the cell to visit, None for a field.
    """

    target: int
    x_um: float
    y_um: float
    cell: int | None = None


@dataclass(frozen=True, slots=True)
class StagePosition:
    """Where the stage says it is at host time `at_ns`, and whether it is on its way."""

    x_um: float
    y_um: float
    at_ns: int
    moving: bool


@dataclass(frozen=True, slots=True)
class StageReceipt:
    """The stage's answer to one target: it reports to have arrived at (x_um, y_um). Host time.

    The table may still swing; whether it has come to rest is for the pictures to say.
    """

    target: int
    x_um: float
    y_um: float
    sent_ns: int
    arrived_ns: int
