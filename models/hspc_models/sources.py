"""Where training and evaluation get their crops from: the digital twin, or files of labelled crops."""

from __future__ import annotations

from typing import Protocol, assert_never, cast

import numpy as np

from hspc_live.core.crop import CropGeometry
from hspc_live.core.values import Pixels
from hspc_live.twin.samples import sample_crops
from hspc_models.dataset import LabelledCrops, read_crops
from hspc_models.films import film
from hspc_models.train_settings import FileSource, TrainSettings, TwinSource

# Seeds of cells that training must never draw; far from the small ones that people give their runs.
_VALIDATION_SEED = 500_000_000
_BASELINE_SEED = 600_000_000
_FILM_SEED = 700_000_000


class CropSource(Protocol):
    """Labelled crops for one training run. Names beyond the classes are strangers.

    `groups_are_cells`: the groups of `test` are single cells (else mice, experiments, or whatever was filed).
    """

    groups_are_cells: bool

    def epoch(self, number: int) -> LabelledCrops:
        """What epoch `number` is trained on."""
        ...

    def validation(self) -> LabelledCrops:
        """What every epoch is judged on, and the temperature fitted on."""
        ...

    def baseline(self) -> LabelledCrops:
        """What simpler classifiers are trained on, for comparison."""
        ...

    def test(self) -> LabelledCrops:
        """What the card's figures are taken from; the views of a cell in order of capture."""
        ...


class TwinCrops:
    """Fresh cells of the twin for every epoch; tests on films that went through the real segmentation."""

    groups_are_cells = True

    def __init__(self, source: TwinSource, classes: tuple[str, ...], geometry: CropGeometry, seed: int) -> None:
        self._source = source
        self._classes = classes
        self._geometry = geometry
        self._seed = seed

    def epoch(self, number: int) -> LabelledCrops:
        """New cells, in equal shares of the classes, and the settings' share of strangers."""
        strangers = round(self._source.stranger_share * self._source.crops) if self._source.strangers else 0
        seed = self._seed * 10_000 + number
        cells = self._draw(self._source.crops - strangers, seed, self._classes)
        if not strangers:
            return cells
        others = self._draw(strangers, seed + 5_000, self._source.strangers)
        return LabelledCrops(
            cast("Pixels", np.concatenate((cells.images, others.images))),
            np.concatenate((cells.labels, others.labels + len(cells.names))),
            cells.names + others.names,
            np.concatenate((cells.groups, others.groups + len(cells))),
            cells.um_per_px,
            cells.provenance,
        )

    def validation(self) -> LabelledCrops:
        """Single looks at cells of the classes."""
        return self._draw(self._source.validation, _VALIDATION_SEED + self._seed, self._classes)

    def baseline(self) -> LabelledCrops:
        """As much as one epoch, without strangers."""
        return self._draw(self._source.crops, _BASELINE_SEED + self._seed, self._classes)

    def test(self) -> LabelledCrops:
        """Films with everything that flows in them, at the settings' mix."""
        source = self._source
        parts = []
        for number in range(source.films):
            twin = source.twin.model_copy(
                update={"seed": _FILM_SEED + self._seed * 100 + number, "events_per_s": source.film_events_per_s}
            )
            parts.append(film(twin, source.segment, source.background, self._geometry, source.film_frames))
        return LabelledCrops(
            cast("Pixels", np.concatenate([part.images for part in parts])),
            np.concatenate([part.labels for part in parts]),
            parts[0].names,
            np.concatenate([part.groups + number * 1_000_000 for number, part in enumerate(parts)]),
            parts[0].um_per_px,
            f"{source.films} films of {source.film_frames} frames of the digital twin, segmented",
        )

    def _draw(self, n: int, seed: int, kinds: tuple[str, ...]) -> LabelledCrops:
        # the field (dust, slope of the light) changes with the seed as well, so no epoch can learn it
        twin = self._source.twin.model_copy(update={"seed": seed})
        crops = sample_crops(
            twin, n, seed, kinds=kinds, position_sd_um=self._source.position_sd_um, geometry=self._geometry
        )
        return LabelledCrops(
            crops.crops, crops.labels, crops.kinds, crops.cells, self._geometry.um_per_px, f"twin, seed {seed}"
        )


class FiledCrops:
    """Crops from two files; what is validated on is also what the card's figures come from."""

    groups_are_cells = False

    def __init__(self, source: FileSource) -> None:
        self._train = read_crops(source.train)
        self._validation = read_crops(source.validation)

    def epoch(self, number: int) -> LabelledCrops:
        """All of the training file, whatever the epoch."""
        del number
        return self._train

    def validation(self) -> LabelledCrops:
        """The validation file."""
        return self._validation

    def baseline(self) -> LabelledCrops:
        """The training file."""
        return self._train

    def test(self) -> LabelledCrops:
        """The validation file."""
        return self._validation


def open_source(settings: TrainSettings) -> CropSource:
    """The crops that `settings` name. Raises RecordingError for a file that cannot be read."""
    match settings.source:
        case TwinSource() as source:
            geometry = CropGeometry(size_px=settings.crop_px, um_per_px=settings.um_per_px)
            return TwinCrops(source, settings.classes, geometry, settings.seed)
        case FileSource() as source:
            return FiledCrops(source)
        case _:
            assert_never(settings.source)
