"""dataset: crops from any source into the one file that training reads, and what is to be known of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Table

from hspc_live.cli.execute import make_out
from hspc_live.cli.options import Json, Out, UmPerPx
from hspc_live.cli.output import emit, percent, print_files, progress, screen
from hspc_live.core.crop import CropGeometry
from hspc_live.core.errors import OutputError, SettingsError
from hspc_live.report.dataset_report import write_dataset
from hspc_live.report.page import metrics_text

if TYPE_CHECKING:  # scipy's transforms take a while, which no other command here need wait for
    from hspc_models.dataset import LabelledCrops
    from hspc_models.duplicates import Duplicates

app = typer.Typer(
    help="Labelled crops: make the file that training reads, and look at it before training.", no_args_is_help=True
)

GroupBy = Annotated[
    str | None,
    typer.Option("--group-by", metavar="COLUMN", help="What a split must not part: mouse, experiment, slide."),
]
Label = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN|CLASS",
        help="Where the classes are; or the one class that all crops are of; or, of recordings, decision.",
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Option("--names", metavar="NUMBER=CLASS", help="What numbers stand for, e.g. --names 0=G1,1=S."),
]


_MANY_GROUPS = 30


@app.command()
def make(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Files (.npz, .rtdc, chamber .h5, .h5 of this command), or folders with a folder of pictures a class; "
            "CLASS=SOURCE takes all crops of a source for that class.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The new file of labelled crops.")],
    um_per_px: UmPerPx = None,
    group_by: GroupBy = None,
    label: Label = None,
    names: Names = None,
    crop_px: Annotated[
        int | None, typer.Option(min=16, max=512, help="Bring all crops to so many pixels across.")
    ] = None,
    crop_um_per_px: Annotated[
        float | None, typer.Option(min=1e-3, help="… and to this scale; both go together.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make one file of labelled crops from one or several sources."""
    from hspc_models.dataset import write_crops
    from hspc_models.dataset_report import summarise
    from hspc_models.duplicates import find_duplicates
    from hspc_models.fitting import fitted
    from hspc_models.readers import joined

    if out.exists():
        raise OutputError(f"{out} exists: give a new file, nothing is ever overwritten")
    geometry = _geometry(crop_px, crop_um_per_px)
    parts, notes = [], []
    for source in sources:
        part = _read(source, group_by, label, names, um_per_px, geometry)
        if geometry is not None:
            part, done = fitted(part, geometry)
            notes += [f"{part.provenance}: {done}"] if done else []
        parts.append(part)
    crops = joined(parts)
    crops = replace(crops, notes=(*crops.notes, *notes))
    write_crops(out, crops)
    result = {"file": str(out), **summarise(crops, find_duplicates(crops.images), {}, {})}
    _say(result, as_json)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="A file of `dataset make`, or any source that it takes.")],
    out: Out = None,
    group_by: GroupBy = None,
    label: Label = None,
    names: Names = None,
    um_per_px: UmPerPx = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(metavar="CHANNEL=COUNTS", help="Light from which a cell has its signal; else 3 SD of the noise."),
    ] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS=CHANNEL", help="Which class should shine in which channel, e.g. LT-HSC=GFP."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Counts, copies, light, signal and warnings; with --out a contact sheet and a page as well."""
    from hspc_models.dataset_report import summarise
    from hspc_models.duplicates import find_duplicates

    expected = dict(_pair(text, "--expect", "CLASS=CHANNEL") for text in expect or [])
    crops = _read(str(file), group_by, label, names, um_per_px, None)
    copies = find_duplicates(crops.images)
    result = {"file": str(file), **summarise(crops, copies, _thresholds(threshold or []), expected)}
    files: list[Path] = []
    if out is not None:
        make_out(out)
        result = json.loads(metrics_text(result))  # what is drawn and printed is what is written
        files = write_dataset(out, result, crops.images, _drawn(crops, copies), _by_class(result), file.name)
        result["files"] = [str(path) for path in files]
    _say(result, as_json)
    if not as_json:
        print_files(files)


