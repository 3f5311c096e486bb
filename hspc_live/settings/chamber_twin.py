"""Settings of the twin's chamber: settled cells on a cover glass, filmed by a camera over an XY stage.

Lengths on the glass are chamber coordinates (µm): where the stage truly is when that place lies at the middle of the
frame. Densities and rates are those of a sorted population settled in a cover-glass chamber.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from hspc_live.settings.base import Section
from hspc_live.settings.twin import CellMix, TwinScene


class CameraMounting(Section):
    """How the camera truly sits over the stage; a calibration has to find it. All zero: pixels run along the stage."""

    rotation_deg: float = Field(1.3, description="stage's +x seen in the picture, clockwise from the picture's +x")
    scale_error: float = Field(0.006, gt=-0.5, lt=0.5, description="true over nominal µm/px, minus 1")
    aspect_error: float = Field(0.001, gt=-0.2, lt=0.2, description="the same for y beyond that for x")
    shear: float = Field(0.002, gt=-0.5, lt=0.5, description="how far the stage's axes are from square (radians)")
    mirrored: bool = Field(False, description="the picture's x runs against the stage's")


class Expression(Section):
    """How cells of one class express the marker. Brightness is lognormal."""

    share: float = Field(ge=0, le=1, description="share of the cells that express it at all")
    median_e: float = Field(900.0, gt=0, description="electrons a pixel at the cell's middle, at the nominal exposure")
    spread: float = Field(0.6, ge=0, description="standard deviation of its natural logarithm")
    high_share: float = Field(0.0, ge=0, le=1, description="of those that express it: share of a bright population")
    high_factor: float = Field(6.0, ge=1, description="how much brighter that population is")


class FluorescenceSettings(Section):
    """The second channel: a marker in the cytoplasm, its light, background and noise.

    The defaults follow a reporter of stem cells (Evi1-GFP): nearly all LT-HSC, most ST-HSC and some MPP express it, and
    the brightest few cells are LT-HSC.
    """

    channel: str = Field("gfp", min_length=1)
    exposure_ms: float = Field(150.0, gt=0, description="nominal exposure; light is proportional to the exposure")
    lt_hsc: Expression = Expression(share=0.98, median_e=900.0, high_share=0.11)
    st_hsc: Expression = Expression(share=0.80, median_e=1000.0)
    mpp: Expression = Expression(share=0.30, median_e=600.0)
    autofluorescence_e: float = Field(25.0, ge=0, description="of every cell; five times as much in a dead one")
    background_e: float = Field(60.0, ge=0, description="medium and stray light, electrons a pixel")
    illumination_slope: float = Field(0.25, ge=0, description="uneven excitation over the field")
    haze: float = Field(0.15, ge=0, le=1, description="share of a cell's light spread widely by out-of-focus layers")


class TwinStageSettings(Section):
    """The XY stage: how it moves, and by how much it is not where it says it is."""

    x_limits_um: tuple[float, float] = (-6000.0, 6000.0)
    y_limits_um: tuple[float, float] = (-6000.0, 6000.0)
    start_um: tuple[float, float] = (0.0, 0.0)
    speed_um_s: float = Field(8000.0, ge=1)
    acceleration_um_s2: float = Field(80_000.0, ge=1)
    resolution_um: float = Field(0.05, gt=0, description="step of the encoder")
    backlash_um: float = Field(1.0, ge=0, description="play between the encoder and the table, per axis")
    slip_chance: float = Field(0.01, ge=0, le=1, description="moves in which the table slips against the encoder")
    slip_um: float = Field(1.5, ge=0, description="standard deviation of a slip, per axis; slips add up")
    drift_um_per_min: float = Field(0.15, ge=0, description="thermal drift of the table")
    drift_deg: float = Field(30.0, description="its direction")
    z_limits_um: tuple[float, float] = Field((-100.0, 100.0), description="travel of the focus drive")
    z_speed_um_s: float = Field(200.0, gt=0)
    z_resolution_um: float = Field(0.01, gt=0, description="step of its encoder")
    ringing_um: float = Field(2.0, ge=0, description="swing of the table at arrival after a move at full speed")
    ringing_hz: float = Field(28.0, ge=0)
    settle_ms: float = Field(25.0, gt=0, description="time in which the swing falls to 1/e")

    @model_validator(mode="after")
    def _start_inside(self) -> TwinStageSettings:
        for name, (low, high), start in zip("xy", (self.x_limits_um, self.y_limits_um), self.start_um, strict=True):
            if not low <= start <= high:
                raise ValueError(f"{name}_limits_um must contain start_um: {start:g} is not in {low:g} … {high:g}")
        return self


class TwinChamberSettings(TwinScene):
    """The chamber, what has settled in it, and how it is filmed. A seed reproduces every pixel."""

    bits: int = Field(12, description="8 (uint8), or more (in uint16)", ge=8, le=16)
    mix: CellMix = CellMix(lt_hsc=0.12, st_hsc=0.33, mpp=0.40, debris=0.08, doublet=0.03, cluster=0.02, dead=0.04)
    dust: int = Field(14, ge=0)
    exposure_ms: float = Field(5.0, gt=0, description="nominal exposure of transmitted light")
    readout_ms: float = Field(10.0, ge=0, description="from the end of an exposure until the frame is there")
    width_mm: float = Field(2.6, gt=0, description="size of the settled area, whose middle is at (0, 0)")
    height_mm: float = Field(2.6, gt=0)
    density_per_mm2: float = Field(420.0, ge=0, description="objects of the mix on a mm² of glass")
    specks_per_mm2: float = Field(250.0, ge=0, description="grains smaller than a µm, beyond the debris of the mix")
    touching_share: float = Field(0.05, ge=0, le=1, description="objects that lie against an earlier one")
    neighbour_share: float = Field(0.08, ge=0, le=1, description="objects with an earlier one within `neighbour_um`")
    neighbour_um: float = Field(6.0, gt=0, description="largest gap between such two")
    focus_sd_um: float = Field(0.25, ge=0, description="spread in depth beyond that of the radii")
    focus_offset_um: float = Field(
        0.0, description="height of the plane of focus over the middle of a mean cell, at (0, 0), the focus drive at 0"
    )
    focus_tilt_um_per_mm: float = Field(0.25, description="tilt of the glass against the plane of focus")
    focus_tilt_deg: float = Field(20.0, description="direction in which the glass rises")
    floating_share: float = Field(0.01, ge=0, le=1, description="objects that float far above the plane of focus")
    creep_um_per_sqrt_min: float = Field(0.25, ge=0, description="Brownian creep of a cell, per axis")
    detach_per_h: float = Field(0.02, ge=0, description="share of the cells that come loose in an hour")
    detach_um: float = Field(60.0, gt=0, description="how far such a cell drifts before it settles again (median)")
    mounting: CameraMounting = CameraMounting()
    fluorescence: FluorescenceSettings = FluorescenceSettings()
    stage: TwinStageSettings = TwinStageSettings()
