"""The picture of a learning curve: means with intervals over the repeats, the law through them, twice the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from hspc_live.report import style
from hspc_live.report.rate_marks import columns_of_text, fixed, foot

Metrics = Mapping[str, Any]

_LOOKS: Final = (("#0072B2", "o", "-"), ("#D55E00", "s", "-."), ("#009E73", "D", ":"))
_ASIDE: Final = 0.03  # of the logarithmic axis, so that intervals of equal sizes do not lie on each other
_NEAR: Final = 1.18  # sizes nearer than that get no label of their own


def learning_curve_figure(metrics: Metrics, source: str) -> Figure:
    """Balanced accuracy against the number of training crops, one curve a classifier; `metrics` as the command's."""
    tall = 6.4
    figure = style.new_figure(tall)
    style.heading(figure, "What more cells would give: learning curves on parts of the crops", source)
    axes = figure.add_axes((0.065, 0.15, 0.53, 0.70))
    names = list(metrics["classifiers"])
    sizes = sorted({point["crops"] for one in metrics["classifiers"].values() for point in one["points"]})
    for place, (name, one) in enumerate(metrics["classifiers"].items()):
        _curve(axes, name, one, place, (len(names) - 1) / 2)
    style.plain(axes)
    axes.set_xscale("log")
    if sizes:
        ends = (sizes[0] / 1.15, 2 * sizes[-1] * 1.08)
        axes.set_xlim(*ends)
        axes.axvspan(sizes[-1] * 1.06, ends[1], color="#F1F1F1", lw=0, zorder=0)
        axes.text(
            sizes[-1] * 1.45, 0.015, "extrapolated", transform=axes.get_xaxis_transform(), ha="center", va="bottom",
            fontsize=style.SMALL, color="#555555",
        )  # fmt: skip
        _sizes(axes, sizes)
    axes.axhline(metrics["chance"], color=style.GREY, lw=1, ls="--")
    low, high = _reach(metrics)
    axes.set_ylim(low, high)
    if low <= metrics["chance"] <= high:
        axes.text(
            0.995, metrics["chance"], "chance ", transform=axes.get_yaxis_transform(), ha="right", va="bottom",
            fontsize=style.SMALL, color="#555555",
        )  # fmt: skip
    axes.set_ylabel("balanced accuracy")
    axes.set_xlabel("training crops (logarithmic)")
    axes.grid(axis="y", color=style.PALE, lw=0.5)
    _key(figure, metrics)
    foot(figure, _note(metrics))
    return figure


def _curve(axes: Axes, name: str, one: Mapping[str, Any], place: int, middle: float) -> None:
    colour, marker, line = _LOOKS[place % len(_LOOKS)]
    shift = 1 + (place - middle) * _ASIDE
    fit = one["fit"]
    if fit is not None:
        band = fit["band"]
        x = np.array(band["crops"])
        value = np.array(band["value"])
        inside = x <= fit["scale"] * 1.0001
        axes.fill_between(x, band["low"], band["high"], color=colour, alpha=0.11, lw=0, zorder=1)
        for end in ("low", "high"):
            axes.plot(x, band[end], line, color=colour, lw=0.8, alpha=0.6, zorder=1)
        axes.plot(x[inside], value[inside], line, color=colour, lw=1.8, zorder=2)
        beyond = np.flatnonzero(~inside)
        if len(beyond):
            first = max(0, beyond[0] - 1)
            axes.plot(x[first:], value[first:], line, color=colour, lw=1.8, alpha=0.55, zorder=2)
    for point in one["points"]:
        x_at = point["crops"] * shift
        axes.plot([x_at] * len(point["values"]), point["values"], marker, color=colour, ms=3.2, alpha=0.6, zorder=3)
        mean = point["mean"]
        low, high = (mean["value"] if mean[end] is None else mean[end] for end in ("low", "high"))
        axes.errorbar(
            x_at, mean["value"], yerr=[[mean["value"] - low], [high - mean["value"]]], fmt=marker, ms=7, color=colour,
            mec=style.INK, mew=0.7, ecolor=style.INK, capsize=4, lw=1.2, zorder=4,
        )  # fmt: skip
    axes.plot([], [], line, marker=marker, color=colour, mec=style.INK, mew=0.7, label=name)


