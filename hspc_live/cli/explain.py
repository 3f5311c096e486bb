"""explain: what a classifier looks at (Score-CAM), and what it makes of the pictures (PCA)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer
from rich.table import Table

from hspc_live.cli.bars import counted_bar
from hspc_live.cli.execute import make_out
from hspc_live.cli.options import Json, Out, UmPerPx
from hspc_live.cli.output import emit, percent, print_files, progress, screen
from hspc_live.core.errors import SettingsError
from hspc_live.report.attention_figures import Looked, cells_figure, means_figure, shares_figure
from hspc_live.report.page import Panel, write_page
from hspc_live.report.plane_figure import Scattered, planes_figure
from hspc_live.report.saving import save_both
from hspc_live.report.style import per_cent
from hspc_live.settings.segment import SegmentSettings

if TYPE_CHECKING:  # importing torch takes a second, which no other command here need wait for
    from hspc_models.apply import Applied
    from hspc_models.explain import ClassAttention, Layer, Maps
    from hspc_models.outlines import Masks
    from hspc_models.pca import Plane

_RAW, _FEATURES = "raw_pixels", "features"
_TITLES = {_RAW: "raw pixels", _FEATURES: "the network's features"}
_FEWEST_PLANE = 3


def explain(
    model_dir: Annotated[str, typer.Argument(help="Folder of a model, or the name of a shipped one.")],
    data: Annotated[Path, typer.Option("--data", metavar="FILE", help="Crops: any source that `dataset make` takes.")],
    per_class: Annotated[int, typer.Option(min=1, max=1000, help="Cells of each class that maps are made of.")] = 12,
    layer: Annotated[
        Literal["layer1", "layer2", "layer3", "layer4"],
        typer.Option(help="Whose maps: early layers draw finely, late ones coarsely and of more meaning."),
    ] = "layer2",
    out: Out = None,
    um_per_px: UmPerPx = None,
    group_by: Annotated[
        str | None, typer.Option("--group-by", metavar="COLUMN", help="What intervals count as one: mouse, experiment.")
    ] = None,
    plane_cells: Annotated[int, typer.Option(min=20, help="Most cells that PCA is made of.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Which cells are drawn.")] = 1,
    as_json: Json = False,
) -> None:
    """Score-CAM of each class with the share of it inside the cell's outline; PCA of raw pixels beside features."""
    from hspc_models.apply import apply_model
    from hspc_models.explain import chosen_cells, class_attention
    from hspc_models.outlines import cell_masks
    from hspc_models.readers import read_any

    applied = apply_model(model_dir, read_any(data, group_by=group_by, um_per_px=um_per_px))
    if out is not None:
        make_out(out)
    for note in applied.notes:
        progress.print(f"note: {note}", markup=False)
    card, crops = applied.card, applied.crops
    labelled = bool((applied.labels >= 0).any())
    shown = _drawn(applied, max(plane_cells, per_class * len(card.classes)), seed)
    predicted = applied.scores_of(shown).argmax(axis=1)
    by = "true class" if labelled else "predicted class"
    classes = applied.labels[shown] if labelled else predicted
    at = chosen_cells(classes, None, len(card.classes), per_class, seed)
    rows, targets = shown[at], classes[at]
    images = crops.images[rows]
    masks = cell_masks(images, card.um_per_px, card.modality, SegmentSettings())
    maps = _maps(applied, rows, targets, layer)
    units = applied.units()
    found = {
        name: class_attention(
            maps[targets == column],
            masks[targets == column],
            layer,
            None if units is None else units[rows[targets == column]],
        )
        for column, name in enumerate(card.classes)
    }
    planes = _planes(applied, shown, classes)
    result: dict[str, Any] = {
        "model": card.name,
        "model_dir": str(applied.folder),
        "data": str(data),
        "n": len(crops),
        "layer": layer,
        "cells_by": by,
        "inside_outline_fraction": {name: one.to_json()["inside"]["value"] for name, one in found.items()},
        "attention": {
            name: one.to_json() | {"predicted_so": int((predicted[at][targets == column] == column).sum())}
            for column, (name, one) in enumerate(found.items())
        },
        "pca": {name: one.to_json() for name, one in planes.items()}
        | {"n": len(shown), "chance": 1 / len(np.unique(classes[classes >= 0]))},
        "rows": {name: rows[targets == column].tolist() for column, name in enumerate(card.classes)},
        "seed": seed,
        "notes": list(applied.notes),
    }
    files: list[Path] = []
    if out is not None:
        looked = _looked(found, targets, images, maps, masks)
        files = _report(out, applied, result, looked, planes, classes, data)
        result["files"] = [str(path) for path in files]
    if as_json:
        emit(result)
    else:
        _say(result)
        print_files(files)


