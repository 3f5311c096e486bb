"""The card of a model: what its weights are, what they were trained on, and how far they may be trusted.

One `card.yaml` lies beside one safetensors file. Nothing is read from the weights before their SHA-256 has been
compared with the card's. Class order comes from here and from nowhere else.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from hspc_live.core.crop import CropGeometry
from hspc_live.core.errors import ModelError
from hspc_live.core.values import Modality
from hspc_live.settings.base import Section
from hspc_live.settings.devices import RigSettings

if TYPE_CHECKING:  # processes that only read the card must not spend a second and 300 MB on importing torch
    from torch import Tensor

    from hspc_models.network import CellNet

CARD_FILE = "card.yaml"
ABSTAIN = "abstain"
"""Last column of every table of `CellConfusion`: the combined score stayed below the threshold."""

SCALE_TOLERANCE = 0.10
"""How much the pixels of a camera, or of crops, may differ from those that the weights have seen."""

_SHEAR_TOLERANCE_DEG = 10.0


class NetworkShape(Section):
    """What cannot be read off the state dict's names: input channels and the widths of the head's hidden layers.

    `rings`: whether the logits are the mean of the ResNet-50's and of two small networks' that read what the rings of
    the crop hold (`radial`), for cells whose picture has no direction.
    """

    channels: Literal[1, 3] = 1
    head: tuple[int, ...] = (256,)
    rings: bool = False

    def build(self, classes: int, crop_px: int) -> CellNet:
        """A network of this shape, with random weights."""
        from hspc_models.network import CellNet

        return CellNet(classes, self.channels, self.head, rings_px=crop_px if self.rings else None)


class Weights(Section):
    """The file beside the card. Half precision on disk is read as float32."""

    file: str = Field("model.safetensors", description="beside the card, and nowhere else")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    dtype: Literal["float16", "float32"] = "float16"

    @field_validator("file")
    @classmethod
    def _beside_the_card(cls, name: str) -> str:
        if not name or set(name) & set("/\\:"):
            raise ValueError(f"the weights lie beside the card: {name!r} is no plain name of a file")
        return name


class Training(Section):
    """Where the weights come from, enough to make them again."""

    data: str
    seed: int
    crops: int = Field(ge=0)
    epochs: int = Field(ge=0)
    command: str


class Rate(Section):
    """A share with its 95 % Wilson interval. `n` is the number it rests on."""

    rate: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)
    n: int = Field(ge=0)


class Validation(Section):
    """Figures on cells that training never saw. `confusion` is true class (rows) × predicted (columns).

    The calibration error is of bins of equal mass, with its 95 % interval (`calibration.calibration_estimate`).
    """

    data: str
    balanced_accuracy: float
    consistency: dict[str, Rate]
    confusion: tuple[tuple[int, ...], ...]
    expected_calibration_error: float
    expected_calibration_error_interval: tuple[float, float] | None = None
    hog_balanced_accuracy: float | None = None


class CellConfusion(Section):
    """What becomes of whole cells, their views combined, at several score thresholds: predicted purity rests on this.

    `counts[t][i][j]`: of the cells of true kind `kinds[i]` (the classes, then strangers that pass segmentation), how
    many were given column j at `thresholds[t]`; columns are the card's classes, then `abstain`. At most `views` views
    of a cell were combined.
    """

    data: str
    views: int = Field(3, ge=1)
    thresholds: tuple[float, ...]
    kinds: tuple[str, ...]
    counts: tuple[tuple[tuple[int, ...], ...], ...]

    @model_validator(mode="after")
    def _shapes(self) -> CellConfusion:
        if len(self.counts) != len(self.thresholds) or any(len(table) != len(self.kinds) for table in self.counts):
            raise ValueError("counts must have one table a threshold, with one row a kind")
        if len({len(row) for table in self.counts for row in table}) > 1:
            raise ValueError("every row of counts must have the classes and 'abstain' as columns")
        return self


class CalibrationFile(Section):
    """The cells that promises of purity rest on, kept beside the card (`calibration_cells`).

    Neither training nor temperature saw them. `kinds` are the card's classes, then strangers; `counts` the cells of
    each. `views` is the most looks that a cell has, `groups` how many mice or experiments the cells are of, 0 where
    they are independent. `scored_by` is the SHA-256 of the weights that gave the logits.
    """

    file: str = "calibration.safetensors"
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    scored_by: str = Field(pattern="^[0-9a-f]{64}$")
    data: str
    taken: Literal["flow", "crops"] = Field(description="flow: whole cells filmed in flow; crops: from a file of crops")
    views: int = Field(ge=1)
    kinds: tuple[str, ...]
    counts: tuple[int, ...]
    groups: int = Field(0, ge=0)

    @property
    def cells(self) -> int:
        """How many cells there are, strangers included."""
        return sum(self.counts)


class StrangerLimits(Section):
    """From which strangeness on a cell is called a stranger: a limit where 1 look is taken, up to 2, and so on.

    Strangeness is `measure` of the cell's combined scores. At most `wrongly` of known cells are called strangers
    (conformal, see `strangers`); a limit of None means that the calibration cells were too few for so small a share.
    `found` is the share of strangers, by kind, that the last limit finds.
    """

    measure: Literal["max_score"] = Field("max_score", description="1 - best score")
    wrongly: float = Field(gt=0, lt=1)
    limits: tuple[float | None, ...] = Field(min_length=1)
    calibrated_on: int = Field(ge=0)
    found: dict[str, Rate] = Field(default_factory=dict)


class Card(Section):
    """Everything about a model but its tensors."""

    name: str
    version: str
    classes: tuple[str, ...] = Field(min_length=2)
    modality: Modality
    um_per_px: float = Field(gt=0)
    crop_px: int = Field(64, ge=16)
    shear_axis_deg: float | None = None
    objective: str = ""
    network: NetworkShape = NetworkShape()
    weights: Weights
    temperature: float = Field(1.0, gt=0)
    symmetries: int = Field(1, ge=1, le=8, description="positions of a crop, turned and mirrored, that scores combine")
    training: Training
    validation: Validation | None = None
    cell_confusion: CellConfusion | None = None
    score_shares: tuple[float, ...] | None = Field(
        None, description="class shares under which the scores hold: those that training saw, oversampling included"
    )
    calibration: CalibrationFile | None = None
    strangers: StrangerLimits | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Card:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must differ")
        if self.cell_confusion and any(
            len(row) != len(self.classes) + 1 for table in self.cell_confusion.counts for row in table
        ):
            raise ValueError("cell_confusion needs a column a class and one for 'abstain'")
        if (shares := self.score_shares) is not None:
            if len(shares) != len(self.classes) or min(shares) <= 0 or abs(sum(shares) - 1.0) > 1e-6:
                raise ValueError("score_shares needs a share above 0 for each class, and they sum to 1")
        if (kept := self.calibration) is not None:
            if kept.kinds[: len(self.classes)] != self.classes or len(kept.counts) != len(kept.kinds):
                raise ValueError("calibration.kinds must begin with the classes, and have a count each")
        return self

    @property
    def geometry(self) -> CropGeometry:
        """The crop geometry that the weights were trained on."""
        return CropGeometry(size_px=self.crop_px, um_per_px=self.um_per_px)

    def build(self) -> CellNet:
        """A network of the card's shape, with random weights."""
        return self.network.build(len(self.classes), self.crop_px)


