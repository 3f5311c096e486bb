"""What a training run leaves for people: how loss and accuracy went, the confusion at the end, as one page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hspc_live.core.errors import OutputError
from hspc_live.report import style
from hspc_live.report.model_figures import confusion_figure
from hspc_live.report.page import METRICS, Panel, write_page
from hspc_live.report.rate_marks import FIRST, SECOND, dot, foot
from hspc_live.report.saving import save_both

Metrics = Mapping[str, Any]
Lines = Sequence[Mapping[str, Any]]

LOG: Final = "training.jsonl"


def write_training(folder: Path, name: str, classes: Sequence[str], report: Metrics, confusion: Any) -> list[Path]:
    """Write figures, report.html and, with what it holds already, metrics.json of the model in `folder`.

    `report` is the command's; `confusion` (classes, classes) counts cells that training never saw, label × predicted.
    Raises OutputError.
    """
    validation = report["validation"]
    lines = _read(folder / LOG)
    known = json.loads((folder / METRICS).read_text(encoding="utf-8")) if (folder / METRICS).exists() else {}
    judge = "model in held-out" if "learnt_from" in report else "finished model"
    source = f"{name}; {judge} judged on {validation['n']:,} crops that its training never saw"
    figure = training_figure(lines, validation, 1 / len(classes), source, judge)
    files = save_both(figure, folder, "training")
    judged = {
        "confusion": confusion, "confusion_rows": list(classes), "confusion_columns": list(classes),
        "n": validation["n"], "balanced_accuracy": validation["balanced_accuracy"],
        "intervals": {"balanced_accuracy": validation["balanced_accuracy_interval"]},
    }  # fmt: skip
    files += save_both(confusion_figure(judged, source), folder, "confusion")
    panels = [
        Panel("What was reached", tuple(_findings(validation)), figures=(files[3],)),
        Panel("How training went", tuple(_about(lines)), figures=(files[1],)),
    ]
    metrics = {**known, "validation": validation, "training": list(lines)}
    return [*files, *write_page(folder, f"Training of {name}", source, panels, metrics)]


def training_figure(lines: Lines, validation: Metrics, chance: float, source: str, judge: str) -> Figure:
    """Left: losses by epoch. Right: balanced accuracy on crops that are not trained on, and what the card states.

    `judge` is the model whose figure that is.
    """
    figure = style.new_figure(4.8)
    style.heading(figure, f"Training: {len(lines)} epoch{'' if len(lines) == 1 else 's'}", source)
    left, right = figure.add_axes((0.07, 0.17, 0.40, 0.58)), figure.add_axes((0.56, 0.17, 0.40, 0.58))
    _by_epoch(left, lines, "train_loss", "training", FIRST, "o", "-")
    _by_epoch(left, lines, "validation_loss", "held-out crops", SECOND, "s", "--")
    left.set_ylabel("cross-entropy")
    losses = [one[key] for one in lines for key in ("train_loss", "validation_loss") if key in one]
    left.set_ylim(0, 1.1 * max(losses, default=1.0))
    _by_epoch(right, lines, "validation_balanced_accuracy", "held-out crops", SECOND, "s", "--")
    low, high = validation["balanced_accuracy_interval"]
    last = lines[-1]["epoch"] if lines else 1
    ends = {"low": low, "high": high}
    dot(right, last * 1.03 + 0.1, validation["balanced_accuracy"], ends, style.GREY, "D")
    right.plot([], [], "D", color=style.GREY, mec=style.INK, mew=0.6, label=f"{judge}, 95 % interval")
    right.axhline(chance, color=style.GREY, lw=1, ls="--")
    right.text(0.5, chance, " chance", fontsize=style.SMALL, color="#555555", va="bottom")
    right.set_ylabel("balanced accuracy")
    right.set_ylim(0, 1.02)
    for axes in (left, right):
        style.plain(axes)
        axes.set_xlabel("epoch")
        axes.set_xlim(0.5, last * 1.06 + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(axis="y", color=style.PALE, lw=0.5)
        axes.legend(frameon=False, fontsize=style.NORMAL, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2)
    foot(figure, "The training loss is of augmented crops and, where the recipe says so, of soft targets.")
    return figure


def _by_epoch(axes: Axes, lines: Lines, key: str, label: str, colour: str, marker: str, line: str) -> None:
    found = [(one["epoch"], one[key]) for one in lines if key in one]
    if found:
        axes.plot(*zip(*found, strict=True), line, marker=marker, ms=4.5, color=colour, lw=1.5, label=label)


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: cannot be read: {error}") from error


def _findings(validation: Metrics) -> Iterator[str]:
    low, high = validation["balanced_accuracy_interval"]
    yield (
        f"Balanced accuracy {validation['balanced_accuracy']:.3f} (95 % interval {low:.3f} to {high:.3f}), macro F1 "
        f"{validation['macro_f1']:.3f}, on {validation['n']:,} crops that its training never saw: {validation['data']}."
    )
    if (hog := validation.get("hog_balanced_accuracy")) is not None:
        yield f"HOG + logistic regression, trained on the same crops, reaches {hog:.3f} on them."
    yield "`hspc-live evaluate` judges the model on other crops, with ROC curves, calibration and controls."


def _about(lines: Lines) -> Iterator[str]:
    if lines:
        seconds, crops = sum(one["seconds"] for one in lines), sum(one["crops"] for one in lines)
        yield f"{len(lines)} epochs, {crops:,} crops shown, {seconds / 60:.1f} minutes."