def _drawn(applied: Applied, most: int, seed: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Rows of crops to look at: of every class alike as far as they reach, one crop of a cell, `most` in all."""
    from hspc_models.explain import chosen_cells

    known = applied.labels if (applied.labels >= 0).any() else np.zeros(len(applied.crops), np.int64)
    kinds = int(known.max()) + 1
    rows = chosen_cells(known, applied.crops.cells, kinds, -(-most // len(np.unique(known[known >= 0]))), seed)
    if not len(rows):
        raise SettingsError("no crop to look at")
    return rows


def _maps(applied: Applied, rows: np.ndarray[Any, Any], targets: np.ndarray[Any, Any], layer: Layer) -> Maps:
    """The maps of these crops, with a word beforehand on how long they will take, from the first of them."""
    from hspc_models.explain import score_cams

    images = applied.crops.images[rows]
    began = time.monotonic()
    first = score_cams(applied.network, images[:1], targets[:1], layer)
    seconds = (time.monotonic() - began) * (len(images) - 1)
    progress.print(f"Score-CAM of {len(images)} crops: about {_duration(seconds)} more, by the first of them")
    with counted_bar("Score-CAM", len(images), 1) as tell:
        rest = score_cams(applied.network, images[1:], targets[1:], layer, lambda done: tell(1 + done))
    return np.concatenate((first, rest))


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _planes(applied: Applied, rows: np.ndarray[Any, Any], classes: np.ndarray[Any, Any]) -> dict[str, Plane]:
    """PCA of raw pixels, normalised as the network gets them, and of features; nothing of fewer than three cells."""
    from hspc_live.core.crop import normalise
    from hspc_models.apply import features_of
    from hspc_models.pca import plane

    if len(rows) < _FEWEST_PLANE:
        return {}
    images, units = applied.crops.images[rows], applied.units()
    units = None if units is None else units[rows]
    pixels = normalise(images.astype(np.float32)).reshape(len(images), -1)
    both = {_RAW: pixels, _FEATURES: features_of(applied.network, images)}
    return {name: plane(values, classes, applied.card.classes, units) for name, values in both.items()}


def _looked(
    found: dict[str, ClassAttention],
    targets: np.ndarray[Any, Any],
    images: np.ndarray[Any, Any],
    maps: Maps,
    masks: Masks,
) -> dict[str, Looked]:
    from hspc_models.explain import inside_shares

    inside = np.where(masks.any(axis=(1, 2)), inside_shares(maps, masks), np.nan)
    return {
        name: Looked(
            images[targets == column], maps[targets == column], masks[targets == column], inside[targets == column],
            one.inside.value, one.inside.low, one.inside.high, one.even, one.sharpest,
        )
        for column, (name, one) in enumerate(found.items())
    }  # fmt: skip


def _report(
    out: Path,
    applied: Applied,
    result: dict[str, Any],
    looked: dict[str, Looked],
    planes: dict[str, Plane],
    classes: np.ndarray[Any, Any],
    data: Path,
) -> list[Path]:
    card, layer = applied.card, result["layer"]
    source = f"{card.name} {card.version} on {data.name}, cells by {result['cells_by']}"
    files = save_both(cells_figure(looked, card.um_per_px, layer, source), out, "attention_cells")
    files += save_both(means_figure(looked, card.um_per_px, layer, source), out, "attention_means")
    files += save_both(shares_figure(looked, layer, source), out, "attention_inside")
    head = (
        "class",
        "n",
        "share inside (95 % interval)",
        "even attention",
        "sharpest possible",
        "enrichment",
        "left out",
    )
    panels = [
        Panel(
            "Where the attention lies",
            (
                "Score-CAM (Wang et al. 2020) shows the network copies of a crop, each masked by one of its own maps, "
                "and weighs the maps by what each copy does to the score of the class. The number is the share of a "
                "map that lies inside the cell's outline, which the segmentation of the live path found.",
                "Even attention is the share of the area that the outline has; what attention on the cell alone would "
                "show is below 100 %, because the layer draws coarsely. All crops lie as they were taken.",
            ),
            head,
            tuple(_table(result)),
            (files[4], files[0], files[2]),
        )
    ]
    if planes:
        pictures = [
            Scattered(_TITLES[name], one.places, one.explained, _clustered(one)) for name, one in planes.items()
        ]
        drawn = save_both(planes_figure(pictures, classes, card.classes, result["cells_by"], source), out, "pca")
        files += drawn
        panels.append(Panel("Before and after the network", _about_planes(result), figures=(drawn[0],)))
    if applied.notes:
        panels.append(Panel("Notes", applied.notes))
    title = f"What {card.name} looks at"
    return [*files, *write_page(out, title, source, panels, result)]


def _about_planes(result: dict[str, Any]) -> tuple[str, ...]:
    words = [
        f"Principal components of {result['pca']['n']} crops, as raw pixels (each crop to mean 0 and SD 1, as the "
        "network gets it) and as the 2,048 features that the network's head reads. The nearest ten other cells vote "
        f"on a cell's class; votes by chance reach {percent(result['pca']['chance'])}."
    ]
    if result["cells_by"] != "true class":
        words.append(
            "The cells have no true class: that features cluster by what was predicted from them proves little."
        )
    else:
        words.append("On cells that the network was trained on, features cluster more than on others.")
    return tuple(words)


def _clustered(one: Plane) -> str:
    lines = []
    for where, found in (("plane", one.in_plane), ("all dimensions", one.in_full)):
        if np.isnan(found.neighbours.value):
            continue
        said = f"{where}: {per_cent(found.neighbours.value)}"
        if not np.isnan(found.neighbours.low):
            said += f" ({per_cent(found.neighbours.low)} to {per_cent(found.neighbours.high)})"
        lines.append(f"{said} told by neighbours, silhouette {found.silhouette:+.2f}".replace("-", "−"))
    return "\n".join(lines) or "too few cells or classes to say how clustered they are"


def _table(result: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, one in result["attention"].items():
        inside, ratio = one["inside"], one["enrichment"]
        spread = "" if inside["low"] is None else f" ({percent(inside['low'])} to {percent(inside['high'])})"
        times = "–" if ratio["value"] is None else f"{ratio['value']:.2f} ×"
        left = one["no_outline"] + one["no_map"]
        even, most = percent(one["even_attention"]), percent(one["sharpest_possible"])
        rows.append((name, str(one["n"]), percent(inside["value"]) + spread, even, most, times, str(left)))
    return rows


def _say(result: dict[str, Any]) -> None:
    title = f"{result['model']} on {result['data']}: Score-CAM of {result['layer']}, cells by {result['cells_by']}"
    table = Table(title=title, title_justify="left")
    for head in ("class", "n", "inside the outline", "even", "sharpest", "enrichment", "left out"):
        table.add_column(head, justify="left" if head == "class" else "right")
    for row in _table(result):
        table.add_row(*row)
    screen.print(table)
    for name in (_RAW, _FEATURES):
        if (one := result["pca"].get(name)) is None:
            continue
        near, full = one["plane"]["neighbours_balanced_accuracy"], one["full_space"]["neighbours_balanced_accuracy"]
        screen.print(
            f"PCA of {_TITLES[name]}: ten nearest cells tell the class of {percent(near['value'])} in the plane, "
            f"{percent(full['value'])} in the whole space (chance {percent(result['pca']['chance'])})"
        )
