"""What a training run is told: one YAML file in `configs/train`, checked like every other settings file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from hspc_live.core.values import Modality
from hspc_live.settings.base import Section
from hspc_live.settings.load import load_section
from hspc_live.settings.segment import BackgroundSettings, SegmentSettings
from hspc_live.settings.twin import TwinFlowSettings
from hspc_models.augment import AugmentSettings
from hspc_models.card import NetworkShape
from hspc_models.curve_settings import CurveSettings


class TwinSource(Section):
    """Crops of the digital twin: fresh cells in every epoch; the card's figures come from films of yet other cells."""

    kind: Literal["twin"] = "twin"
    twin: TwinFlowSettings = TwinFlowSettings()
    segment: SegmentSettings = SegmentSettings()
    background: BackgroundSettings = BackgroundSettings()
    crops: int = Field(4000, ge=1, description="fresh crops an epoch")
    position_sd_um: float = Field(0.25, ge=0, description="how far segmentation may miss a cell's centre")
    played_by: dict[str, str] = Field(
        {}, description="classes that the twin does not have, and which of its kinds plays each; one may play several"
    )
    strangers: tuple[str, ...] = Field(("dead", "doublet"), description="kinds that are to score every class alike")
    stranger_share: float = Field(0.1, ge=0, lt=1)
    validation: int = Field(1500, ge=1, description="crops of other cells, the same after every epoch")
    films: int = Field(4, ge=1, description="films, a seed each, that the card's figures are taken from")
    film_frames: int = Field(1500, ge=10)
    calibration_films: int = Field(0, ge=0, description="further films, for promises of purity to rest on; 0: none")
    film_events_per_s: float = Field(25.0, gt=0)


class FileSource(Section):
    """Labelled crops from a file or folder that `readers` knows. A part is held out, or a second file judges."""

    kind: Literal["files"]
    data: Path
    validation: Path | None = Field(None, description="crops that judge; without it, a part of `data` is held out")
    holdout: float = Field(0.2, gt=0, lt=1, description="share of `data` that is held out; the paper's is 0.2")
    by: Literal["group", "random"] = Field("random", description="what is held out: whole groups, or crops at random")
    group_by: str | None = Field(None, description="column of `data` that names the groups (mouse, experiment)")
    refit: bool = Field(
        False,
        description="once the held-out part has judged a model, train another one alike on all of `data`, which ships: "
        "the figures are then those of a model that learnt from less",
    )

    @model_validator(mode="after")
    def _consistent(self) -> FileSource:
        if self.refit and self.validation is not None:
            raise ValueError("refit is for a part of `data` that is held out; with `validation` all of it is learnt")
        return self


Source = Annotated[TwinSource | FileSource, Field(discriminator="kind")]


class Phase(Section):
    """Some epochs on crops of `pixels` × `pixels`: averaged down from the card's size, which is faster."""

    pixels: int = Field(64, ge=16)
    epochs: int = Field(ge=1)


class ScratchRecipe(Section):
    """From random weights (or `backbone`): AdamW, one rate that warms up over the first steps, then half a cosine to 0.

    The running average of the weights is what ships.
    """

    kind: Literal["scratch"]
    phases: tuple[Phase, ...] = Field(min_length=1)
    backbone: str | None = Field(None, description="a ResNet-50 to start from: model name, checkpoint's path or URL")
    backbone_sha256: str | None = None
    batch: int = Field(64, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0, description="decoupled; of weights, not of norms and biases")
    warm_up_steps: int = Field(100, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    smooth_to: Literal["all", "neighbours"] = Field(
        "all", description="neighbours: `classes` are stages in order, and a label errs by one stage at most"
    )
    mixup: float = Field(0.0, ge=0, description="parameter of the Beta distribution; 0 mixes no crops")
    tutor: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the target that is a simple classifier's score (`tutor`); of filed crops",
    )
    average_decay: float = Field(0.995, ge=0, lt=1, description="of the running average of the weights that is kept")


