"""Figures that set something beside the evaluated model: strangers, another model, another data set."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from hspc_live.report import style
from hspc_live.report.rate_marks import FIRST, MARKERS, SECOND, Metrics, dot, foot, over, shares, short, signed


def strangers_figure(metrics: Metrics, source: str) -> Figure | None:
    """Of cells that are no class of the model, how many it abstains on."""
    kinds = metrics["strangers"]
    if not kinds:
        return None
    figure = style.new_figure(4.2)
    style.heading(figure, "Strangers, cells of no class of the model: how many are abstained on", source)
    axes = figure.add_axes((0.07, 0.2, 0.6, 0.6))
    colours = style.class_colours(list(kinds))
    for place, (name, one) in enumerate(kinds.items()):
        x = np.arange(len(one["abstained"])) + (place - (len(kinds) - 1) / 2) * 0.7 / len(kinds)
        for at, rate in zip(x, one["abstained"], strict=True):
            dot(axes, at, rate["rate"], rate, colours[name], MARKERS[place % 8])
        label = f"{short(name)} (n = {one['n']})"
        axes.plot([], [], MARKERS[place % 8], color=colours[name], label=label)
    steps = [rate["threshold"] for rate in next(iter(kinds.values()))["abstained"]]
    axes.set_xticks(range(len(steps)), [f"{step:g}" for step in steps])
    axes.set_xlabel("least score")
    shares(axes, "share abstained")
    axes.legend(frameon=False, fontsize=style.NORMAL, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    foot(figure, "Any class given to a stranger is wrong. Bars: Wilson's 95 % intervals.")
    return figure


def against_figure(metrics: Metrics, source: str) -> Figure | None:
    """Two models on the same cells."""
    found = metrics.get("against")
    if not found:
        return None
    comparison, difference = found["comparison"], found["comparison"]["difference"]
    figure = style.new_figure(4.6)
    words = f"{difference['value']:+.3f} (95 % interval {signed(difference)}), p = {comparison['p']:.2g}"
    style.heading(figure, f"Second model minus first, balanced accuracy: {words}", source)
    axes = figure.add_axes((0.07, 0.2, 0.58, 0.6))
    classes = metrics["confusion_rows"]
    models = (metrics["figures"], found["metrics"]["figures"])
    for place, name in enumerate(classes):
        for step, (one, marker, colour) in enumerate(zip(models, "os", (FIRST, SECOND), strict=True)):
            rate = one["classes"][name]["consistency_rate"]
            dot(axes, place + (step - 0.5) * 0.25, rate["rate"], rate, colour, marker)
    shares(axes, "consistency rate")
    axes.set_xlim(-0.5, len(classes) - 0.5)
    axes.set_xticks(range(len(classes)), [f"{short(n)}\nn = {models[0]['classes'][n]['n']}" for n in classes])
    for label, marker, colour in zip(found["models"], "os", (FIRST, SECOND), strict=True):
        axes.plot([], [], marker, color=colour, label=label)
    axes.legend(frameon=False, fontsize=style.NORMAL, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    note = (
        f"Only the first is right on {comparison['only_first']} cells, only the second on {comparison['only_second']}; "
    )
    foot(figure, f"{note}test: {comparison['test']}. Bars: 95 % intervals, {over(metrics)}.")
    return figure


def beside_figure(metrics: Metrics, source: str) -> Figure | None:
    """One model on two data sets: predicted shares, and consistency rates where both are labelled."""
    found = metrics.get("beside")
    if not found:
        return None
    panels = [("shares", "share of cells predicted")]
    panels += [("consistency_rate", "consistency rate")] if found.get("consistency_rate") else []
    figure = style.new_figure(5.0)
    style.heading(figure, "One model on two data sets", source)
    for number, (key, label) in enumerate(panels):
        axes = figure.add_axes((0.07 + 0.49 * number, 0.22, 0.41, 0.56))
        for place, (_, one) in enumerate(found[key].items()):
            top = 0.0
            for step, (rate, marker, colour) in enumerate(
                zip(one["rates"].values(), "os", (FIRST, SECOND), strict=True)
            ):
                dot(axes, place + (step - 0.5) * 0.25, rate["rate"], rate, colour, marker)
                top = max(top, rate["high"])
            axes.text(
                place,
                min(top + 0.02, 1.03),
                one["difference"]["stars"],
                ha="center",
                va="bottom",
                fontsize=style.NORMAL,
            )
        shares(axes, label)
        axes.set_xlim(-0.5, len(found[key]) - 0.5)
        counts = [
            "" if key == "shares" else "\nn = " + " / ".join(str(rate["n"]) for rate in one["rates"].values())
            for one in found[key].values()
        ]
        names_below = [short(name) + count for name, count in zip(found[key], counts, strict=True)]
        axes.set_xticks(range(len(found[key])), names_below)
        if not number:
            names = zip(found["data_sets"], found["n"], "os", (FIRST, SECOND), strict=True)
            for name, n, marker, colour in names:
                axes.plot([], [], marker, color=colour, label=f"{name} (n = {n})")
            axes.legend(frameon=False, fontsize=style.NORMAL, loc="lower left", bbox_to_anchor=(0, 1.03), ncols=2)
    note = "Fisher's exact test, every cell counted: * p < 0.05, ** p < 0.01, *** p < 0.001, n.s. not significant. "
    foot(figure, note + "Bars: Wilson's 95 % intervals.")
    return figure
