"""Settings of the background and of segmentation. Sizes are in µm, so one file serves any objective."""

from __future__ import annotations

from pydantic import Field, model_validator

from hspc_live.settings.base import Section


class BackgroundSettings(Section):
    """How `acquire` makes its numbered background snapshots."""

    frames: int = Field(32, ge=3, le=512, description="frames a snapshot's median is taken over")
    every_s: float = Field(1.0, gt=0, description="seconds between snapshots")
    use_recorded: bool = Field(True, description="take the background stored in a recording where it has one")


class SegmentSettings(Section):
    """What counts as a cell. The order of the rejects is that of `core.values.Reject`."""

    min_diameter_um: float = Field(4.5, gt=0, description="smaller objects are debris")
    max_diameter_um: float = Field(13.0, gt=0, description="larger objects are clusters")
    noise_factor: float = Field(6.0, gt=0, description="threshold, in standard deviations of the background's noise")
    max_deformation: float = Field(
        0.05,
        gt=0,
        le=1,
        description="less round and it is a cluster: two touching discs have 0.08; red cells in flow, 0.3",
    )
    min_solidity: float = Field(
        0.9, ge=0, le=1, description="area over that of the convex hull; more concave and it is a cluster"
    )
    min_sharpness: float = Field(0.05, ge=0, description="below this a cell is blurred; 0 judges none")
    max_saturated: float = Field(0.05, ge=0, le=1, description="share of saturated pixels in a cell")
    max_objects: int = Field(200, ge=1, description="objects measured in one frame; the rest is counted, not measured")
    split_touching: bool = Field(True, description="part touching cells before judging their size")

    @model_validator(mode="after")
    def _ordered(self) -> SegmentSettings:
        if self.min_diameter_um >= self.max_diameter_um:
            raise ValueError("min_diameter_um must be smaller than max_diameter_um")
        return self