def shipped_models() -> Path:
    """Where the models lie that come with the program."""
    return Path(str(resources.files("hspc_models"))) / "weights"


def find_model(name: str | Path) -> Path:
    """The folder of a model: a path with a card in it, or the name of a shipped model. Raises ModelError."""
    folder = Path(name)
    if (folder / CARD_FILE).is_file():
        return folder
    shipped = shipped_models()
    if (shipped / str(name) / CARD_FILE).is_file():
        return shipped / str(name)
    known = sorted(card.parent.name for card in shipped.glob(f"*/{CARD_FILE}"))
    raise ModelError(
        f"no model {str(name)!r}: neither a folder with {CARD_FILE} nor a shipped model ({', '.join(known) or 'none'})"
    )


def load_card(folder: Path) -> Card:
    """Read and check `folder`/card.yaml, and the SHA-256 of the weights it names. Raises ModelError."""
    card = _read_card(folder)
    _verified(folder, card)
    return card


def load_network(folder: Path) -> tuple[Card, CellNet]:
    """The card and its network with the weights loaded, float32 on the CPU, in evaluation mode. Raises ModelError."""
    import safetensors.torch

    card = _read_card(folder)
    data = _verified(folder, card)
    try:
        state = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ModelError(
            f"{folder / card.weights.file}: not a safetensors file ({error}), and nothing else is opened"
        ) from error
    network = card.build()
    fit_state(network, state, str(folder / card.weights.file))
    return card, network.eval()


