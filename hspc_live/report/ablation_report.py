"""The report of an ablation: models trained with crops turned and mirrored and as taken, on the same cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hspc_live.report import style
from hspc_live.report.page import Panel, write_page
from hspc_live.report.rate_marks import FIRST, SECOND, dot, fixed, foot, over, shares, short, signed
from hspc_live.report.saving import save_both
from hspc_live.report.sizes import p_words

Metrics = Mapping[str, Any]

_WORDS: Final = {"as_taken": "trained on crops as taken", "turned": "trained on crops turned and mirrored"}
_LOOKS: Final = {"as_taken": (FIRST, "o"), "turned": (SECOND, "s")}
_CELLS: Final = {"as_taken": "cells as taken", "half_a_turn": "the same cells, half a turn"}


def write_ablation(folder: Path, metrics: Metrics) -> list[Path]:
    """Write the figure (PNG, SVG), metrics.json and report.html; returns all. Raises OutputError."""
    optics = "DIC" if metrics["modality"] == "dic" else metrics["modality"]
    source = f"{metrics['model']} ({optics}); {metrics['n']:,} cells that neither model was trained on"
    files = save_both(ablation_figure(metrics, source), folder, "ablation")
    panels = [
        Panel("What was found", tuple(_findings(metrics)), figures=(files[1],)),
        Panel("Rates", (), ("trained", "judged on", "balanced accuracy", *metrics["classes"]), tuple(_rows(metrics))),
    ]
    return [
        *files,
        *write_page(folder, f"Turning and mirroring: ablation of {metrics['model']}", source, panels, metrics),
    ]


def ablation_figure(metrics: Metrics, source: str) -> Figure:
    """Left: balanced accuracy of both models on cells as taken and on the same cells turned. Right: rates per class."""
    figure = style.new_figure(5.2)
    one = metrics["comparison"]
    title = f"Turned minus as taken, balanced accuracy: {one['difference']['value']:+.3f}"
    title += f" (95 % interval {signed(one['difference'])}), {p_words(one['p'])}"
    style.heading(figure, title, source)
    left, right = figure.add_axes((0.07, 0.2, 0.34, 0.55)), figure.add_axes((0.5, 0.2, 0.47, 0.55))
    for place, judged in enumerate(_CELLS):
        for step, (name, (colour, marker)) in enumerate(_LOOKS.items()):
            value = metrics["figures"][name][judged]["balanced_accuracy"]
            dot(left, place + (step - 0.5) * 0.2, value["value"], value, colour, marker)
    _finish(left, "balanced accuracy", [f"{words}\n(n = {metrics['n']:,})" for words in _CELLS.values()])
    for place, kind in enumerate(metrics["classes"]):
        for step, (name, (colour, marker)) in enumerate(_LOOKS.items()):
            rate = metrics["figures"][name]["as_taken"]["classes"][kind]["consistency_rate"]
            dot(right, place + (step - 0.5) * 0.2, rate["rate"], rate, colour, marker)
    counts = metrics["figures"]["as_taken"]["as_taken"]["classes"]
    most = max(8, 54 // len(metrics["classes"]))
    _finish(
        right, "consistency rate", [f"{short(kind, most)}\n(n = {counts[kind]['n']:,})" for kind in metrics["classes"]]
    )
    left.axhline(metrics["chance"], color=style.GREY, lw=1, ls="--")
    left.text(1.5, metrics["chance"], "chance ", ha="right", va="bottom", fontsize=style.SMALL, color="#555555")
    for name, (colour, marker) in _LOOKS.items():
        left.plot([], [], marker, color=colour, mec=style.INK, mew=0.6, ms=7, label=_WORDS[name])
    left.legend(
        frameon=False, fontsize=style.NORMAL, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, columnspacing=1.2
    )
    foot(
        figure,
        f"Right: cells as taken. Only the model as taken is right on {one['only_first']} cells, only the turned one on "
        f"{one['only_second']}; test: {one['test']}. Bars: 95 % intervals, {over(metrics)}.",
    )
    return figure


def _finish(axes: Axes, label: str, names: list[str]) -> None:
    shares(axes, label)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_xticks(range(len(names)), names)


def _findings(metrics: Metrics) -> Iterator[str]:
    one = metrics["comparison"]
    gap = one["difference"]
    yield (
        f"Trained with crops turned by any angle and mirrored, minus trained with crops as taken: {gap['value']:+.3f} "
        f"balanced accuracy (95 % interval {signed(gap)}) on the same {metrics['n']:,} cells, {p_words(one['p'])} "
        f"({one['test']})."
    )
    if gap["low"] is not None and gap["low"] <= 0 <= gap["high"]:
        yield "The interval holds 0: these cells do not show which of the two is better."
    for name, words in _WORDS.items():
        taken, half = (metrics["figures"][name][key]["balanced_accuracy"]["value"] for key in _CELLS)
        yield f"{words.capitalize()}: {fixed(taken)}; on the same cells shown with half a turn {fixed(half)}."
    if metrics["modality"] == "dic":
        yield (
            "In DIC half a turn swaps the light and the dark side of a cell, which a microscope whose prism stays in "
            "place never shows. A model that loses much by it rests on the shear's direction, and must be used with "
            "the shear it was trained on."
        )
    yield (
        "Either model was trained once: what another seed would change is not in the interval, which is about the "
        "judged cells."
    )


def _rows(metrics: Metrics) -> Iterator[tuple[str, ...]]:
    for name, words in _WORDS.items():
        for judged, cells in _CELLS.items():
            found = metrics["figures"][name][judged]
            rates = (found["classes"][kind]["consistency_rate"] for kind in metrics["classes"])
            yield (
                words, cells, _with(found["balanced_accuracy"], "value"), *(_with(rate, "rate") for rate in rates)
            )  # fmt: skip


def _with(one: Mapping[str, Any], key: str) -> str:
    return f"{fixed(one[key])} ({fixed(one['low'])} to {fixed(one['high'])})"
