"""learning-curve: what more cells would give, from trainings on parts of the crops, within a budget of minutes."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from hspc_live.cli.bars import counted_bar
from hspc_live.cli.options import Json, Set
from hspc_live.cli.output import emit, print_files, progress, screen
from hspc_live.cli.train import source_changes
from hspc_live.report.learning_curve_figure import learning_curve_figure
from hspc_live.report.learning_curve_page import findings, write_learning_curve_page
from hspc_live.report.page import metrics_text
from hspc_live.report.saving import save_both


def learning_curve(
    config: Annotated[
        Path, typer.Argument(help="A training file, e.g. configs/train/jurkat.yaml; its section `curve` says how much.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Folder for the report; an unfinished curve in it goes on.")
    ],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FILE", help="Labelled crops to learn from, in place of the file's source."),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(min=0.05, metavar="MINUTES", help="Minutes that this start may take; else curve.budget_min."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A ResNet-50 to start from: a checkpoint's path or URL, or a model's name."),
    ] = None,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Train on parts of the crops, several times each; fit a law, and extrapolate to twice the data with an interval.

    Started again after a kill, or with a larger budget or more repeats, it goes on with what is left.
    """
    from hspc_models.curve_results import figures
    from hspc_models.curve_tasks import plan
    from hspc_models.learning_curve import run
    from hspc_models.train_settings import load_train_settings

    began = time.monotonic()
    settings = load_train_settings(config, source_changes(data, None, backbone, overrides or []))
    curves = plan(settings, out)
    for remark in curves.remarks:
        progress.print(remark, markup=False)
    allowed = budget or settings.curve.budget_min
    command = " ".join(["hspc-live learning-curve", str(config), *(["--data", str(data)] if data else [])])
    with counted_bar("crops shown", sum(task.shown for task in curves.tasks)) as tell:
        stopped = run(
            curves, None if allowed is None else 60 * allowed, command, lambda words: progress.print(words), tell
        )
    used = time.monotonic() - began
    metrics: dict[str, Any] = {
        **figures(curves),
        "budget": {"minutes": allowed, "used_minutes": used / 60},
        "stopped": stopped,
        "seconds": round(used, 1),
    }
    metrics = json.loads(metrics_text(metrics))
    source = (
        f"{metrics['model']}, up to {metrics['n_train']:,} crops of {', '.join(metrics['classes'])}; judged on "
        f"{metrics['n_judged']:,} others"
    )
    files = save_both(learning_curve_figure(metrics, source), out, "learning_curve")
    metrics["files"] = [str(path) for path in files]
    files += write_learning_curve_page(out, metrics, files, source)
    if as_json:
        emit(metrics)
        return
    screen.print(_table(metrics))
    for words in findings(metrics):
        screen.print(words, markup=False)
    print_files(files)


def _table(metrics: dict[str, Any]) -> Table:
    """A row a size, a column a classifier: mean with its 95 % interval over the repeats."""
    table = Table(title=f"Balanced accuracy of {metrics['model']} (95 % over repeats)", title_justify="left")
    table.add_column("crops", justify="right")
    for name in metrics["classifiers"]:
        table.add_column(name, justify="right")
    for fraction in metrics["fractions"]:
        at = [
            next((point for point in one["points"] if point["fraction"] == fraction), None)
            for one in metrics["classifiers"].values()
        ]
        if (some := next((point for point in at if point), None)) is not None:
            table.add_row(f"{some['crops']:,.0f}", *(_cell(point) for point in at))
    return table


def _cell(point: dict[str, Any] | None) -> str:
    if point is None:
        return "–"
    mean = point["mean"]
    return f"{mean['value']:.3f}" + ("" if mean["low"] is None else f" ({mean['low']:.3f} to {mean['high']:.3f})")