def fit_state(network: CellNet, state: dict[str, Tensor], where: str) -> None:
    """Load a whole state dict, of any float dtype. Raises ModelError naming the first tensor that does not fit."""
    wanted = network.state_dict()
    for name in sorted(wanted.keys() | state.keys()):
        if name not in state or name not in wanted:
            raise ModelError(f"{where}: {name} is {'missing' if name in wanted else 'not part of the network'}")
        if state[name].shape != wanted[name].shape:
            raise ModelError(
                f"{where}: {name} has shape {tuple(state[name].shape)}, the card means {tuple(wanted[name].shape)}"
            )
    network.load_state_dict(state)


def check_fits(card: Card, rig: RigSettings, um_per_px: float) -> list[str]:
    """What of the rig contradicts the card, in words; empty when the model may judge this rig's cells.

    Crops are resampled to the card's scale, but a camera whose pixels differ by more than 10 % shows other detail and
    noise than the weights have seen. The shear's sign counts: turned by 180°, light and dark sides are swapped.
    """
    found: list[str] = []
    if rig.modality is not card.modality:
        found.append(f"modality: the rig is {rig.modality}, model {card.name} knows {card.modality}")
    if card.modality is Modality.DIC and card.shear_axis_deg is not None:
        if rig.shear_axis_deg is None:
            found.append(f"shear axis: the rig's is unknown, model {card.name} knows {card.shear_axis_deg:g}°")
        elif abs((rig.shear_axis_deg - card.shear_axis_deg + 180) % 360 - 180) > _SHEAR_TOLERANCE_DEG:
            found.append(f"shear axis: the rig's is {rig.shear_axis_deg:g}°, the model's {card.shear_axis_deg:g}°")
    if abs(um_per_px / card.um_per_px - 1) > SCALE_TOLERANCE:
        found.append(f"scale: the camera has {um_per_px:g} µm/px, the model {card.um_per_px:g} µm/px")
    if card.objective and rig.objective and card.objective != rig.objective:
        found.append(f"objective: the rig has {rig.objective}, the model was trained with {card.objective}")
    return found


def write_card(folder: Path, card: Card) -> None:
    """Write `folder`/card.yaml."""
    text = yaml.safe_dump(card.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    (folder / CARD_FILE).write_text(text, encoding="utf-8")


def _read_card(folder: Path) -> Card:
    """The card without a look at its weights."""
    path = folder / CARD_FILE
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Card.model_validate(content)
    except OSError as error:
        raise ModelError(f"{path}: cannot read the card: {error.strerror or error}") from error
    except yaml.YAMLError as error:
        raise ModelError(f"{path}: not YAML: {error}") from error
    except ValidationError as error:
        lines = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'card'}: {e['msg']}" for e in error.errors())
        raise ModelError(f"{path}: {lines}") from error


def _verified(folder: Path, card: Card) -> bytes:
    """The bytes of the weights, whose hash is the card's: what was hashed is what is read."""
    path = folder / card.weights.file
    if path.parent != folder:
        raise ModelError(f"{folder / CARD_FILE}: weights.file must lie beside the card, not at {card.weights.file}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot read the weights: {error.strerror or error}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != card.weights.sha256:
        raise ModelError(f"{path}: SHA-256 is {found}, the card expects {card.weights.sha256}")
    return data
