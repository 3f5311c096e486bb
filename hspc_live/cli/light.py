"""The part of `predict` that is about fluorescence: its numbers, tables, figures and words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hspc_live.cli.output import percent
from hspc_live.report.glow_figures import GlowPanel, brightest_figure, glow_figure
from hspc_live.report.page import Panel
from hspc_live.report.saving import save_both

if TYPE_CHECKING:  # importing torch takes a second, which no other command here need wait for
    from hspc_models.apply import Applied

_PERCENTS = (1.0, 2.0, 3.0, 5.0, 6.0, 10.0, 20.0)
_MOST_PAIRS = 6
_UNIT = "counts"


def light_of_classes(
    values: NDArray[np.float32],
    scores: NDArray[np.float64],
    thresholds: list[float],
    classes: tuple[str, ...],
    top: float,
) -> dict[str, Any]:
    """Plain data on one channel (n,) beside scores (n, classes); at least one cell was measured."""
    from hspc_models.glow import all_of_one, brightest, glow_at, measured

    predicted = scores.argmax(axis=1)
    good = measured(values)
    runs = []
    for threshold in (0.0, *thresholds):
        called = scores.max(axis=1) >= threshold
        if (called & good).any():
            runs.append({"threshold": threshold} | all_of_one(values[called], predicted[called], classes).to_json())
    return {
        "measured": int(good.sum()),
        "unmeasured": int((~good).sum()),
        "unit": _UNIT,
        "by_threshold": [glow_at(values, scores, threshold, classes).to_json() for threshold in thresholds],
        "brightest": [brightest(values, predicted, classes, one).to_json() for one in sorted({*_PERCENTS, top})],
        "all_one_class": runs,
        "top": brightest(values, predicted, classes, top).to_json(),
    }


def glow_files(
    out: Path,
    applied: Applied,
    channel: str,
    values: NDArray[np.float32],
    scores: NDArray[np.float64],
    predicted: NDArray[np.intp],
    found: dict[str, Any],
    source: str,
) -> list[Path]:
    """The violins, the brightest cells' picture, and the table of the top per cent."""
    from hspc_models.glow import measured, ranking
    from hspc_models.prediction_table import write_predictions

    classes, stem = applied.card.classes, re.sub(r"[^\w.-]+", "_", channel) or "channel"
    panels = []
    for step in found["by_threshold"]:
        called = measured(values) & (scores.max(axis=1) >= step["threshold"])
        tests = step["t_tests"]
        pairs = [(test["first"], test["second"], test["stars"]) for test in tests] if len(tests) <= _MOST_PAIRS else []
        by_class = {name: values[called & (predicted == column)] for column, name in enumerate(classes)}
        if called.any():
            panels.append(GlowPanel(step["threshold"], by_class, pairs))
    files = save_both(glow_figure(panels, channel, _UNIT, source), out, f"fluorescence_{stem}") if panels else []
    order = ranking(values)
    words = " ".join(about_brightest(found))
    picture = brightest_figure(
        values[order], predicted[order], classes, found["top"]["percent"], channel, words, source
    )
    files += save_both(picture, out, f"brightest_{stem}")
    chosen = order[: found["top"]["n"]]
    path = out / f"top_{found['top']['percent']:g}_percent_{stem}.csv"
    return [*files, write_predictions(path, applied, scores, chosen)]


def about_brightest(found: dict[str, Any]) -> Iterator[str]:
    """The brightest share that is all one class, and what the top per cent are, in words."""
    run, top = found["all_one_class"][0], found["top"]
    n = run["n"]
    yield (
        f"The brightest {run['percent']:.2g} % ({n} of {found['measured']} cells) were all called {run['class']}: at "
        f"least {percent(run['purity']['low'])} of such cells would be (95 %), or fewer, for where to stop was chosen "
        "by looking."
    )
    shares = ", ".join(
        f"{name} {percent(rate['rate'])} ({percent(rate['low'])} to {percent(rate['high'])})"
        for name, rate in top["shares"].items()
    )
    yield f"Top {top['percent']:g} % ({top['n']} cells, from {top['at_least']:.4g} {found['unit']}): {shares}."


def glow_panel(channel: str, found: dict[str, Any], files: list[Path]) -> Panel:
    """What the page says and shows of one channel."""
    rows = []
    for step in found["by_threshold"]:
        for name, one in step["classes"].items():
            if one["n"]:
                mean = f"{one['mean']:.4g}" + ("" if one["sem"] is None else f" ± {one['sem']:.2g}")
                first, median, third = one["quartiles"]
                spread = f"{median:.4g} ({first:.4g} to {third:.4g})"
                rows.append((f"{step['threshold']:g}", name, str(one["n"]), spread, mean))
    tests = []
    for step in found["by_threshold"]:
        if step["anova"] is not None:
            tests.append(
                f"Score ≥ {step['threshold']:g}: one-way ANOVA F = {step['anova']['f']:.3g}, p = "
                f"{step['anova']['p']:.2g}; by ranks (Kruskal and Wallis) p = {step['kruskal_wallis_p']:.2g}."
            )
    return Panel(
        f"Fluorescence in {channel}",
        (*about_brightest(found), *tests, f"{found['unmeasured']} cells were not measured."),
        ("threshold", "predicted", "n", f"median (quartiles), {found['unit']}", "mean ± SEM"),
        tuple(rows),
        tuple(path for path in files if path.suffix == ".png"),
    )
