"""segment: the cells in still images, as JSON, label images and pictures.

`--labels` writes one uint16 PNG per image, `<stem>.png`, 0 in the background and 1…n in the order of the JSON's
`cells`; `--overlay` writes `<stem>.png` for a person to look at (`cli/still_files.py`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from pydantic import ValidationError
from rich.table import Table

from hspc_live.cli.options import Json
from hspc_live.cli.output import emit, error_json, progress, screen
from hspc_live.cli.still_files import StillFiles, own
from hspc_live.core.errors import DataLoss, HspcError, ModelError, OutputError, RecordingError, SettingsError
from hspc_live.core.protocols import Engine
from hspc_live.core.values import Modality
from hspc_live.recording.images import StillImage, image_files, read_image
from hspc_live.report import style
from hspc_live.report.field_overlay import draw_field
from hspc_live.settings.schema import TorchEager
from hspc_live.settings.segment import SegmentSettings
from hspc_live.stages.company import Doubt
from hspc_live.stages.field import FieldResult, FieldSegmenter
from hspc_live.stages.symmetry import told_by
from hspc_live.wiring import crop_geometry
from hspc_models.card import Card, find_model, load_card
from hspc_models.open_engine import open_engine

MOST_OBJECTS = 20_000  # in one image; labels are uint16
SCALE_TOLERANCE = 0.01
LEAST_UM_PER_PX, MOST_UM_PER_PX = 1e-3, 100.0
LEAST_PX = 4  # across the smallest cell: what is smaller has no outline
ALARM_WORDS = {
    "black": "the picture is black",
    "saturated": "more than half of the picture is overexposed",
    "flat": "every pixel has the same grey",
}
DOUBT_WORDS = {
    Doubt.FAINT: "things as large as cells are much fainter than the others and count as debris; look at the picture",
    Doubt.DIRTY: "there is more debris of the size of cells than there are cells; look at the picture",
    Doubt.CONTRAST: "it is not clear whether this is DIC or brightfield; say it with --modality",
}


class Reader:
    """Segments images one after the other, and classifies the accepted cells where there is a model."""

    def __init__(self, settings: SegmentSettings, modality: Modality | None, card: Card | None) -> None:
        self._settings = settings
        self._modality = modality
        self._geometry = crop_geometry(card)
        self._stages: dict[tuple[Modality, float], FieldSegmenter] = {}

    def __call__(self, image: StillImage, um_per_px: float) -> tuple[FieldResult, Modality, float]:
        """What is in one image, the modality it was taken for, and the milliseconds that took."""
        began = time.perf_counter_ns()
        modality = self._modality or Modality.DIC
        result = self._stage(modality, um_per_px).field(image.pixels)
        if self._modality is None and not result.frame.alarms:
            told = told_by(image.pixels, result)
            if told.modality is not modality:
                modality = told.modality
                result = self._stage(modality, um_per_px).field(image.pixels)
            if not told.sure:
                result = replace(result, doubts=(*result.doubts, Doubt.CONTRAST))
        return result, modality, (time.perf_counter_ns() - began) / 1e6

    def _stage(self, modality: Modality, um_per_px: float) -> FieldSegmenter:
        key = (modality, um_per_px)
        if key not in self._stages:
            self._stages[key] = FieldSegmenter(self._settings, um_per_px, modality, self._geometry)
        return self._stages[key]


def segment(
    images: Annotated[list[Path], typer.Argument(help="PNG, TIFF or OME-TIFF files, or folders of them.")],
    um_per_px: Annotated[
        float | None, typer.Option(metavar="UM", help="Pixel size in µm; OME-TIFF and ImageJ files may state it.")
    ] = None,
    modality: Annotated[
        Literal["auto", "dic", "brightfield"], typer.Option(help="auto: told from the cells' symmetry.")
    ] = "auto",
    min_um: Annotated[float, typer.Option(metavar="UM", help="Smaller objects are debris.")] = 4.5,
    max_um: Annotated[float, typer.Option(metavar="UM", help="Larger cells are found, but not accepted.")] = 16.0,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Label images, one for each image. Those that an earlier run left for the same images are removed "
            "first; any other file in their place is an error, and kept.",
        ),
    ] = None,
    overlay: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Pictures with the outlines drawn in; with files as above.")
    ] = None,
    classify: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Score the accepted cells with this model.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find the cells in still images: positions, diameters, what was rejected and why."""
    try:
        settings = SegmentSettings(min_diameter_um=min_um, max_diameter_um=max_um, max_objects=MOST_OBJECTS)
    except ValidationError as error:
        raise SettingsError(f"--min-um {min_um:g}, --max-um {max_um:g}: {error.errors()[0]['msg']}") from error
    if um_per_px is not None and not LEAST_UM_PER_PX <= um_per_px <= MOST_UM_PER_PX:
        raise SettingsError(
            f"--um-per-px {um_per_px:g}: a pixel size is a number of µm from {LEAST_UM_PER_PX:g} to {MOST_UM_PER_PX:g}"
        )
    files = image_files(images, _earlier)
    results = {file for file in files if own(file)}  # named by themselves
    targets = StillFiles([file for file in files if file not in results], labels, overlay)
    card = None if classify is None else load_card(find_model(classify))
    engine = None if classify is None else open_engine(TorchEager(model=classify))
    cv2.setNumThreads(1)
    targets.remove_earlier()
    read = Reader(settings, None if modality == "auto" else Modality(modality), card)
    done: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    first: HspcError | None = None
    for file in files:
        try:
            if file in results:
                raise RecordingError(f"{file}: no picture, but what `segment` made of one; give the picture itself")
            image = read_image(file)
            scale = _scale(image, um_per_px, settings)
            result, told, ms = read(image, scale)
            if card is not None and card.modality is not told:
                raise ModelError(
                    f"{file}: taken for a {told} image, and model {card.name} knows {card.modality}; use another "
                    "model, or say what it is with --modality"
                )
            _remark(image, result)
            scores = None if engine is None else _scores(engine, result)
            targets.write_labels(file, result.labels)
            if (path := targets.overlay_of(file)) is not None:
                _draw(path, image, result, scale, engine, scores)
        except (RecordingError, SettingsError, ModelError, OutputError) as error:  # this image's: the others are done
            if isinstance(error, OutputError):
                targets.withdraw(file)
            failed.append({"file": str(file), "error": str(error)})
            first = first or error
            if len(files) > 1:  # of a single file the command's own end says it
                progress.print(f"error: {error}", style="bold red", markup=False)
            continue
        done.append(_entry(file, image, result, scale, told, engine, scores, ms))
    end = first
    if first is not None and len(files) > 1:
        end = type(first)(f"none of the {len(files)} files could be done")
    if as_json:
        emit({"images": done, "failed": failed, **({} if done or end is None else error_json(end))})
    elif done:
        _print(done)
    if end is not None and not done:
        raise end
    if failed:
        names = ", ".join(entry["file"] for entry in failed)
        raise DataLoss(f"{len(failed)} of {len(files)} files could not be done: {names}; the others are done")