def _read(
    source: str,
    group_by: str | None,
    label: str | None,
    names: list[str] | None,
    um_per_px: float | None,
    geometry: CropGeometry | None,
) -> LabelledCrops:
    """One source as it was typed: a path, or CLASS=PATH."""
    from hspc_models.raw_crops import told_names
    from hspc_models.readers import read_any

    path = Path(source)
    if not path.exists() and "=" in source:
        name, _, rest = source.partition("=")
        if not name.strip() or not rest:
            raise SettingsError(f"{source}: write it as CLASS=SOURCE, e.g. LT-HSC=lt.rtdc")
        label, path = name.strip(), Path(rest)
    return read_any(
        path,
        group_by=group_by,
        label=label,
        names=told_names(names or []),
        um_per_px=um_per_px,
        geometry=geometry,
    )


def _geometry(crop_px: int | None, crop_um_per_px: float | None) -> CropGeometry | None:
    if crop_px is None and crop_um_per_px is None:
        return None
    if crop_px is None or crop_um_per_px is None:
        raise SettingsError("--crop-px and --crop-um-per-px go together: say how many pixels, and of how many µm")
    return CropGeometry(crop_px, crop_um_per_px)


def _drawn(crops: LabelledCrops, copies: Duplicates) -> dict[str, list[int]]:
    """Rows of each class for the contact sheet, by chance but the same every time, each picture once."""
    from hspc_live.report.contact_sheet import COLUMNS, ROWS
    from hspc_models.dataset_report import rows_by_class

    rng = np.random.default_rng(0)
    drawn = {}
    for name, rows in rows_by_class(crops).items():
        once = rows[np.unique(copies.units[rows], return_index=True)[1]]
        drawn[name] = sorted(rng.choice(once, min(len(once), ROWS * COLUMNS), replace=False).tolist())
    return drawn


def _by_class(result: dict[str, Any]) -> dict[str, int]:
    """How many crops there are of every class; those without one last, if any."""
    from hspc_models.dataset_report import UNLABELLED

    unknown = {UNLABELLED: result["unlabelled"]} if result["unlabelled"] else {}
    return {**result["classes"], **unknown}


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    left, _, right = text.rpartition("=")
    if not left.strip() or not right.strip():
        raise SettingsError(f"{option} {text}: write it as {form}")
    return left.strip(), right.strip()


def _thresholds(texts: list[str]) -> dict[str, float]:
    found = {}
    for text in texts:
        channel, counts = _pair(text, "--threshold", "CHANNEL=COUNTS")
        try:
            found[channel] = float(counts)
        except ValueError:
            raise SettingsError(f"--threshold {text}: {counts} is no number of counts") from None
    return found


def _say(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(result)
        return
    groups: dict[str, dict[str, int]] = result["groups"]
    classes = _by_class(result)
    table = Table(title=f"{result['file']}: {result['n']} crops", title_justify="left")
    for head in ("group", *classes, "all"):
        table.add_column(head, justify="left" if head == "group" else "right")
    for name, has in list(groups.items())[:_MANY_GROUPS]:
        table.add_row(name, *(str(has.get(c, 0)) for c in classes), str(sum(has.values())))
    if len(groups) > _MANY_GROUPS:
        table.add_row(f"… of {len(groups)} groups")
    table.add_section()
    table.add_row("all", *map(str, classes.values()), str(result["n"]))
    screen.print(table)
    scale = "unknown scale" if result["um_per_px"] is None else f"{result['um_per_px']:g} µm a pixel"
    light, copies = result["intensity"], result["duplicates"]
    screen.print(f"crops of {result['crop_px']} × {result['crop_px']} pixels, {result['dtype']}, {scale}")
    screen.print(f"grey values {light['low']} to {light['high']}; {light['flat']} crops without any contrast")
    screen.print(
        f"copies: {copies['exact_copies']} pixel by pixel, {copies['near_sets']} pictures shifted, turned or "
        f"brightened; {copies['different_pictures']} different pictures"
    )
    for channel, by_class in result["fluorescence"].items():
        for name, one in by_class.items():
            screen.print(
                f"{channel}, {name}: {percent(one['share'])} ({percent(one['low'])} to {percent(one['high'])}) of "
                f"{one['measured']} cells above {one['threshold']:.4g} counts",
                markup=False,
            )
    if (expected := result["expected_signal"]) is not None:
        screen.print(
            f"cells with the expected signal: {percent(expected['share'])} ({percent(expected['low'])} to "
            f"{percent(expected['high'])}), n = {expected['n']}; the paper: more than 96 %"
        )
    for note in result["notes"]:
        progress.print(f"note: {note}", markup=False)
    for warning in result["warnings"]:
        progress.print(f"warning: {warning}", style="yellow", markup=False)
