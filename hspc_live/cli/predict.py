"""predict: a classifier on an unlabelled population; shares, scores, and the fluorescence of each predicted class."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from hspc_live.cli.bars import counted_bar
from hspc_live.cli.execute import make_out
from hspc_live.cli.light import about_brightest, glow_files, glow_panel, light_of_classes
from hspc_live.cli.options import Json, UmPerPx
from hspc_live.cli.output import emit, percent, print_files, progress, screen
from hspc_live.report.page import Panel, write_page
from hspc_live.report.prediction_figures import ABSTAINED, Share, shares_figure, thresholds_figure
from hspc_live.report.saving import save_both


def predict(
    model_dir: Annotated[str, typer.Argument(help="Folder of a model, or the name of a shipped one.")],
    data: Annotated[
        Path, typer.Option("--data", metavar="FILE", help="Crops, labelled or not: any source of `dataset make`.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="New or empty folder for tables and figures.")],
    threshold: Annotated[
        list[float] | None,
        typer.Option(min=0, max=1, help="Score from which a cell is called; several times. Else the paper's four."),
    ] = None,
    prevalence: Annotated[
        list[str] | None,
        typer.Option(metavar="CLASS=SHARE,...", help="What the population is declared to consist of."),
    ] = None,
    top: Annotated[
        float, typer.Option(min=0.001, max=100, help="List the brightest so many per cent of the cells.")
    ] = 3.0,
    um_per_px: UmPerPx = None,
    group_by: Annotated[
        str | None, typer.Option("--group-by", metavar="COLUMN", help="What intervals count as one: mouse, experiment.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a population: class shares, scores and thresholds, and where there is fluorescence, what shines."""
    from hspc_models.apply import apply_model
    from hspc_models.evaluate import THRESHOLDS
    from hspc_models.population import corrected_by_card, declared_shares, shares_at
    from hspc_models.prediction_table import TABLE, write_predictions
    from hspc_models.prevalence import reweighted_scores
    from hspc_models.readers import read_any

    applied = apply_model(model_dir, read_any(data, group_by=group_by, um_per_px=um_per_px))
    card, crops = applied.card, applied.crops
    declared = declared_shares(prevalence or [], card.classes)
    make_out(out)
    notes = list(applied.notes)
    thresholds = sorted(set(threshold or THRESHOLDS))
    with counted_bar("scored", len(crops)) as tell:
        as_scored = applied.scores_of(done=tell)
    raw = as_scored.argmax(axis=1)
    scores = as_scored
    if declared is not None:
        scores = reweighted_scores(as_scored, np.full(len(card.classes), 1 / len(card.classes)), declared)
        notes.append("scores were made for equal shares of the classes, and are brought to the declared ones (Bayes)")
    predicted = scores.argmax(axis=1)
    units = applied.units()
    if crops.cells is not None and (cells := len(np.unique(crops.cells))) < len(crops):
        notes.append(f"{len(crops)} crops of {cells} cells: every crop counts")
    everything = shares_at(scores, 0.0, card.classes, units)
    steps = [shares_at(scores, one, card.classes, units) for one in thresholds]
    corrected, doubt = corrected_by_card(raw, card, units)
    notes += [doubt] if doubt else []
    if declared is not None and corrected is not None:
        notes += [
            f"{name}: {percent(share)} is declared, but the predictions say {percent(one.low)} to {percent(one.high)}"
            for name, share, one in zip(card.classes, declared.tolist(), corrected.shares, strict=True)
            if not one.low <= share <= one.high
        ]
    result: dict[str, Any] = {
        "model": card.name,
        "model_dir": str(applied.folder),
        "data": str(data),
        "n": len(crops),
        "shares": {name: rate.rate for name, rate in everything.shares.items()},
        "share_intervals": {name: [rate.low, rate.high] for name, rate in everything.shares.items()},
        "counts": dict(zip(card.classes, np.bincount(predicted, minlength=len(card.classes)).tolist(), strict=True)),
        "corrected_shares": None
        if corrected is None
        else {name: one.to_json() for name, one in zip(card.classes, corrected.shares, strict=True)},
        "correction_condition": None if corrected is None else corrected.to_json()["condition"],
        "declared_shares": None if declared is None else dict(zip(card.classes, declared.tolist(), strict=True)),
        "thresholds": [step.to_json() for step in steps],
        "intervals_over": applied.unit_words(),
    }
    files = [write_predictions(out / TABLE, applied, scores)]
    result["fluorescence"] = {}
    panels: list[Panel] = []
    source = f"{card.name} {card.version} on {data.name}"
    for channel, values in crops.fluorescence.items():
        if not np.isfinite(values).any():
            notes.append(f"{channel}: no cell was measured")
            continue
        result["fluorescence"][channel] = light_of_classes(values, scores, thresholds, card.classes, top)
        written = glow_files(out, applied, channel, values, scores, predicted, result["fluorescence"][channel], source)
        files += written
        panels.append(glow_panel(channel, result["fluorescence"][channel], written))
    result["notes"] = notes
    drawn = _share_files(out, result, thresholds, scores, predicted, card.classes, source)
    panels = [_share_panel(result, drawn), *panels, *([Panel("Notes", tuple(notes))] if notes else [])]
    files += [
        *drawn,
        *write_page(out, f"A population seen by {card.name}", f"{source}, n = {len(crops)}", panels, result),
    ]
    result["predictions"] = str(files[0])
    result["files"] = [str(path) for path in files]
    for note in notes:
        progress.print(f"note: {note}", markup=False)
    if as_json:
        emit(result)
    else:
        _say(result)
        print_files(files)


