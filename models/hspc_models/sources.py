"""Where training and evaluation get their crops from: the digital twin, or files of labelled crops."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, assert_never, cast

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.crop import CropGeometry
from hspc_live.core.errors import SettingsError
from hspc_live.core.values import Pixels
from hspc_live.twin.cells import KINDS
from hspc_live.twin.samples import sample_crops
from hspc_models.dataset import LabelledCrops
from hspc_models.films import film
from hspc_models.fitting import fitted
from hspc_models.readers import read_any
from hspc_models.splits import folds, holdout
from hspc_models.train_settings import FileSource, TrainSettings, TwinSource

# Seeds of cells that training must never draw; far from the small ones that people give their runs.
_VALIDATION_SEED = 500_000_000
_BASELINE_SEED = 600_000_000
_FILM_SEED = 700_000_000
_CALIBRATION_SEED = 800_000_000


class CropSource(Protocol):
    """Labelled crops for one training run. Names beyond the classes are strangers.

    `groups_are_cells`: the groups of `test` are single cells (else mice, experiments, or whatever was filed). `about`
    says what is trained on; `fingerprint` changes with it. `remarks` are for the person who trains.
    """

    groups_are_cells: bool
    about: str
    remarks: tuple[str, ...]
    fingerprint: str

    def epoch(self, number: int) -> LabelledCrops:
        """What epoch `number` is trained on, labels in the order of the classes."""
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

    def calibration(self) -> LabelledCrops | None:
        """Views of yet other cells, for promises to rest on; None where there are none to spare."""
        ...

    def shares(self) -> NDArray[np.float64]:
        """Class shares (classes,) of an epoch, before any oversampling."""
        ...


class TwinCrops:
    """Fresh cells of the twin for every epoch; tests on films that went through the real segmentation.

    A class that the twin does not have is played by one of its kinds; classes played by the same kind do not differ.
    Raises SettingsError for a class or stranger that the twin knows nothing of.
    """

    groups_are_cells = True

    def __init__(self, source: TwinSource, classes: tuple[str, ...], geometry: CropGeometry, seed: int) -> None:
        self._source = source
        self._classes = classes
        self._actors = tuple(source.played_by.get(name, name) for name in classes)
        self._geometry = geometry
        self._seed = seed
        for name in source.played_by:
            if name in KINDS or name not in classes:
                raise SettingsError(f"source.played_by: {name} must be one of the classes, not a kind of the twin")
        for name, kind in [*zip(classes, self._actors, strict=True), *((name, name) for name in source.strangers)]:
            if kind not in KINDS:
                raise SettingsError(
                    f"source: the digital twin has no {name}; it knows {', '.join(KINDS)}; name one of these in "
                    "source.played_by, or take real crops with --data FILE"
                )
        played = zip(classes, self._actors, strict=True)
        cast_list = ", ".join(f"{kind} as {name}" for name, kind in played if name != kind)
        self.about = "cells of the digital twin, fresh in every epoch" + (f" ({cast_list})" if cast_list else "")
        self.remarks: tuple[str, ...] = (f"the digital twin: {cast_list}",) if cast_list else ()
        self.fingerprint = "twin"

    def epoch(self, number: int) -> LabelledCrops:
        """New cells, in equal shares of the classes, and the settings' share of strangers."""
        strangers = round(self._source.stranger_share * self._source.crops) if self._source.strangers else 0
        seed = self._seed * 10_000 + number
        cells = self._cells(self._source.crops - strangers, seed)
        if not strangers:
            return cells
        others = self._draw(strangers, seed + 5_000, self._source.strangers)
        return replace(
            cells,
            images=cast("Pixels", np.concatenate((cells.images, others.images))),
            labels=np.concatenate((cells.labels, others.labels + len(cells.names))),
            names=cells.names + others.names,
            groups=np.concatenate((cells.groups, others.groups + len(cells))),
        )

    def validation(self) -> LabelledCrops:
        """Single looks at cells of the classes."""
        return self._cells(self._source.validation, _VALIDATION_SEED + self._seed)

    def baseline(self) -> LabelledCrops:
        """As much as one epoch, without strangers."""
        return self._cells(self._source.crops, _BASELINE_SEED + self._seed)

    def test(self) -> LabelledCrops:
        """Films with everything that flows in them, at the settings' mix."""
        return self._films(self._source.films, _FILM_SEED + self._seed * 100)

    def calibration(self) -> LabelledCrops | None:
        """Films of other seeds; promises must not rest on the cells that they are judged by."""
        wanted = self._source.calibration_films
        return self._films(wanted, _CALIBRATION_SEED + self._seed * 1000) if wanted else None

    def shares(self) -> NDArray[np.float64]:
        """Equal ones: the classes are drawn in turn."""
        return np.full(len(self._classes), 1.0 / len(self._classes))

    def _films(self, films: int, seed: int) -> LabelledCrops:
        source = self._source
        parts = []
        for number in range(films):
            twin = source.twin.model_copy(update={"seed": seed + number, "events_per_s": source.film_events_per_s})
            parts.append(film(twin, source.segment, source.background, self._geometry, source.film_frames))
        return self._renamed(
            replace(
                parts[0],
                images=cast("Pixels", np.concatenate([part.images for part in parts])),
                labels=np.concatenate([part.labels for part in parts]),
                groups=np.concatenate([part.groups + number * 1_000_000 for number, part in enumerate(parts)]),
                provenance=f"{films} films of {source.film_frames} frames of the digital twin, segmented",
            )
        )

    def _renamed(self, seen: LabelledCrops) -> LabelledCrops:
        """The twin's kinds under the names of the classes they play; of several, each cell gets one."""
        if self._actors == self._classes:
            return seen
        names = self._classes + tuple(name for name in seen.names if name not in self._classes)
        labels = np.empty_like(seen.labels)
        for index, kind in enumerate(seen.names):
            played = [number for number, actor in enumerate(self._actors) if actor == kind] or [names.index(kind)]
            mine = seen.labels == index
            labels[mine] = np.asarray(played)[seen.groups[mine] % len(played)]
        return replace(seen, labels=labels, names=names)

    def _cells(self, n: int, seed: int) -> LabelledCrops:
        """Cells of the classes in equal shares: n crops, in turn."""
        return replace(self._draw(n, seed, self._actors), names=self._classes)

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
    """Crops from files; what is validated on is also what the figures come from. Labels are in the classes' order."""

    groups_are_cells = False

    def __init__(self, train: LabelledCrops, validation: LabelledCrops, file: str, remarks: Sequence[str] = ()) -> None:
        self._train = train
        self._validation = validation
        counts = np.bincount(train.labels, minlength=len(train.names)).tolist()
        cells = ", ".join(f"{name} {count}" for name, count in zip(train.names, counts, strict=True))
        self.about = f"{file}: {len(train)} crops ({cells})"
        judges = f"{len(validation)} others judge" if len(validation) else "nothing is held out"
        self.remarks: tuple[str, ...] = (f"learning from {self.about}; {judges}", *remarks)
        self.fingerprint = hashlib.sha256(train.images.tobytes() + train.labels.tobytes()).hexdigest()

    def epoch(self, number: int) -> LabelledCrops:
        """All that is trained on, whatever the epoch."""
        del number
        return self._train

    def validation(self) -> LabelledCrops:
        """What was held out."""
        return self._validation

    def baseline(self) -> LabelledCrops:
        """What is trained on."""
        return self._train

    def test(self) -> LabelledCrops:
        """What was held out."""
        return self._validation

    def calibration(self) -> LabelledCrops | None:
        """None: the temperature saw what was held out. `hspc-live evaluate --calibrate` takes other cells."""
        return None

    def shares(self) -> NDArray[np.float64]:
        """Those of what is trained on."""
        return np.bincount(self._train.labels, minlength=len(self._train.names)) / len(self._train)


