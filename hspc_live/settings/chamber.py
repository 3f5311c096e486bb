"""Settings of a chamber run: the stage and its errors, which fields to visit, and which cells become picks.

All positions are stage coordinates in µm. A `k_sigma` says how many standard deviations still count as the same place.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from hspc_live.settings.base import Section


class StageLimits(Section):
    """Where the stage may go. A target outside is refused before anything moves."""

    x_min_um: float = Field(-50_000.0, description="least x of travel")
    x_max_um: float = Field(50_000.0, description="greatest x of travel")
    y_min_um: float = Field(-50_000.0, description="least y of travel")
    y_max_um: float = Field(50_000.0, description="greatest y of travel")

    @model_validator(mode="after")
    def _some_room(self) -> StageLimits:
        if self.x_min_um >= self.x_max_um or self.y_min_um >= self.y_max_um:
            raise ValueError("the least position must lie below the greatest, in x and in y")
        return self


class PositionSettings(Section):
    """How well a cell's place is known: the errors of centroid and stage, and how fast cells creep."""

    centroid_sd_um: float = Field(0.1, ge=0, description="error of a cell's measured centre in its frame, per axis")
    repeatability_um: float = Field(
        1.5, gt=0, description="error of the stage on coming back to a place, per axis; from any side: its play, too"
    )
    creep_um_per_sqrt_min: float = Field(
        0.3, ge=0, description="how far cells creep, per axis: the spread grows with the root of the time"
    )
    drift_um_per_min: float = Field(
        0.15, ge=0, description="how far the stage wanders off, per axis, once no picture tells: grows with the time"
    )
    k_sigma: float = Field(3.0, gt=0, description="standard deviations within which two places may be one")


class RectangleArea(Section):
    """A rectangle of the chamber."""

    kind: Literal["rectangle"] = "rectangle"
    x0_um: float = Field(0.0, description="least x")
    y0_um: float = Field(0.0, description="least y")
    width_um: float = Field(2000.0, gt=0, description="extent along x")
    height_um: float = Field(2000.0, gt=0, description="extent along y")


class CircleArea(Section):
    """A round well of the chamber."""

    kind: Literal["circle"]
    x_um: float = Field(0.0, description="x of the centre")
    y_um: float = Field(0.0, description="y of the centre")
    radius_um: float = Field(1000.0, gt=0, description="radius")


Area = Annotated[RectangleArea | CircleArea, Field(discriminator="kind")]


class TilingSettings(Section):
    """Which fields cover the area, and how the stage comes to each."""

    area: Area = RectangleArea()
    overlap: float = Field(0.1, ge=0, le=0.5, description="least share of a field's edge that its neighbour repeats")
    approach: Literal["any", "same_side"] = Field(
        "same_side", description="same_side: every field is reached moving towards +x and +y, whatever the backlash"
    )
    overshoot_um: float = Field(50.0, gt=0, description="how far a same-side approach goes back first; above backlash")
    max_fields: int = Field(10_000, ge=1, description="a plan of more fields is refused")


class SettleSettings(Section):
    """When the picture stands still enough for an exposure."""

    max_shift_um: float = Field(0.25, gt=0, description="greatest shift of the picture between two looks, and in all")
    max_encoder_um: float = Field(0.2, gt=0, description="greatest change of the stage's reading between two looks")
    still_looks: int = Field(2, ge=1, description="pairs of looks in a row that must stand still")
    min_response: float = Field(0.3, ge=0, le=1, description="likeness of two looks below which a shift is noise")
    deadline_s: float = Field(2.0, gt=0, description="given up so long after the stage said it had arrived")


class MosaicSettings(Section):
    """When looks in overlapping fields are looks at one cell, and when they tell how the stage drifted."""

    max_merge_um: float = Field(4.0, gt=0, description="looks further apart are two objects, however unsure the place")
    max_offset_um: float = Field(12.0, gt=0, description="largest error of the stage that is searched for")
    step_sd_um: float = Field(
        1.0, gt=0, description="change of the stage's error from one field to the next; slips are larger"
    )
    min_common: int = Field(3, ge=2, description="common cells from which an offset between two fields is taken")
    chance: float = Field(0.01, gt=0, lt=1, description="an offset that chance would give more often is not believed")
    clear_um: float = Field(8.0, ge=0, description="so far from the border a look is whole; beyond, focus decides")


class PickingSettings(Section):
    """Which cells can be picked, and for how long."""

    tolerance_um: float = Field(6.0, gt=0, description="how far from its listed place a pick still takes the cell")
    clear_um: float = Field(20.0, ge=0, description="no edge of another object so near a picked cell's centre")
    top: int | None = Field(None, ge=1, description="pick only so many, the best ranked; None picks all")
    top_percent: float | None = Field(None, gt=0, le=100, description="pick only this share of the wanted, best ranked")


class RevisitSettings(Section):
    """When a cell that was listed counts as found again in a new picture of its field."""

    margin_um: float = Field(8.0, ge=0, description="listed cells nearer to the new picture's border are not judged")
    max_error_um: float = Field(6.0, gt=0, description="a cell that moved further against its fellows is lost")


class ChamberSettings(Section):
    """Everything the pure part of a chamber run is told."""

    limits: StageLimits = StageLimits()
    position: PositionSettings = PositionSettings()
    tiling: TilingSettings = TilingSettings()
    settle: SettleSettings = SettleSettings()
    mosaic: MosaicSettings = MosaicSettings()
    picking: PickingSettings = PickingSettings()
    revisit: RevisitSettings = RevisitSettings()
