"""The report of a learning curve as one page: what doubling the data would give, and how far that is to be believed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hspc_live.report.page import Panel, write_page

Metrics = Mapping[str, Any]

_HEAD = ("classifier", "crops", "trainings", "mean (95 % interval)", "each")


def write_learning_curve_page(folder: Path, metrics: Metrics, figures: Sequence[Path], source: str) -> list[Path]:
    """Write metrics.json and report.html from the command's metrics and the figure of them. Raises OutputError."""
    drawn = tuple(path for path in figures if path.suffix == ".svg")
    panels = [
        Panel("What was found", tuple(findings(metrics)), figures=drawn),
        Panel("Every size", (), _HEAD, tuple(_rows(metrics))),
        Panel("How it was made", tuple(_made(metrics))),
    ]  # fmt: skip
    return write_page(folder, f"Learning curve of {metrics['model']}", source, panels, metrics)


def findings(metrics: Metrics) -> Iterator[str]:
    """A sentence or two for each classifier."""
    for name, one in metrics["classifiers"].items():
        fit = one["fit"]
        if fit is None:
            yield f"{name}: no fit, for {one['why_no_fit']}."
            continue
        twice, gain = fit["at_twice"], fit["gain_by_doubling"]
        words = (
            f"{name}: {fit['at_all']['value']:.3f} by the law at {fit['scale']:,.0f} crops, {twice['value']:.3f} "
            f"({twice['low']:.3f} to {twice['high']:.3f}) foretold at {twice['crops']:,.0f}: doubling adds "
            f"{gain['value']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"
        )
        yield words + ("." if fit["tells"] else ". The fit does not tell.")
        yield from (f"{name}: {remark}." for remark in fit["remarks"])
        if (seen := one["foreseen"]) is not None:
            yield (
                f"{name}: the law of the {seen['sizes']} sizes up to half of the crops foretold {seen['value']:.3f} "
                f"({seen['low']:.3f} to {seen['high']:.3f}) at all of them; measured: {seen['measured']:.3f}, "
                f"{'within' if seen['within'] else 'OUTSIDE'} the interval."
            )
    if metrics["stopped"]:
        yield f"Not finished: {metrics['stopped']}."


def _rows(metrics: Metrics) -> Iterator[tuple[str, ...]]:
    for name, one in metrics["classifiers"].items():
        for point in one["points"]:
            mean = point["mean"]
            spread = "" if mean["low"] is None else f" ({mean['low']:.3f} to {mean['high']:.3f})"
            each = ", ".join(f"{value:.3f}" for value in point["values"])
            yield name, f"{point['crops']:,.0f}", str(point["repeats"]), f"{mean['value']:.3f}{spread}", each


def _made(metrics: Metrics) -> Iterator[str]:
    judged, trainings = metrics["judged"], metrics["trainings"]
    over = "" if judged["units"] == "cells" else f", in {judged['n_units']} {judged['units']}"
    yield (
        f"Crops: {metrics['data']}. Of these the sizes are drawn; {metrics['n_judged']:,} others{over}, the same for "
        "every training, judge."
    )
    what = (
        "whole groups are drawn, so the curve says what more groups (mice, experiments) would give"
        if metrics["draw"] == "groups"
        else "cells are drawn from all groups, every class by its share, so the curve says what more cells of the same "
        "mice and experiments would give, not what others would"
    )
    yield f"Draws: within a repeat the sizes are nested, repeats are drawn independently; {what}."
    yield (
        f"Network: recipe {metrics['recipe']}, {metrics['epochs']} epochs of all crops, the same number of "
        f"{metrics['same']} at every size"
        + (
            f"; the recipe itself has {metrics['recipe_epochs']}, so a full training reaches more than this curve."
            if metrics["epochs"] < metrics["recipe_epochs"]
            else "."
        )
    )
    yield (
        "Law: balanced accuracy = a + b · n^−c with b ≤ 0 and a ≤ 1 (Cortes et al. 1994; Figueroa et al. 2012), by "
        "least squares through the means. Its intervals redraw the repeats and the judged cells."
    )
    budget = metrics["budget"]
    asked = "no budget" if budget["minutes"] is None else f"a budget of {budget['minutes']:g} minutes"
    yield (
        f"{trainings['done']} of {trainings['planned']} draws are done; this start took "
        f"{budget['used_minutes']:.1f} minutes of {asked}."
    )
    yield from metrics["remarks"]
