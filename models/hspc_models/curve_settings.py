"""What a learning curve is told: the section `curve` of a training file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from hspc_live.settings.base import Section

Fraction = Annotated[float, Field(gt=0, le=1)]


class CurveSettings(Section):
    """Trainings on parts of the crops, each judged on the same cells, which no training sees.

    The defaults are made for the budget of 20 minutes on two cores with some 1,500 crops of 40 × 40; the paper has ten
    fractions, five repeats and 20 epochs each (`configs/train/lsm_paper.yaml`).
    """

    fractions: tuple[Fraction, ...] = Field(
        (0.125, 0.25, 0.5, 1.0), min_length=1, description="shares of the training crops, each class alike"
    )
    repeats: int = Field(3, ge=1, description="trainings at each fraction, of other draws and other seeds")
    epochs: int = Field(3, ge=1, description="of all training crops")
    same: Literal["steps", "epochs"] = Field(
        "steps",
        description="what all fractions share: steps lets small ones pass so much oftener, or a short training would "
        "show its length rather than the crops",
    )
    pixels: int | None = Field(None, ge=16, description="edge of the pictures; without it that of the last phase")
    draw: Literal["cells", "groups"] = Field(
        "cells", description="what a fraction is of: cells of all groups, or whole groups (mice, experiments)"
    )
    peers: bool = Field(True, description="HOG and radial profiles on the same draws beside the network")
    network: bool = Field(True, description="false: only the peers, in a minute or two")
    budget_min: float | None = Field(20.0, gt=0, description="minutes that one start of the command may take")

    @field_validator("fractions")
    @classmethod
    def _rising(cls, fractions: tuple[float, ...]) -> tuple[float, ...]:
        if list(fractions) != sorted(set(fractions)):
            raise ValueError("fractions must rise, each once")
        return fractions
