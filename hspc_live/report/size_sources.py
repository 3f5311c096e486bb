"""Diameters by class, out of whatever holds them: recordings, the JSON of `segment`, CSV tables, picking lists."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hspc_live.core.chamber import ChamberOutcome
from hspc_live.core.errors import RecordingError
from hspc_live.core.values import CellOutcome, Classification
from hspc_live.recording.chamber_reader import open_chamber
from hspc_live.recording.own_file import is_chamber
from hspc_live.recording.reader import open_recording
from hspc_live.recording.tables import cell_records
from hspc_live.report.evidence import TWIN

DIAMETER_COLUMNS = ("diameter_um", "diameter (µm)", "diameter")
CLASS_COLUMNS = ("class", "predicted", "class_name", "population", "group")
PAPER_ORDER = {"lthsc": 0, "lt": 0, "sthsc": 1, "st": 1, "mpp": 2, "mpps": 2}
"""From the stem cell downwards, as the paper has them; names without case and signs."""

HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclass(slots=True)
class Sizes:
    """Diameters by class. `left_out` counts cells, by reason; `known` are the classes of models, in their order.

    `failures` are files that could not be read, in words; `missing` are images that the run of `segment` behind a file
    could not do, in words: their cells are missing from every figure. `simulated` is True once any cell came from the
    twin.
    """

    diameters_um: dict[str, list[float]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    simulated: bool = False
    known: dict[str, None] = field(default_factory=dict)

    def sort(self) -> None:
        """Put the classes in the paper's order, then in that of the models, then as they were met."""
        order = {name: place for place, name in enumerate(dict.fromkeys([*self.known, *self.diameters_um]))}

        def place(name: str) -> tuple[int, int]:
            plain = "".join(letter for letter in name.lower() if letter.isalnum())
            return PAPER_ORDER.get(plain, len(PAPER_ORDER)), order[name]

        self.diameters_um = {name: self.diameters_um[name] for name in sorted(self.diameters_um, key=place)}

    def add(self, name: str, diameter_um: float) -> None:
        """One cell."""
        self.diameters_um.setdefault(name, []).append(diameter_um)

    @property
    def source(self) -> str:
        """Whose data it is, for a title."""
        names = ", ".join(self.files[:4]) + (f" and {len(self.files) - 4} more" if len(self.files) > 4 else "")
        return f"{names} (digital twin, simulated cells)" if self.simulated else names


def read_sizes(files: Sequence[Path], groups: Sequence[tuple[str, Path]] = (), min_score: float = 0.0) -> Sizes:
    """Read `files`, each cell under the class that its file gives it, and `groups`, each file under the name given.

    A recording gives the predicted class of every classified cell whose best score is at least `min_score`, unless the
    run abstained on it. A segment JSON gives the accepted cells: with `--classify` by their predicted class, as above,
    else the folder of their image is the class. A CSV table has a
    column of diameters (`diameter_um`) and one of classes (`class`); without that, the file's name is the class.
    Classes come in the paper's order, then as their model has them, named groups as they are named.

    A file that cannot be read is put into `failures`, and the others are read. Raises RecordingError if none can.
    """
    sizes = Sizes()
    wanted: list[tuple[str | None, Path]] = [*((None, path) for path in files), *groups]
    for number, (name, path) in enumerate(wanted):
        if number == len(files):  # named groups come after them, as they were named
            sizes.sort()
        try:
            _read(path, name, min_score, sizes)
            sizes.files.append(path.name)
        except RecordingError as error:
            sizes.failures.append(str(error))
    if not groups:
        sizes.sort()
    if sizes.failures and not sizes.files:
        raise RecordingError("; ".join(sizes.failures))
    return sizes


def _read(path: Path, name: str | None, min_score: float, sizes: Sizes) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(len(HDF5))
        if not start:
            raise RecordingError(f"{path} is empty")
        if start == HDF5 and is_chamber(path):
            _chamber(path, name, min_score, sizes)
        elif start == HDF5:
            _recording(path, name, min_score, sizes)
        elif path.suffix.lower() == ".json":
            _segmented(path, name, min_score, sizes)
        else:
            _table(path, name, sizes)
    except OSError as error:
        raise RecordingError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise RecordingError(f"{path} is no recording, no JSON and no CSV table") from error