def _earlier(file: Path) -> bool:
    """Whether a file in a folder is a result of an earlier run, and so left out, which is said."""
    if found := own(file):
        progress.print(f"note: {file}: left out, since an earlier `segment` made it", style="yellow", markup=False)
    return found


def _scale(image: StillImage, asked: float | None, settings: SegmentSettings) -> float:
    """Micrometres a pixel. Raises SettingsError where neither the file nor the user says it, or where it cannot be."""
    stated = image.um_per_px
    scale = stated if asked is None else asked
    if scale is None:
        raise SettingsError(f"{image.path}: the file does not say its pixel size; give it with --um-per-px")
    smallest = settings.min_diameter_um
    if smallest < LEAST_PX * scale:
        raise SettingsError(
            f"{image.path}: at {scale:g} µm a pixel a cell of {smallest:g} µm (--min-um) is {smallest / scale:.1f} "
            f"pixels across, and {LEAST_PX} are needed; is the pixel size right?"
        )
    height, width = image.pixels.shape
    if min(height, width) * scale < smallest:
        raise SettingsError(
            f"{image.path}: the whole picture is {width * scale:.3g} × {height * scale:.3g} µm, and a cell at least "
            f"{smallest:g} µm (--min-um); is the pixel size right?"
        )
    if asked is not None and stated is not None and abs(stated / asked - 1) > SCALE_TOLERANCE:
        progress.print(
            f"{image.path}: states {stated:g} µm a pixel, --um-per-px {asked:g} overrules it",
            style="yellow", markup=False,
        )  # fmt: skip
    return scale