class PaperRecipe(Section):
    """The paper's, to the letter: Adam with coupled weight decay, constant rates, the last weights ship.

    The defaults are the paper's; it starts from a pretrained ResNet-50 and from nothing else, because 1 % of the rate
    moves random convolutions nowhere. Where `at_once` is less than `batch`, gradients are accumulated to the same sum,
    but batch norms see `at_once` crops at a time, and their running statistics follow `batch / at_once` times as fast.
    """

    kind: Literal["paper"]
    backbone: str | None = None
    backbone_sha256: str | None = None
    pixels: int = Field(64, ge=16)
    epochs: int = Field(20, ge=1)
    batch: int = Field(512, ge=2)
    at_once: int = Field(64, ge=2, description="crops that memory holds at once, on each device")
    learning_rate: float = Field(5e-4, gt=0, description="of the head")
    convolution_share: float = Field(0.01, gt=0, description="of that rate, for the convolutions")
    weight_decay: float = Field(0.05, ge=0, description="coupled (Adam's L2 term)")


Recipe = Annotated[ScratchRecipe | PaperRecipe, Field(discriminator="kind")]


class TrainSettings(Section):
    """One training run."""

    name: str
    version: str
    classes: tuple[str, ...] = Field(min_length=2)
    modality: Modality = Modality.DIC
    shear_axis_deg: float | None = 45.0
    objective: str = ""
    um_per_px: float = Field(0.25, gt=0)
    crop_px: int = Field(64, ge=16)
    network: NetworkShape = NetworkShape()
    source: Source
    recipe: Recipe
    views: int = Field(
        3, ge=1, description="views of a cell that the card's table combines: the rig's sort.close.views"
    )
    symmetries: int = Field(
        1, ge=1, le=8, description="positions whose scores the model combines: 4 turns, or 8 with mirrored ones"
    )
    seed: int = Field(1, ge=0)
    oversample: bool = Field(True, description="repeat crops of rarer classes up to the commonest one's count")
    augment: AugmentSettings = AugmentSettings()
    judge_every: int = Field(1, ge=1, description="epochs between looks at the validation crops; the last is judged")
    keep_every_s: float = Field(60.0, ge=0, description="seconds between checkpoints: what a kill may cost")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the convolutions; auto is bfloat16 on a GPU that has it, float32 elsewhere"
    )
    threads: int = Field(2, ge=1)
    curve: CurveSettings = CurveSettings()

    @model_validator(mode="after")
    def _consistent(self) -> TrainSettings:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must differ")
        if isinstance(self.recipe, ScratchRecipe) and self.recipe.tutor and isinstance(self.source, TwinSource):
            raise ValueError("recipe.tutor is for filed crops: the twin's are fresh in every epoch, and truly labelled")
        if self.network.rings and isinstance(self.source, TwinSource):
            raise ValueError(
                "network.rings is for filed crops: it is fitted once, and the twin has fresh ones each epoch"
            )
        if any(phase.pixels > self.crop_px for phase in self.phases):
            raise ValueError(f"no phase can have more pixels than crop_px, {self.crop_px}")
        return self

    @property
    def phases(self) -> tuple[Phase, ...]:
        """What the epochs are made of."""
        match self.recipe:
            case ScratchRecipe(phases=phases):
                return phases
            case PaperRecipe(pixels=pixels, epochs=epochs):
                return (Phase(pixels=pixels, epochs=epochs),)

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


def load_train_settings(path: Path, overrides: Sequence[str] = ()) -> TrainSettings:
    """Read one file; `overrides` are `key.path=value`. `source.data` and `source.validation` in it are relative to it.

    Raises SettingsError naming file, line and key path of every problem.
    """
    settings = load_section(path, TrainSettings, overrides)
    source = settings.source
    if not isinstance(source, FileSource):
        return settings
    folder = path.expanduser().absolute().parent
    given = {override.partition("=")[0].strip() for override in overrides}  # those are relative to the current folder
    update = {
        key: Path(os.path.normpath(folder / file))
        for key, file in (("data", source.data), ("validation", source.validation))
        if file is not None and f"source.{key}" not in given
    }
    return settings.model_copy(update={"source": source.model_copy(update=update)})
