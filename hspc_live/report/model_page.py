"""The report of an evaluation as one page: what was found in words, tables and figures, and all numbers beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hspc_live.report import style
from hspc_live.report.page import Panel, write_page
from hspc_live.report.sizes import p_words

Metrics = Mapping[str, Any]


def write_model_page(folder: Path, metrics: Metrics, figures: Sequence[Path], source: str) -> list[Path]:
    """Write metrics.json and report.html from an evaluation's metrics and the figures drawn of them.

    Raises OutputError where they cannot be written.
    """
    drawn = {path.stem: path for path in figures if path.suffix == ".svg"}
    return write_page(
        folder, f"Evaluation of {metrics['model']['name']}", source, list(_panels(metrics, drawn)), metrics
    )


def _panels(metrics: Metrics, drawn: Mapping[str, Path]) -> Iterator[Panel]:
    def shown(*names: str) -> tuple[Path, ...]:
        return tuple(drawn[name] for name in names if name in drawn)

    yield Panel("What was found", tuple(_findings(metrics)))
    if metrics["warnings"]:
        yield Panel("Warnings", tuple(metrics["warnings"]))
    yield Panel(
        "Confusion",
        ("Labels from sorting are not truth, so agreement with them is called consistency, as in the paper.",),
        figures=shown("confusion"),
    )
    yield Panel("Rates per class", (), *_rates(metrics), shown("rates"))
    yield Panel("ROC curves", figures=shown("roc"))
    yield Panel("Simpler classifiers on the same cells", tuple(_controls(metrics)), figures=shown("controls"))
    yield Panel("Can the classes be told apart?", *_pairs(metrics))
    yield Panel("Calibration", tuple(_calibration(metrics)), figures=shown("reliability"))
    yield Panel("Score thresholds", (), *_thresholds(metrics), shown("thresholds"))
    if metrics["strangers"]:
        yield Panel("Strangers", (), *_strangers(metrics), shown("strangers"))
    if metrics.get("against"):
        yield Panel("Against another model", *_against(metrics), shown("against"))
    if metrics.get("beside"):
        yield Panel("Beside another data set", (), *_beside(metrics), shown("beside"))
    yield Panel("The cells and the model", tuple(_origins(metrics)))


def _findings(metrics: Metrics) -> Iterator[str]:
    yield (
        f"Balanced accuracy {_value(metrics, 'balanced_accuracy')}, macro F1 {_value(metrics, 'macro_f1')}, on "
        f"{metrics['n']} cells ({_units(metrics)}). Chance: {metrics['chance']:.3f}."
    )
    words = metrics["verdict"]["words"]
    yield f"The model {words}."
    low, high = metrics["ece_interval"]
    yield (
        f"Expected calibration error {_n(metrics['ece'])} (95 % interval {_n(low)} to {_n(high)}); scores that are "
        f"perfect would show {_n(metrics['calibration']['ece_by_chance'])} by chance."
    )


def _rates(metrics: Metrics) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    head = ("class", "cells", "predicted so", "consistency rate", "precision", "F1", "AUC")
    rows = []
    for name in metrics["confusion_rows"]:
        one = metrics["figures"]["classes"][name]
        rows.append((
            name, str(one["n"]), str(one["predicted"]), _rate(one["consistency_rate"]), _rate(one["precision"]),
            _rate(one["f1"]), _rate(metrics["roc"][name]["auc"]),
        ))  # fmt: skip
    for word in ("macro", "weighted"):
        mean = metrics["figures"][word]
        rows.append((f"{word} mean", "", "", _rate(mean["recall"]), _rate(mean["precision"]), _rate(mean["f1"]), ""))
    return head, tuple(rows)


def _controls(metrics: Metrics) -> Iterator[str]:
    controls = metrics["controls"]
    if "classifiers" not in controls:
        yield f"Not run: {controls['why']}"
        return
    yield (
        "Size only: the diameter of the outlined cell. Background only: the crop's corners, where no cell is; above "
        "chance it means that the classes were filmed under different conditions, or that a cell's light reaches the "
        "corners. HOG: histograms of oriented gradients. Each with logistic regression, trained on these very cells by "
        "cross-validation; the network has learnt from others."
    )
    yield from controls["remarks"]


def _pairs(metrics: Metrics) -> tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[str, ...], ...]]:
    text = (
        f"The model {metrics['verdict']['words']}.",
        "“Can” is said only if the 95 % interval of balanced accuracy lies above chance and p is at most 0.05. Each "
        "two classes are judged by which of their two scores is larger; p is corrected after Holm.",
    )
    rows = tuple(
        (" and ".join(one["classes"]), _rate(one["balanced_accuracy"]), p_words(one["p"]), _can(one["separable"]))
        for one in metrics["pairs"]
    )
    return text, ("classes", "balanced accuracy", "p", "told apart"), rows


def _calibration(metrics: Metrics) -> Iterator[str]:
    calibration = metrics["calibration"]
    fits = calibration["temperature_that_would_fit"]
    yield (
        f"The card's temperature is {_n(calibration['temperature'])}; {_n(fits)} would fit these cells best "
        f"({'scores are too sure' if fits > calibration['temperature'] else 'scores are not sure enough'})."
    )


def _thresholds(metrics: Metrics) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    classes = metrics["confusion_rows"]
    head = (
        "least score",
        "kept",
        "balanced accuracy",
        *(f"{name}: kept and consistent; precision" for name in classes),
    )
    rows = []
    for one in metrics["thresholds"]:
        own = (one["classes"][name] for name in classes)
        rows.append((
            f"{one['threshold']:g}", _rate(one["kept"]), _rate(one["balanced_accuracy"]),
            *(f"{_rate(c['consistency_rate'])}; {_rate(c['precision'])}" for c in own),
        ))  # fmt: skip
    return head, tuple(rows)


def _strangers(metrics: Metrics) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    kinds = metrics["strangers"]
    steps = [one["threshold"] for one in next(iter(kinds.values()))["abstained"]]
    head = ("kind", "cells", *(f"abstained at {step:g}" for step in steps), "most probable class")
    rows = tuple(
        (
            name,
            str(one["n"]),
            *(_rate(rate) for rate in one["abstained"]),
            ", ".join(f"{said} {count}" for said, count in one["taken_for"].items()),
        )
        for name, one in kinds.items()
    )
    return head, rows


def _against(metrics: Metrics) -> tuple[tuple[str, ...], tuple[str, ...], tuple[tuple[str, ...], ...]]:
    found, other = metrics["against"], metrics["against"]["metrics"]
    one = found["comparison"]
    difference = one["difference"]
    text = (
        f"{found['models'][1]} minus {found['models'][0]}: {difference['value']:+.3f} balanced accuracy (95 % interval "
        f"{_n(difference['low'])} to {_n(difference['high'])}), {p_words(one['p'])} ({one['test']}). Only the first is "
        f"right on {one['only_first']} cells, only the second on {one['only_second']}." + _least_p(one),
    )
    rows = tuple(
        (name, _value(who, "balanced_accuracy"), _value(who, "macro_f1"), _n(who["ece"]))
        for name, who in zip(found["models"], (metrics, other), strict=True)
    )
    return text, ("model", "balanced accuracy", "macro F1", "ECE"), rows


def _least_p(one: Mapping[str, Any]) -> str:
    """Of few groups no difference, however large, has a small p."""
    least = 2.0 ** (1 - one["units"])
    if not one["test"].startswith("swapped") or least < 0.05:
        return ""
    return f" So few groups cannot give a p below {least:.2g}."


def _beside(metrics: Metrics) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    found = metrics["beside"]
    head = ("", *found["data_sets"], "second minus first", "p (Fisher)", "Holm", "by group: mean ± SEM", "p (t test)")
    rows = []
    for key, word in (("shares", "predicted"), ("consistency_rate", "consistent")):
        for name, one in found.get(key, {}).items():
            difference, groups = one["difference"], one["by_group"]
            means = "–" if groups is None else "; ".join(map(_mean_sem, groups["data_sets"]))
            test = groups["t_tests"][0] if groups and groups["t_tests"] else None
            rows.append((
                f"{name}, {word}", *(_rate(rate) for rate in one["rates"].values()), _gap(difference["difference"]),
                f"{p_words(difference['p'])} {difference['stars']}", p_words(difference["p_holm"]), means,
                "–" if test is None else f"{p_words(test['p'])} {test['stars']}",
            ))  # fmt: skip
    return head, tuple(rows)


def _origins(metrics: Metrics) -> Iterator[str]:
    model, data, overlap = metrics["model"], metrics["data"], metrics["overlap"]
    weights = model["sha256"][:12]
    yield f"Model {model['name']} {model['version']}, weights {weights}…, trained on: {model['trained_on']}."
    yield f"Cells: {data['file']}, {data['crops']} crops."
    if metrics["missing_classes"]:
        yield f"No cells of {', '.join(metrics['missing_classes'])}: nothing is said about these classes."
    if metrics["left_out"]:
        yield f"Left out: {', '.join(f'{name} {count}' for name, count in metrics['left_out'].items())}."
    if overlap["checked"]:
        copies = f"{overlap['copies']} of {overlap['n']}"
        yield f"Cells that are copies of crops in {overlap['with']}, which training was given: {copies}."
    else:
        yield f"Whether training had these cells was not checked: {overlap['why']}."
    yield from metrics["notes"]


def _mean_sem(one: Mapping[str, Any]) -> str:
    sem = "–" if one["sem"] is None else style.per_cent(one["sem"], 1)
    return f"{style.per_cent(one['mean'], 1)} ± {sem} ({one['n']})"


def _can(separable: bool) -> str:
    return "yes" if separable else "cannot separate"


def _rate(one: Mapping[str, Any]) -> str:
    value = one.get("rate", one.get("value"))
    return "–" if value is None else f"{value:.3f} ({_n(one['low'])} to {_n(one['high'])})"


def _gap(one: Mapping[str, Any]) -> str:
    return f"{one['value']:+.3f} ({_n(one['low'])} to {_n(one['high'])})"


def _value(metrics: Metrics, key: str) -> str:
    low, high = metrics["intervals"][key]
    return f"{_n(metrics[key])} (95 % interval {_n(low)} to {_n(high)})"


def _n(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _units(metrics: Metrics) -> str:
    units = metrics["units"]
    return "taken to be independent" if units["are"] == "cells" else f"in {units['n']} {units['are']}"
