"""Settings of the digital twin: its objects, microscope and camera, and the flow channel that they film."""

from __future__ import annotations

from pydantic import Field, model_validator

from hspc_live.settings.base import Section


class CellMix(Section):
    """Who flows past, as shares of all objects; they are normalised to 1."""

    lt_hsc: float = Field(0.12, ge=0)
    st_hsc: float = Field(0.33, ge=0)
    mpp: float = Field(0.40, ge=0)
    debris: float = Field(0.08, ge=0)
    doublet: float = Field(0.03, ge=0)
    cluster: float = Field(0.01, ge=0)
    dead: float = Field(0.03, ge=0)
    bead: float = Field(0.0, ge=0, description="homogeneous 8 µm spheres, for calibrating the sort delay")

    @model_validator(mode="after")
    def _somebody(self) -> CellMix:
        if sum(self.shares()) <= 0:
            raise ValueError("at least one kind of object must have a share above 0")
        return self

    def shares(self) -> tuple[float, ...]:
        """The shares as set, in the order of `twin.cells.KINDS`."""
        return (
            self.lt_hsc,
            self.st_hsc,
            self.mpp,
            self.debris,
            self.doublet,
            self.cluster,
            self.dead,
            self.bead,
        )


class Mishaps(Section):
    """Things that go wrong, each off by default. Times are seconds after the start."""

    velocity_drift_per_s: float = Field(0.0, description="relative change of all velocities a second")
    focus_drift_um_per_s: float = Field(0.0, description="shift of the plane of focus")
    clog_at_s: float | None = Field(None, ge=0, description="a clump sticks in the middle of the view")
    clog_seconds: float = Field(3.0, gt=0)
    clog_slowing: float = Field(0.4, gt=0, le=1, description="share of their velocity that the others keep meanwhile")
    bubble_at_s: float | None = Field(None, ge=0, description="an air bubble passes the middle of the view")
    bubble_diameter_um: float = Field(56.0, gt=0)


class TwinScene(Section):
    """What every twin has in common: objects, optics, light and camera. A seed reproduces every pixel."""

    seed: int = 1
    height_px: int = Field(1024, ge=64)
    width_px: int = Field(1024, ge=128)
    um_per_px: float = Field(0.25, gt=0)
    bits: int = Field(8, description="8 (uint8), or more (in uint16)", ge=8, le=16)
    mix: CellMix = CellMix()
    texture: float = Field(1.0, ge=0, description="strength of the texture that tells the classes apart; 0 = none")
    modality: str = Field("dic", pattern="^(dic|brightfield)$")
    shear_axis_deg: float = 45.0
    shear_um: float = Field(0.2, gt=0)
    bias_rad: float = 1.2
    brightfield_defocus_um: float = Field(2.0, description="brightfield shows a phase only out of focus")
    absorption_per_um: float = Field(0.4, ge=0, description="brightfield: absorption per µm of path length")
    psf_sigma_um: float = Field(0.16, gt=0)
    illumination: float = Field(0.42, gt=0, lt=1, description="light of the empty field, share of the camera's range")
    illumination_slope: float = Field(0.15, ge=0)
    dust: int = Field(12, ge=0)
    full_well_e: float = Field(20000.0, gt=0, description="electrons at the camera's upper end: sets the shot noise")
    read_noise_e: float = Field(6.0, ge=0)


class TwinFlowSettings(TwinScene):
    """The flow channel and how it is filmed."""

    height_px: int = Field(256, ge=64)
    frames_per_s: float = Field(100.0, gt=0)
    exposure_us: float = Field(50.0, gt=0)
    events_per_s: float = Field(11.5, gt=0, description="objects of all kinds a second (Poisson)")
    velocity_um_s: float = Field(4000.0, gt=0, description="mean velocity of the cells at the channel's middle")
    profile_loss: float = Field(0.2, ge=0, lt=1, description="velocity lost at the frame's upper and lower border")
    stream_share: float = Field(0.7, gt=0, le=1, description="share of the frame's height in which the objects flow")
    velocity_cv: float = Field(0.02, ge=0, le=0.2, description="per-cell spread beyond the profile (position in depth)")
    transit_jitter: float = Field(0.002, ge=0, description="relative spread of the transit, beyond the velocity")
    junction_um: float = Field(2600.0, gt=0)
    focus_sd_um: float = Field(0.8, ge=0, description="spread of the cells in depth")
    blurred_share: float = Field(0.03, ge=0, le=1, description="cells far out of focus")
    mishaps: Mishaps = Mishaps()
