"""What a training run is told: one YAML file in `configs/train`, checked like every other settings file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from hspc_live.core.values import Modality
from hspc_live.settings.base import Section
from hspc_live.settings.load import load_section
from hspc_live.settings.segment import BackgroundSettings, SegmentSettings
from hspc_live.settings.twin import TwinFlowSettings
from hspc_models.augment import AugmentSettings
from hspc_models.card import NetworkShape


class TwinSource(Section):
    """Crops of the digital twin: fresh cells in every epoch; the card's figures come from films of yet other cells."""

    kind: Literal["twin"] = "twin"
    twin: TwinFlowSettings = TwinFlowSettings()
    segment: SegmentSettings = SegmentSettings()
    background: BackgroundSettings = BackgroundSettings()
    crops: int = Field(4000, ge=1, description="fresh crops an epoch")
    position_sd_um: float = Field(0.25, ge=0, description="how far segmentation may miss a cell's centre")
    strangers: tuple[str, ...] = Field(("dead", "doublet"), description="kinds that are to score every class alike")
    stranger_share: float = Field(0.1, ge=0, lt=1)
    validation: int = Field(1500, ge=1, description="crops of other cells, the same after every epoch")
    films: int = Field(4, ge=1, description="films, a seed each, that the card's figures are taken from")
    film_frames: int = Field(1500, ge=10)
    film_events_per_s: float = Field(25.0, gt=0)


class FileSource(Section):
    """Two files of labelled crops (see `dataset`); which cells are in which is the splitter's care."""

    kind: Literal["files"]
    train: Path
    validation: Path


Source = Annotated[TwinSource | FileSource, Field(discriminator="kind")]


class Phase(Section):
    """Some epochs on crops of `pixels` × `pixels`: averaged down from the card's size, which is faster."""

    pixels: int = Field(64, ge=16)
    epochs: int = Field(ge=1)


class TrainSettings(Section):
    """One training run. The learning rate warms up over the first steps, then follows half a cosine to 0."""

    name: str
    version: str
    classes: tuple[str, ...] = Field(min_length=2)
    modality: Modality = Modality.DIC
    shear_axis_deg: float | None = 45.0
    objective: str = ""
    um_per_px: float = Field(0.25, gt=0)
    crop_px: int = Field(64, ge=16)
    network: NetworkShape = NetworkShape()
    backbone: str | None = Field(None, description="path or URL of a ResNet-50 checkpoint to start from")
    backbone_sha256: str | None = None
    source: Source
    views: int = Field(
        3, ge=1, description="views of a cell that the card's table combines: the rig's sort.close.views"
    )
    phases: tuple[Phase, ...] = Field(min_length=1)
    seed: int = 1
    batch: int = Field(64, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warm_up_steps: int = Field(100, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    average_decay: float = Field(0.995, ge=0, lt=1, description="of the running average of the weights that is kept")
    augment: AugmentSettings = AugmentSettings()
    threads: int = Field(2, ge=1)

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases)

    def pixels_of(self, epoch: int) -> int:
        """Edge of the pictures in an epoch, counted from 0."""
        for phase in self.phases:
            if epoch < phase.epochs:
                return phase.pixels
            epoch -= phase.epochs
        raise IndexError(f"epoch {epoch} lies beyond the last phase")


def load_train_settings(path: Path) -> TrainSettings:
    """Read one file. Raises SettingsError naming file, line and key path of every problem."""
    return load_section(path, TrainSettings)
