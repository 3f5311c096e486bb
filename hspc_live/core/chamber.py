"""The values of a chamber run: what was exposed where, what was found there, and what became of every cell.

Stage coordinates, µm, are those that the stage reports. A *visit* brings one field to the middle of the frame; its
number counts on from the scan through the second visits, so it names a visit of the run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.values import CameraInfo, Classification, Frame, FrameResult, StageInfo, StageTarget

Floats = NDArray[np.float64]

GLOW = "glow:"
"""What the names of fluorescence features begin with; the channel's name follows."""


class Phase(StrEnum):
    """What a field is visited for."""

    SCAN = "scan"
    REVISIT = "revisit"


@dataclass(frozen=True, slots=True)
class Settled:
    """How the check before an exposure ended: `reason` is empty if the picture stood still, else why there is none.

    `looks` pictures were taken for it, `waited_ns` from the stage's report of arrival to the last of them; `moved_um`
    is what the last two differed by, None where that could not be seen.
    """

    reason: str
    looks: int
    waited_ns: int
    moved_um: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One exposure of a field in one channel."""

    channel: str
    frame: Frame


@dataclass(frozen=True, slots=True, eq=False)
class Visit:
    """One field, with the stage at (x_um, y_um) by its own report.

    `pictures` begins with transmitted light; it is empty where the picture never stood still (`settled.reason`).
    """

    number: int
    phase: Phase
    target: StageTarget
    x_um: float
    y_um: float
    settled: Settled
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ChamberFacts:
    """What is known before the first field.

    `affine` is (2, 3) float64, pixel (x, y, 1) → µm relative to the stage's position, `affine_covariance` (6, 6) of its
    numbers row by row (`stages.affine`). `channels` are those that are exposed, the first is transmitted light. `plan`
    are the targets of the scan, in order.
    """

    camera: CameraInfo
    stage: StageInfo
    channels: tuple[str, ...]
    affine: Floats
    affine_covariance: Floats
    plan: tuple[StageTarget, ...]


@dataclass(frozen=True, slots=True, eq=False)
class FieldObjects:
    """What segmentation found in the transmitted picture of one visit.

    `result.objects` are all objects, ordered by (x, y): a view's number is its row. `whole` (n,) says which are cells
    that lie whole in the picture, `reasons` (n,) why one is not accepted ("" for those that are). `labels` (height,
    width) uint16 is 0 in the background, 1…m in the m whole cells, in row order. `glow` has for each further channel
    the mean light of every object above its surroundings, (n,) in counts, NaN for what has no label. `doubts` say why
    a person should look at the picture (`stages.company.Doubt`); they are not recorded, a replay finds them anew.
    """

    result: FrameResult
    whole: NDArray[np.bool_]
    reasons: tuple[str, ...]
    labels: NDArray[np.uint16]
    glow: Mapping[str, Floats]
    doubts: tuple[str, ...] = ()


class ChamberOutcome(StrEnum):
    """What became of an object of the chamber. Each ends in exactly one of these."""

    LISTED = "listed"  # on the picking list
    PASSED = "passed"  # no gate wants it
    ABSTAINED = "abstained"  # the classifier is not sure enough, or takes it for a stranger
    LEFT_OUT = "left_out"  # wanted, but not safely pickable: reason says why
    UNRESOLVED = "unresolved"  # never came to a verdict: reason says why


@dataclass(frozen=True, slots=True)
class ChamberCell:
    """The last word on one object of the chamber.

    `x_um`, `y_um` ± `sd_um` per axis, as the stage would have reported it at the end of the scan; `seen_ns` is the
    time that the place holds for. `visit` and `view` name the look that was classified, `looks` all of them.
    `features` are those of that look, by the names of `Detection`, and `glow:<channel>` where it was measured.
    `order` is the place on the picking list, from 1.
    """

    cell: int
    x_um: float
    y_um: float
    sd_um: float
    radius_um: float
    seen_ns: int
    visit: int
    view: int
    looks: tuple[tuple[int, int], ...]
    outcome: ChamberOutcome
    reason: str
    outlet: str | None
    classification: Classification | None
    features: Mapping[str, float] = field(default_factory=dict)
    order: int | None = None


@dataclass(frozen=True, slots=True)
class Revisited:
    """What became of a listed cell at the second visit: `lost` says why it was not found again, "" if it was.

    `x_um`, `y_um` ± `sd_um` per axis is where it lies by the stage's reading then: the place that a pick goes to.
    `error_um` is how far it has moved against its fellows, `raw_error_um` how far from its listed place; NaN where it
    was not found.
    """

    cell: int
    visit: int
    lost: str
    x_um: float
    y_um: float
    error_um: float
    raw_error_um: float
    sd_um: float = math.nan