def _share_files(
    out: Path,
    result: dict[str, Any],
    thresholds: list[float],
    scores: NDArray[np.float64],
    predicted: NDArray[np.intp],
    classes: tuple[str, ...],
    source: str,
) -> list[Path]:
    raw = {name: Share(result["shares"][name], *result["share_intervals"][name]) for name in classes}
    corrected = None
    if (found := result["corrected_shares"]) is not None:
        ends = {name: (one["value"], one["low"], one["high"]) for name, one in found.items()}
        corrected = {name: Share(value, *(value if end is None else end for end in rest))
                     for name, (value, *rest) in ends.items()}  # fmt: skip
    declared = result["declared_shares"] is not None
    files = save_both(shares_figure(raw, corrected, result["n"], declared, source), out, "shares")
    best = scores.max(axis=1)
    counts = []
    for one in thresholds:
        called = predicted[best >= one]
        by_class = dict(zip(classes, np.bincount(called, minlength=len(classes)).tolist(), strict=True))
        counts.append(by_class | {ABSTAINED: len(best) - len(called)})
    by_predicted = {name: best[predicted == column] for column, name in enumerate(classes)}
    return files + save_both(thresholds_figure(counts, thresholds, by_predicted, source), out, "thresholds")


def _share_panel(result: dict[str, Any], drawn: list[Path]) -> Panel:
    text = [
        "Raw shares are those of the cells called so; cells of rare classes are mostly others' mistakes. Corrected "
        "shares take off the confusion that the model's card states, and hold if each class looks here as it did there."
    ]
    for step in result["thresholds"]:
        away = step["abstained"]
        text.append(
            f"Score ≥ {step['threshold']:g}: {step['called']} cells called, {percent(away['rate'])} "
            f"({percent(away['low'])} to {percent(away['high'])}) abstained on."
        )
    return Panel(
        "Shares of the classes",
        tuple(text),
        ("class", "cells", "raw share (95 % interval)", "corrected share (95 % interval)"),
        tuple(_share_rows(result)),
        tuple(path for path in drawn if path.suffix == ".png"),
    )


def _share_rows(result: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, share in result["shares"].items():
        low, high = result["share_intervals"][name]
        corrected = "–"
        if result["corrected_shares"] is not None:
            one = result["corrected_shares"][name]
            corrected = f"{percent(one['value'])} ({percent(one['low'])} to {percent(one['high'])})"
        raw = f"{percent(share)} ({percent(low)} to {percent(high)})"
        yield name, str(result["counts"][name]), raw, corrected


def _say(result: dict[str, Any]) -> None:
    table = Table(title=f"{result['model']} on {result['data']}: {result['n']} crops", title_justify="left")
    for head in ("class", "crops", "raw share (95 %)", "corrected (95 %)"):
        table.add_column(head, justify="left" if head == "class" else "right")
    for row in _share_rows(result):
        table.add_row(*row)
    screen.print(table)
    for step in result["thresholds"]:
        shares = ", ".join(f"{name} {percent(rate['rate'])}" for name, rate in step["shares"].items())
        screen.print(
            f"score ≥ {step['threshold']:g}: {step['called']} called ({shares}), "
            f"{percent(step['abstained']['rate'])} abstained on",
            markup=False,
        )
    for channel, found in result["fluorescence"].items():
        for line in about_brightest(found):
            screen.print(f"{channel}: {line}", markup=False)
