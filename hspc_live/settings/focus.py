"""Settings of the focus drive (Z) of a chamber rig: which drive, and where it may go.

An objective meets the glass somewhere, so the limits of a real drive have no default.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from hspc_live.settings.base import Section


class NoFocus(Section):
    """The focus is not motorised, or is left alone."""

    kind: Literal["none"] = "none"


class FocusDrive(Section):
    """What every drive has: soft limits, checked before anything moves."""

    z_min_um: float = Field(allow_inf_nan=False, description="lowest height it may go to: where nothing is in the way")
    z_max_um: float = Field(allow_inf_nan=False, description="highest height it may go to: where nothing is in the way")

    @model_validator(mode="after")
    def _some_room(self) -> FocusDrive:
        if not self.z_min_um < self.z_max_um:
            raise ValueError("z_min_um must lie below z_max_um")
        return self

    def refusal(self, z_um: float) -> str | None:
        """Why the drive will not go there; None if it will."""
        if not math.isfinite(z_um):
            return f"z_um is {z_um}, which is no height"
        if not self.z_min_um <= z_um <= self.z_max_um:
            return (
                f"z_um = {z_um:g} is out of focus.z_min_um to focus.z_max_um, {self.z_min_um:g} to {self.z_max_um:g} µm"
            )
        return None


class MountedFocus(FocusDrive):
    """The focus drive that comes with the simulated rig."""

    kind: Literal["simulated"] = "simulated"
    z_min_um: float = Field(-50.0, allow_inf_nan=False, description="lowest height it may go to")
    z_max_um: float = Field(50.0, allow_inf_nan=False, description="highest height it may go to")


class MicroManagerFocus(FocusDrive):
    """The focus drive of the same core as camera and stage."""

    kind: Literal["micromanager"]
    device: str = Field("", description="the drive's label; empty takes the one that the configuration makes default")
    arrive_timeout_s: float = Field(10.0, gt=0, description="a move that has not ended by then is a failure")
    tolerance_um: float = Field(0.2, gt=0, description="further than this from the target it has not arrived")
    settle_ms: float = Field(50.0, ge=0, description="wait so long after it says that it has arrived")


Focus = Annotated[NoFocus | MountedFocus | MicroManagerFocus, Field(discriminator="kind")]