def _sizes(axes: Axes, sizes: list[float]) -> None:
    """A tick at each size and at twice the last; labels where they have room."""
    ticks = [*sizes, 2 * sizes[-1]]
    labelled = [ticks[-1]]
    for tick in reversed(ticks[:-1]):
        if labelled[-1] / tick >= _NEAR:
            labelled.append(tick)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{tick:,.0f}" if tick in labelled else "" for tick in ticks])


def _reach(metrics: Metrics) -> tuple[float, float]:
    """Ends of the axis: all values, intervals and bands."""
    seen = []
    for one in metrics["classifiers"].values():
        for point in one["points"]:
            seen += [
                *point["values"],
                *(point["mean"][end] for end in ("low", "high") if point["mean"][end] is not None),
            ]
        if one["fit"] is not None:
            seen += [*one["fit"]["band"]["low"], *one["fit"]["band"]["high"]]
    if not seen:
        return 0.0, 1.0
    span = max(max(seen) - min(seen), 0.05)
    return max(-0.02, min(seen) - 0.06 * span), min(1.02, max(seen) + 0.06 * span)


def _key(figure: Figure, metrics: Metrics) -> None:
    top = 0.86
    step = 0.3 / figure.get_figheight()
    for place, (name, one) in enumerate(metrics["classifiers"].items()):
        colour, marker, line = _LOOKS[place % len(_LOOKS)]
        mark = figure.add_axes((0.615, top - 0.035, 0.028, 0.035))
        mark.plot([0, 1, 2], [0, 0, 0], line, color=colour, lw=1.8)
        mark.plot([1], [0], marker, color=colour, ms=7, mec=style.INK, mew=0.7)
        mark.set_axis_off()
        figure.text(0.65, top - 0.002, name, fontsize=style.NORMAL, fontweight="bold", color=style.INK, va="top")
        lines = [*_measured(one), *_foretold(one)]
        columns_of_text(figure, lines, (0.65, 0.80), top - step)
        top -= step * (len(lines) + 1.7)


def _measured(one: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not one["points"]:
        return [("nothing trained yet", "")]
    last = one["points"][-1]
    return [(f"measured at {last['crops']:,.0f} crops", f"{_three(last['mean'])}, n = {last['repeats']}")]


def _foretold(one: Mapping[str, Any]) -> list[tuple[str, str]]:
    fit = one["fit"]
    if fit is None:
        return [(f"no fit: {one['why_no_fit'].split(';')[0]}", "")]
    gain = fit["gain_by_doubling"]
    lines = [
        (f"foretold at {fit['at_twice']['crops']:,.0f}", _three(fit["at_twice"])),
        ("doubling adds", f"{gain['value']:+.3f} ({fixed(gain['low'])} to {fixed(gain['high'])})"),
    ]
    return lines if fit["tells"] else [*lines, ("the fit does not tell: see the report", "")]


def _three(one: Mapping[str, Any]) -> str:
    return fixed(one["value"]) + ("" if one["low"] is None else f" ({fixed(one['low'])}–{fixed(one['high'])})")


def _note(metrics: Metrics) -> str:
    note = (
        "Large marks: means of n repeats with 95 % intervals over them (Student's t); small ones: single trainings, at "
        "all crops of other seeds only. Band: 95 %, repeats and judged cells redrawn."
    )
    made = f"All are judged on the same {metrics['n_judged']:,} cells. Law: $a + b\\,n^{{-c}}$. Chance: "
    made += f"{metrics['chance']:.2f}."
    if "network" in metrics["classifiers"]:
        made += (
            f" Network: {metrics['epochs']} epochs of all crops, as many {metrics['same']} at every size; its recipe "
            f"has {metrics['recipe_epochs']}."
        )
    return f"{note}\n{made}"