def _remark(image: StillImage, result: FieldResult) -> None:
    """What a person should know of how the file was read, or who finds no cells in the table."""
    words = [] if image.note is None else [image.note]
    words += [f"{ALARM_WORDS[alarm]}: nothing is found in it" for alarm in result.frame.alarms]
    words += [DOUBT_WORDS[doubt] for doubt in result.doubts]
    if result.frame.over_cap:
        words.append(f"more than {MOST_OBJECTS} objects; {result.frame.over_cap} of them are left out")
    for text in words:
        progress.print(f"note: {image.path}: {text}", style="yellow", markup=False)


def _scores(engine: Engine, result: FieldResult) -> NDArray[np.float32]:
    """Scores (accepted, classes) of one image's accepted cells, in the engine's batches."""
    crops, most = result.frame.crops, max(engine.buckets)
    parts = [engine.infer(crops[i : i + most]) for i in range(0, len(crops), most)]
    return np.concatenate(parts) if parts else np.empty((0, len(engine.classes)), np.float32)


def _draw(
    path: Path, image: StillImage, result: FieldResult, um_per_px: float, engine: Engine | None,
    scores: NDArray[np.float32] | None,
) -> None:  # fmt: skip
    """One image's overlay; where there is a model, accepted cells have the colour of the class it says."""
    names: list[str] = []
    colours: list[str] = []
    key = None
    if engine is not None and scores is not None:
        of = style.class_colours(engine.classes)
        said = [engine.classes[int(row.argmax())] for row in scores]
        names = [f"{name} {row.max():.2f}" for name, row in zip(said, scores, strict=True)]
        colours = [of[name] for name in said]
        counts = Counter(said)
        key = {f"{name}: {counts[name]}": colour for name, colour in of.items() if counts[name]}
    try:
        draw_field(image.pixels, result, um_per_px, image.path.name, path, names, colours, key)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from error


def _entry(
    file: Path,
    image: StillImage,
    result: FieldResult,
    um_per_px: float,
    modality: Modality,
    engine: Engine | None,
    scores: NDArray[np.float32] | None,
    ms: float,
) -> dict[str, Any]:
    """One image's part of the JSON."""
    cells: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    unused: Iterator[NDArray[np.float32]] = iter(() if scores is None else scores)
    for row, whole, reason in zip(result.frame.objects, result.whole, result.reasons, strict=True):
        place = {"x_px": round(row["x_um"] / um_per_px, 2), "y_px": round(row["y_um"] / um_per_px, 2)}
        if not whole:
            rejected.append({**place, "reason": reason})
            continue
        cell = {
            **place,
            "diameter_um": round(float(row["diameter_um"]), 3),
            "area_um2": round(float(row["area_um2"]), 3),
            "accepted": reason is None,
            "reason": reason,
        }
        if reason is None and engine is not None:
            score = next(unused)
            cell["predicted"] = engine.classes[int(score.argmax())]
            cell["scores"] = {name: round(float(s), 4) for name, s in zip(engine.classes, score, strict=True)}
        cells.append(cell)
    height, width = image.pixels.shape
    return {
        "file": str(file),
        "cells": cells,
        "rejected": rejected,
        "ms": round(ms, 3),
        "um_per_px": um_per_px,
        "width_px": width,
        "height_px": height,
        "modality": str(modality),
        "alarms": list(result.frame.alarms),
        "doubts": list(result.doubts),
        "over_cap": result.frame.over_cap,
    }


def _print(done: list[dict[str, Any]]) -> None:
    """A table of the images; by name alone where that is enough, since a folder would leave no room for it."""
    short = len({Path(image["file"]).name for image in done}) == len(done)
    scored = any("predicted" in cell for image in done for cell in image["cells"])
    heads = ("image", "contrast", "cells", "accepted", "other objects", "median µm", "ms")
    table = Table(*heads)
    table.columns[0].overflow = "fold"
    if scored:
        table.add_column("predicted", no_wrap=True)
    for image in done:
        sizes = [cell["diameter_um"] for cell in image["cells"]]
        said = Counter(cell["predicted"] for cell in image["cells"] if "predicted" in cell)
        table.add_row(
            Path(image["file"]).name if short else image["file"], image["modality"], str(len(sizes)),
            str(sum(cell["accepted"] for cell in image["cells"])), str(len(image["rejected"])),
            f"{np.median(sizes):.1f}" if sizes else "–", f"{image['ms']:.1f}",
            *(["\n".join(f"{name} {count}" for name, count in sorted(said.items()))] if scored else []),
        )  # fmt: skip
    screen.print(table)