def _recording(path: Path, name: str | None, min_score: float, sizes: Sizes) -> None:
    with open_recording(path) as recording:
        if recording.kind != "hspc":
            raise RecordingError(f"{path} has no classes: it is an RT-DC file; replay it to have its cells classified")
        records = cell_records(recording)
        sizes.known.update(dict.fromkeys(recording.classes))
        sizes.simulated |= recording.info.model == TWIN
    for record in records:
        if name is None and record.outcome is CellOutcome.ABSTAINED:
            sizes.left_out["abstained on"] += 1
        else:
            _cell(record.classification, record.features, name, min_score, sizes)


def _chamber(path: Path, name: str | None, min_score: float, sizes: Sizes) -> None:
    with open_chamber(path) as recording:
        cells = recording.cells()
        sizes.known.update(dict.fromkeys(recording.classes))
        sizes.simulated |= recording.facts.camera.model == TWIN
    for cell in cells:
        if name is None and cell.outcome is ChamberOutcome.ABSTAINED:
            sizes.left_out["abstained on"] += 1
        elif cell.classification is not None:  # debris and clumps are no cells whose size could be asked for
            _cell(cell.classification, cell.features, name, min_score, sizes)


def _cell(
    found: Classification | None, features: Mapping[str, float], name: str | None, min_score: float, sizes: Sizes
) -> None:
    if name is None and found is None:
        sizes.left_out["not classified"] += 1
    elif found is not None and max(found.scores) < min_score:
        sizes.left_out[f"score below {min_score:g}"] += 1
    else:
        sizes.add(name or (found.predicted if found is not None else ""), features.get("diameter_um", math.nan))


def _segmented(path: Path, name: str | None, min_score: float, sizes: Sizes) -> None:
    try:
        segmented = json.loads(path.read_text(encoding="utf-8"))
        images = segmented["images"]
        # all of it is read before any of it is taken, so that a broken file leaves nothing behind
        rows = [
            (_class_of(path, image, cell), cell["accepted"], _number(cell["diameter_um"]), dict(cell.get("scores", {})))
            for image in images
            for cell in image.get("cells", ())
        ]
        failed = [str(image["file"]) for image in segmented.get("failed", ())]
        best = [max(map(float, scores.values()), default=math.inf) for *_, scores in rows]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordingError(f"{path} is not what `hspc-live segment --json` writes: {error!r}") from error
    if failed:
        names = ", ".join(Path(file).name for file in failed[:3]) + (", …" if len(failed) > 3 else "")
        several = f"{len(failed)} image" + "s" * (len(failed) > 1)
        sizes.missing.append(f"{path.name}: without the cells of {several} that `segment` could not do ({names})")
    for (group, accepted, diameter_um, scores), score in zip(rows, best, strict=True):
        sizes.known.update(dict.fromkeys(scores))
        if not accepted:
            sizes.left_out["not accepted by segmentation"] += 1
        elif score < min_score:
            sizes.left_out[f"score below {min_score:g}"] += 1
        else:
            sizes.add(name or group, diameter_um)


def _class_of(path: Path, image: Mapping[str, Any], cell: Mapping[str, Any]) -> str:
    """What a model says of the cell; without one the folder of its image, or the JSON's name where there is none."""
    return str(cell.get("predicted") or Path(str(image["file"])).parent.name or path.stem)


def _table(path: Path, name: str | None, sizes: Sizes) -> None:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [line for line in file if line.strip() and not line.startswith("#")]
        separator = max(",;\t", key=lines[0].count) if lines else ","
        rows = list(csv.DictReader(lines, delimiter=separator))
    except csv.Error as error:
        raise RecordingError(f"{path} is no CSV table: {error}") from error
    if not lines:
        raise RecordingError(f"{path} is empty")
    heads = {head.strip().lower(): head for head in next(csv.reader(lines[:1], delimiter=separator))}
    size = next((heads[column] for column in DIAMETER_COLUMNS if column in heads), None)
    if size is None:
        raise RecordingError(f"{path} has no column {DIAMETER_COLUMNS[0]!r}; it has {', '.join(heads)}")
    group = next((heads[column] for column in CLASS_COLUMNS if column in heads), None)
    for row in rows:
        of = name or (path.stem if group is None else (row[group] or "").strip())
        if of:
            sizes.add(of, _number(row[size]))
        else:
            sizes.left_out["no class given"] += 1


def _number(value: Any) -> float:
    """A diameter, or NaN for what is none: it is counted as unusable later on. A decimal comma will do."""
    try:
        return float(value.strip().replace(",", ".") if isinstance(value, str) else value)
    except (TypeError, ValueError):
        return math.nan
