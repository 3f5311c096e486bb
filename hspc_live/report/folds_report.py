"""The report of a cross-validation: every fold beside the pooled figure, network and peers, confusion, ceiling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from hspc_live.report import style
from hspc_live.report.model_figures import confusion_figure
from hspc_live.report.page import Panel, write_page
from hspc_live.report.rate_marks import FIRST, SECOND, dot, foot
from hspc_live.report.saving import save_both

Metrics = Mapping[str, Any]

_THIRD = "#009E73"
_LOOKS = ((FIRST, "o"), (SECOND, "s"), (_THIRD, "D"))


def write_folds(folder: Path, name: str, classes: Sequence[str], found: Metrics) -> list[Path]:
    """Write figures, metrics.json and report.html of `found`, a cross-validation's report. Raises OutputError."""
    judged = {key: one for key, one in found.items() if isinstance(one, Mapping) and "balanced_accuracy" in one}
    first = next(iter(judged.values()))
    source = (
        f"{name}, {len(found['folds'])} folds; every one of {first['n']:,} crops judged by a model that had not seen it"
    )
    files = save_both(folds_figure(judged, found["folds"], 1 / len(classes), source), folder, "folds")
    value = first["balanced_accuracy"]
    table = {
        "confusion": first["confusion"], "confusion_rows": list(classes), "confusion_columns": list(classes),
        "n": first["n"], "balanced_accuracy": value["value"],
        "intervals": {"balanced_accuracy": [value["low"], value["high"]]},
    }  # fmt: skip
    files += save_both(confusion_figure(table, f"{next(iter(judged))}: {source}"), folder, "confusion")
    panels = [
        Panel("Every fold", tuple(_findings(judged, found)), figures=(files[1],)),
        Panel("Confusion of the network", figures=(files[3],)),
    ]
    return [*files, *write_page(folder, f"Cross-validation of {name}", source, panels, found)]


def folds_figure(judged: Mapping[str, Metrics], folds: Sequence[Metrics], chance: float, source: str) -> Figure:
    """Balanced accuracy of each classifier in each fold, and of all held-out predictions together; 95 % intervals."""
    figure = style.new_figure(4.8)
    style.heading(figure, "Cross-validation: balanced accuracy of each fold and of all together", source)
    axes = figure.add_axes((0.065, 0.17, 0.62, 0.66))
    places = [*folds, judged]
    for place, one in enumerate(places):
        for step, name in enumerate(judged):
            value = one[name]["balanced_accuracy"]
            colour, marker = _LOOKS[step % len(_LOOKS)]
            dot(axes, place + (step - (len(judged) - 1) / 2) * 0.18, value["value"], value, colour, marker)
    style.plain(axes)
    axes.axvline(len(folds) - 0.5, color=style.PALE, lw=1)
    axes.axhline(chance, color=style.GREY, lw=1, ls="--")
    axes.text(-0.5, chance, " chance", fontsize=style.SMALL, color="#555555", va="bottom")
    axes.set_xlim(-0.5, len(places) - 0.5)
    n = [next(iter(one.values()))["n"] for one in places]
    words = [*(f"fold {number}" for number in range(1, len(places))), "all"]
    axes.set_xticks(range(len(places)), [f"{word}\n(n = {count:,})" for word, count in zip(words, n, strict=True)])
    axes.set_ylabel("balanced accuracy")
    axes.set_ylim(0, 1.02)
    axes.grid(axis="y", color=style.PALE, lw=0.5)
    for step, name in enumerate(judged):
        colour, marker = _LOOKS[step % len(_LOOKS)]
        value = judged[name]["balanced_accuracy"]
        label = f"{name}\n{value['value']:.3f} ({value['low']:.3f}–{value['high']:.3f})"
        axes.plot([], [], marker, color=colour, mec=style.INK, mew=0.6, ms=7, label=label)
    axes.legend(
        frameon=False,
        fontsize=style.NORMAL,
        loc="upper left",
        bbox_to_anchor=(1.02, 1.0),
        labelspacing=1.1,
        title="all",
    )
    foot(figure, "Bars: 95 % intervals over cells. Folds share training crops, so they are not independent trials.")
    return figure


def _findings(judged: Mapping[str, Metrics], found: Metrics) -> Iterator[str]:
    for name, one in judged.items():
        value = one["balanced_accuracy"]
        yield f"{name}: {value['value']:.3f} (95 % interval {value['low']:.3f} to {value['high']:.3f})."
    if (ceiling := found.get("ceiling")) is not None:
        yield (
            f"Believed ceiling: {ceiling['believed']:.3f}. Network and peers agree on {ceiling['agreement']:.0%} of "
            "the cells; where all are wrong alike, nothing seen so far tells better. Of the best one's mistakes "
            f"{ceiling['neighbours']:.0%} are off by one class (if all were as likely: "
            f"{ceiling['neighbours_by_chance']:.0%})."
        )
