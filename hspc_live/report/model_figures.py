"""The figures of an evaluation, each as PNG and SVG: drawn from its metrics as plain data, by nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hspc_live.report import style
from hspc_live.report.comparison_figures import against_figure, beside_figure, strangers_figure
from hspc_live.report.rate_marks import (
    FIRST,
    FOOT,
    SECOND,
    Metrics,
    columns_of_text,
    dot,
    estimate_words,
    figure_words,
    fixed,
    foot,
    histogram,
    over,
    shares,
    short,
    with_interval,
)
from hspc_live.report.saving import save_both

_LINES: Final = 3
"""Classes that the text beside a figure names; the JSON has all."""


def draw_model_figures(metrics: Metrics, folder: Path, source: str) -> list[Path]:
    """Write every figure that `metrics` (an evaluation's) has the numbers for; returns the files.

    `source` says whose data it is. Raises OutputError where they cannot be written.
    """
    drawings: tuple[tuple[str, Callable[[Metrics, str], Figure | None]], ...] = (
        ("confusion", confusion_figure),
        ("rates", rates_figure),
        ("controls", controls_figure),
        ("roc", roc_figure),
        ("reliability", reliability_figure),
        ("thresholds", thresholds_figure),
        ("strangers", strangers_figure),
        ("against", against_figure),
        ("beside", beside_figure),
    )
    figures = ((name, draw(metrics, source)) for name, draw in drawings)
    return [path for name, figure in figures if figure is not None for path in save_both(figure, folder, name)]


def confusion_figure(metrics: Metrics, source: str) -> Figure:
    """Counts and row shares, classes in the card's order."""
    counts = np.array(metrics["confusion"], np.int64)
    kinds, said = metrics["confusion_rows"], metrics["confusion_columns"]
    rows, columns = counts.shape
    tall = 1.5 + 0.68 * rows
    figure = style.new_figure(tall)
    style.heading(figure, f"Predicted class against label: balanced accuracy {estimate_words(metrics)}", source)
    axes = figure.add_axes((0.2, 0.62 / tall, 0.6, 0.68 * rows / tall))
    parts = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(parts, cmap="Blues", vmin=0, vmax=1.15, aspect="auto")
    for i, j in np.ndindex(rows, columns):
        right = kinds[i] == said[j]
        axes.text(
            j, i, f"{counts[i, j]}   ({style.per_cent(float(parts[i, j]))})", ha="center", va="center",
            fontsize=style.NORMAL + 1, color="white" if parts[i, j] > 0.62 else style.INK,
            fontweight="bold" if right else "normal",
        )  # fmt: skip
        if right:
            axes.add_patch(Rectangle((j - 0.48, i - 0.46), 0.96, 0.92, fill=False, ec=SECOND, lw=1.8, zorder=3))
    axes.set_yticks(range(rows), [f"{short(k)}  (n = {n})" for k, n in zip(kinds, counts.sum(axis=1), strict=True)])
    axes.set_xticks(range(columns), [short(name, max(8, 72 // columns)) for name in said])
    axes.tick_params(labelsize=style.NORMAL + 0.5, length=0)
    axes.spines[:].set_visible(False)
    note = (
        "Rows: the label. Columns: what the model said. Counts of cells, and shares of their row; framed: consistent."
    )
    foot(figure, note)
    return figure


def rates_figure(metrics: Metrics, source: str) -> Figure:
    """Consistency rate, precision and F1 of every class, with intervals."""
    classes, figures = metrics["confusion_rows"], metrics["figures"]["classes"]
    figure = style.new_figure(4.8)
    style.heading(figure, f"Rates per class: macro F1 {figure_words(metrics, 'macro_f1')}", source)
    axes = figure.add_axes((0.07, 0.2, 0.46, 0.57))
    colours = style.class_colours(metrics["confusion_columns"])
    kinds = (("consistency_rate", "o", "consistency rate"), ("precision", "s", "precision"), ("f1", "D", "F1"))
    for place, name in enumerate(classes):
        for step, (key, marker, _) in enumerate(kinds):
            one = figures[name][key]
            dot(axes, place + (step - 1) * 0.22, one.get("rate", one.get("value")), one, colours[name], marker)
    shares(axes, "share")
    axes.axhline(metrics["chance"], color=style.GREY, lw=1, ls="--")
    axes.text(len(classes) - 0.5, metrics["chance"], " chance", color=FOOT, fontsize=style.SMALL, va="center")
    axes.set_xlim(-0.5, len(classes) - 0.5)
    most = max(8, 54 // len(classes))
    axes.set_xticks(range(len(classes)), [f"{short(name, most)}\nn = {figures[name]['n']}" for name in classes])
    for _, marker, label in kinds:
        axes.plot([], [], marker, color=style.GREY, label=label)
    axes.legend(frameon=False, fontsize=style.NORMAL, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3)
    lines: list[tuple[str, ...]] = [("class", "consistency", "precision", "F1")]
    lines += [(short(n), *(with_interval(figures[n][key]) for key, *_ in kinds)) for n in classes]
    for word in ("macro", "weighted"):
        mean = metrics["figures"][word]
        lines.append((f"{word} mean", *(with_interval(mean[key]) for key in ("recall", "precision", "f1"))))
    columns_of_text(figure, lines, (0.58, 0.69, 0.795, 0.9))
    foot(figure, f"Bars: 95 % intervals, {over(metrics)}. Chance: a guess among the model's classes, each as often.")
    return figure


def controls_figure(metrics: Metrics, source: str) -> Figure | None:
    """The network beside simpler classifiers on the same cells."""
    controls = metrics.get("controls") or {}
    if "classifiers" not in controls:
        return None
    found = controls["classifiers"]
    figure = style.new_figure(1.6 + 0.5 * len(found))
    style.heading(figure, f"What simpler classifiers get from the same {controls['n']} cells", source)
    tall = figure.get_figheight()
    axes = figure.add_axes((0.2, 0.78 / tall, 0.5, (tall - 1.5) / tall))
    for place, (name, one) in enumerate(found.items()):
        value = one["balanced_accuracy"]
        colour = FIRST if name == "network" else SECOND if name.startswith("background") else style.GREY
        dot(axes, place, value["value"], value, colour, "o", across=True)
        words = f"{with_interval(value)}{'' if one['above_chance'] else '  not above chance'}"
        axes.text(1.03, place, words, transform=axes.get_yaxis_transform(), va="center", fontsize=style.NORMAL)
    axes.axvline(controls["chance"], color=style.GREY, lw=1, ls="--")
    axes.set_yticks(range(len(found)), list(found))
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_xlabel("balanced accuracy")
    style.plain(axes)
    how = "by group" if controls["by"] == "group" else "at random, copies kept together"
    note = (
        f"Dashed: chance. All but the network are cross-validated on these cells ({controls['folds']} folds, {how}). "
    )
    foot(figure, note + f"Bars: 95 % intervals, {over(metrics)}.")
    return figure


def roc_figure(metrics: Metrics, source: str) -> Figure | None:
    """Each class against the rest."""
    curves = {name: one for name, one in metrics["roc"].items() if one["auc"]["value"] is not None}
    if not curves:
        return None
    figure = style.new_figure(6.2)
    style.heading(figure, "Receiver operating characteristic, each class against the rest", source)
    axes = figure.add_axes((0.07, 0.12, 0.345, 0.76))
    colours = style.class_colours(metrics["confusion_columns"])
    styles = ("-", "--", "-.", ":")
    lines = [("class", "AUC (95 % interval)", "cells", "others")]
    for place, (name, one) in enumerate(curves.items()):
        axes.plot(
            one["false_positive"],
            one["true_positive"],
            styles[place % 4],
            color=colours[name],
            lw=2.2,
            label=short(name),
        )
        lines.append((short(name), with_interval(one["auc"]), str(one["positives"]), str(one["negatives"])))
    axes.plot([0, 1], [0, 1], color=style.PALE, lw=1, zorder=0)
    axes.set(xlim=(-0.01, 1), ylim=(0, 1.01), xlabel="share of other cells called so", ylabel="share of cells found")
    axes.set_aspect("equal")
    style.plain(axes)
    axes.legend(frameon=False, fontsize=style.NORMAL, loc="lower right")
    columns_of_text(figure, lines, (0.5, 0.66, 0.82, 0.89))
    foot(figure, f"AUC with DeLong's interval, {over(metrics)}. Grey: chance.")
    return figure


def reliability_figure(metrics: Metrics, source: str) -> Figure:
    """Does a score of 0.8 mean 80 %?"""
    calibration, bins = metrics["calibration"], metrics["calibration"]["reliability"]
    low, high = metrics["ece_interval"]
    figure = style.new_figure(6.2)
    words = f"{fixed(metrics['ece'])} (95 % interval {fixed(low)} – {fixed(high)}, n = {metrics['n']})"
    style.heading(figure, f"Calibration: expected calibration error {words}", source)
    axes = figure.add_axes((0.07, 0.12, 0.345, 0.76))
    least = min(metrics["chance"], *(one["confidence"] for one in bins), *(one["hits"]["low"] for one in bins))
    axes.plot([0, 1], [0, 1], color=style.GREY, lw=1, ls="--")
    for one in bins:
        dot(axes, one["confidence"], one["hits"]["rate"], one["hits"], FIRST, "o")
    start = max(0.0, least - 0.05)
    axes.set(xlim=(start, 1.01), ylim=(start, 1.01), xlabel="mean best score", ylabel="share of consistent cells")
    axes.set_aspect("equal")
    style.plain(axes)
    beside = figure.add_axes((0.52, 0.45, 0.45, 0.38))
    histogram(beside, metrics)
    lines = [
        ("temperature of the card", fixed(calibration["temperature"])),
        ("temperature that would fit these cells", fixed(calibration["temperature_that_would_fit"])),
        ("calibration error of perfect scores, by chance", fixed(calibration["ece_by_chance"])),
        *(
            (f"calibration error of {short(n)}", fixed(v))
            for n, v in list(calibration["ece_by_class"].items())[:_LINES]
        ),
    ]
    columns_of_text(figure, lines, (0.52, 0.86), top=0.33)
    note = "Bins hold equally many cells. Points below the dashed line: the model is surer than it should be. "
    foot(figure, note + "Bars: Wilson's 95 % intervals.")
    return figure


def thresholds_figure(metrics: Metrics, source: str) -> Figure:
    """What a score threshold costs and gives."""
    curve, steps = metrics["abstention"], metrics["thresholds"]
    figure = style.new_figure(5.4)
    style.heading(figure, "Score thresholds: what is kept, and how much of it is consistent", source)
    axes = figure.add_axes((0.07, 0.15, 0.48, 0.7))
    axes.plot(curve["threshold"], curve["kept"], color=FIRST, lw=2.2, label="cells kept")
    accuracy = np.array([np.nan if value is None else value for value in curve["accuracy"]], float)
    axes.plot(curve["threshold"], accuracy, "--", color=SECOND, lw=2.2, label="consistent among the kept")
    for one in steps:
        axes.axvline(one["threshold"], color=style.PALE, lw=1, zorder=0)
        dot(axes, one["threshold"], one["kept"]["rate"], one["kept"], FIRST, "o")
        if one["accuracy"]["n"]:
            dot(axes, one["threshold"], one["accuracy"]["rate"], one["accuracy"], SECOND, "s")
    shares(axes, "share of cells")
    axes.set_xlim(metrics["chance"] - 0.02, 1.0)
    axes.set_xticks([one["threshold"] for one in steps], [f"{one['threshold']:g}" for one in steps])
    axes.set_xlabel("least score")
    axes.legend(frameon=False, fontsize=style.NORMAL, loc="lower left")
    lines = [("threshold", "kept", "balanced accuracy", "consistent")]
    for one in steps:
        kept = f"{style.per_cent(one['kept']['rate'], 1)}"
        rate = with_interval(one["accuracy"]) if one["accuracy"]["n"] else "–"
        lines.append((f"{one['threshold']:g}", kept, with_interval(one["balanced_accuracy"]), rate))
    columns_of_text(figure, lines, (0.59, 0.66, 0.72, 0.87))
    histogram(figure.add_axes((0.6, 0.15, 0.37, 0.3)), metrics)
    foot(figure, f"n = {metrics['n']} cells. Marked: the paper's thresholds, with 95 % intervals.")
    return figure