def open_source(settings: TrainSettings) -> CropSource:
    """The crops that `settings` name.

    Raises SettingsError for what the twin does not have; RecordingError for files that cannot be read, classes they do
    not have, or crops that cannot be split.
    """
    geometry = _geometry(settings)
    match settings.source:
        case TwinSource() as source:
            return TwinCrops(source, settings.classes, geometry, settings.seed)
        case FileSource() as source:
            read, remarks = _read(source, settings.classes, geometry, source.data)
            if source.validation is None:
                learnt, judged = holdout(read, source.holdout, settings.seed, source.by)
                return FiledCrops(read.take(learnt), read.take(judged), source.data.name, remarks)
            validation, more = _read(source, settings.classes, geometry, source.validation)
            return FiledCrops(read, validation, source.data.name, [*remarks, *more])
        case _:
            assert_never(settings.source)


def open_whole(settings: TrainSettings) -> FiledCrops:
    """All filed crops to learn from, and none to judge. Raises as `open_source`."""
    source = settings.source
    if not isinstance(source, FileSource):
        raise SettingsError("the twin has fresh cells for every run: there is nothing held out to learn from as well")
    read, _ = _read(source, settings.classes, _geometry(settings), source.data)
    return FiledCrops(read, read.take(np.empty(0, np.int64)), source.data.name)


def open_folds(settings: TrainSettings, k: int) -> list[tuple[FiledCrops, NDArray[np.int64]]]:
    """`k` sources of filed crops, each with the rows (of the classes' crops) that judge it. Raises as `open_source`."""
    source = settings.source
    if not isinstance(source, FileSource):
        raise SettingsError(
            "cross-validation needs a file of crops: the twin has fresh cells for every run; add --data"
        )
    read, remarks = _read(source, settings.classes, _geometry(settings), source.data)
    return [
        (FiledCrops(read.take(learnt), read.take(judged), source.data.name, remarks), judged)
        for learnt, judged in folds(read, k, settings.seed, source.by)
    ]


def _geometry(settings: TrainSettings) -> CropGeometry:
    return CropGeometry(size_px=settings.crop_px, um_per_px=settings.um_per_px)


def _read(
    source: FileSource, classes: tuple[str, ...], geometry: CropGeometry, path: Path
) -> tuple[LabelledCrops, list[str]]:
    """The crops of the classes in `path`, at the model's geometry; and what a person should know of that."""
    everything = read_any(path, group_by=source.group_by, geometry=geometry)
    if str(path) not in everything.provenance:  # what is wrong with it must name the file
        of = "" if everything.provenance == path.name else f" ({everything.provenance})"
        everything = replace(everything, provenance=f"{path}{of}")
    crops, text = fitted(everything.in_order(classes), geometry)
    said = [note.removeprefix(f"{path.name}: ") for note in (*everything.notes, text) if note]
    remarks = [f"{path.name}: {note}" for note in said]
    if left := len(everything) - len(crops):
        others = ", ".join(name for name in everything.names if name not in classes) or "no class"
        remarks.append(f"{path.name}: {left} crops are of other classes and left out: {others}")
    return crops, remarks
