"""evaluate: how good a model is on labelled crops, beside simpler classifiers, another model or another data set."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hspc_live.cli.dataset import GroupBy, Names
from hspc_live.cli.execute import make_out
from hspc_live.cli.options import Json, UmPerPx
from hspc_live.cli.output import emit, print_files, progress, screen
from hspc_live.cli.tables import facts
from hspc_live.core.errors import HspcError, OutputError, SettingsError
from hspc_live.report.model_figures import draw_model_figures
from hspc_live.report.model_page import write_model_page
from hspc_live.report.page import metrics_text

if TYPE_CHECKING:  # importing torch takes a second, which no other command here need wait for
    from numpy.typing import NDArray

    from hspc_models.card import Card
    from hspc_models.dataset import LabelledCrops
    from hspc_models.network import CellNet

PREDICTIONS = "predictions.csv"


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model's folder, or the name of a shipped model.")],
    data: Annotated[
        Path, typer.Option("--data", metavar="FILE", help="Labelled crops: a file or folder that `dataset make` takes.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="New or empty folder for the report.")],
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,C", help="Judge crops of these classes only; the model may still say any of its own."
        ),
    ] = None,
    group_by: GroupBy = None,
    names: Names = None,
    against: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A second model, judged on the same cells.")
    ] = None,
    beside: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A second data set, labelled or not, for the same model.")
    ] = None,
    trained_on: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What the model was trained on: copies of those crops are counted."),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Keep these cells beside the model: promises of purity and the limit of strangeness will rest on "
            "them. They must be cells that it has not learnt from; --trained-on checks that.",
        ),
    ] = False,
    um_per_px: UmPerPx = None,
    as_json: Json = False,
) -> None:
    """Judge a model on labelled crops: rates with intervals, calibration, controls; report, figures and predictions."""
    from hspc_models.card import find_model, load_network
    from hspc_models.side_by_side import class_order

    folder = find_model(model)
    card, network = load_network(folder)
    second = None if against is None else load_network(find_model(against))
    if second is not None:
        class_order(card, second[0])
    only = None if classes is None else _listed(classes)
    told = _Told(group_by, names or [], um_per_px)
    crops = told.read(data, card)
    other = None if beside is None else told.read(beside, card)
    training = None if trained_on is None else (trained_on, told.read(trained_on, card))
    run = _Run(card, network, data, crops, only)
    if calibrate:
        run.check_calibrates(folder)
    make_out(out)
    metrics = run.metrics(training)
    if calibrate:
        metrics["calibrated"] = run.calibrate(folder, metrics["overlap"])
        if not metrics["overlap"]["checked"]:
            metrics["warnings"].append(
                f"the cells kept were not compared with what the model learnt from ({card.training.data}): on cells "
                "that it knows no promise of purity holds. Name its training crops with --trained-on, if it had any"
            )
    if second is not None:
        metrics["against"] = run.against(*second, crops, only)
    if beside is not None and other is not None:
        metrics["beside"] = run.beside(beside, other, only)
    # what is drawn and printed is what is written: numbers without NaN
    metrics = json.loads(metrics_text(metrics))
    source = f"{data.name}, n = {metrics['n']} cells; model {card.name} {card.version}"
    files = draw_model_figures(metrics, out, source)
    metrics["files"] = [str(path) for path in (*files, out / PREDICTIONS)]
    files += [*write_model_page(out, metrics, files, source), run.write_predictions(out / PREDICTIONS)]
    if as_json:
        emit(metrics)
        return
    screen.print(facts(_rows(metrics), f"{card.name} {card.version} on {data.name}"))
    for warning in metrics["warnings"]:
        progress.print(f"warning: {warning}", style="yellow", markup=False)
    print_files(files)


class _Told:
    """What was said about all sources alike."""

    def __init__(self, group_by: str | None, names: list[str], um_per_px: float | None) -> None:
        from hspc_models.raw_crops import told_names

        self._group_by, self._names, self._um_per_px = group_by, told_names(names), um_per_px

    def read(self, path: Path, card: Card) -> LabelledCrops:
        from hspc_models.readers import read_any

        return read_any(
            path, group_by=self._group_by, names=self._names, um_per_px=self._um_per_px, geometry=card.geometry
        )


class _Run:
    """One model on one data set, and what it is set beside."""

    def __init__(self, card: Card, network: CellNet, data: Path, crops: LabelledCrops, only: list[str] | None) -> None:
        from hspc_models.judged import choose
        from hspc_models.metrics import softmax

        self._card, self._network, self._data, self._crops = card, network, data, crops
        self._softmax = softmax
        self.chosen = choose(crops, card, only)
        self._raw: NDArray[np.float64]
        self._stranger_raw: NDArray[np.float64]

    def metrics(self, training: tuple[Path, LabelledCrops] | None) -> dict[str, Any]:
        """Score the cells, and all that is to be said of them."""
        from hspc_models.doubts import doubts
        from hspc_models.judged import judged, strangers_judged

        card, chosen = self._card, self.chosen
        self._raw = _scored(card, self._network, chosen.cells, "cells")
        self._stranger_raw = _scored(card, self._network, chosen.strangers, "strangers")
        found = judged(card, chosen, self._raw)
        controls = self._controls()
        overlap = self._overlap(training)
        return {
            **found,
            "strangers": strangers_judged(card, chosen.strangers, self._stranger_raw),
            "controls": controls,
            "overlap": overlap,
            "model": {
                "name": card.name,
                "version": card.version,
                "sha256": card.weights.sha256,
                "classes": list(card.classes),
                "um_per_px": card.um_per_px,
                "crop_px": card.crop_px,
                "trained_on": card.training.data,
            },
            "data": {
                "file": str(self._data),
                "crops": len(self._crops),
                "groups": len(np.unique(chosen.cells.groups)),
                "crop_px": int(self._crops.images.shape[1]),
                "um_per_px": self._crops.um_per_px,
            },
            "missing_classes": list(chosen.missing),
            "left_out": chosen.left_out,
            "notes": list(chosen.notes),
            "warnings": list(doubts(found, controls, overlap, chosen, card)),
        }

    def check_calibrates(self, folder: Path) -> None:
        """Refuse crops that no promise can rest on, before anything is scored."""
        from hspc_models.recalibrate import check_calibrates

        check_calibrates(folder, self._card, self._crops, self.chosen)

    def calibrate(self, folder: Path, overlap: dict[str, Any]) -> dict[str, Any]:
        """Keep the judged cells beside the card; what the card says of them now."""
        from hspc_models.recalibrate import recalibrate

        card = recalibrate(folder, self._card, self.chosen, self._raw, self._stranger_raw, overlap)
        assert card.calibration is not None and card.strangers is not None, "just made"
        kept = {"calibration": card.calibration, "strangers": card.strangers}
        return {"folder": str(folder), **{name: one.model_dump(mode="json") for name, one in kept.items()}}

    def against(self, card: Card, network: CellNet, crops: LabelledCrops, only: list[str] | None) -> dict[str, Any]:
        """A second model on the same cells, brought to its own geometry."""
        from hspc_models.judged import choose, judged
        from hspc_models.side_by_side import two_models

        chosen = choose(crops, card, only)
        raw = _scored(card, network, chosen.cells, "cells, second model")
        names = _apart(f"{self._card.name} {self._card.version}", f"{card.name} {card.version}")
        return {
            "models": list(names),
            "comparison": two_models(self._card, card, self.chosen, self._raw, raw).to_json(),
            "metrics": judged(card, chosen, raw),
        }

    def beside(self, path: Path, crops: LabelledCrops, only: list[str] | None) -> dict[str, Any]:
        """The same model on another data set; where that has none of its classes, all crops count as unlabelled."""
        from hspc_models.fitting import fitted
        from hspc_models.judged import choose, judged
        from hspc_models.side_by_side import two_data_sets

        labelled = bool(set(crops.names) & set(self._card.classes))
        chosen = choose(crops, self._card, only) if labelled else None
        cells = fitted(crops, self._card.geometry)[0] if chosen is None else chosen.cells
        raw = _scored(self._card, self._network, cells, "cells, second data set")
        found = two_data_sets(
            self._card.classes,
            _apart(self._data.name, path.name),
            (self._raw.argmax(axis=1), raw.argmax(axis=1)),
            (self.chosen, chosen),
            (self.chosen.cells.groups, cells.groups),
        )
        return found | ({} if chosen is None else {"metrics": judged(self._card, chosen, raw)})

    def write_predictions(self, path: Path) -> Path:
        """A line a cell, in the order of the source: row, predicted class, a score for each class, label, group."""
        card, chosen = self._card, self.chosen
        rows = np.concatenate((chosen.rows, chosen.stranger_rows))
        scores = self._softmax(np.concatenate((self._raw, self._stranger_raw)), card.temperature)
        try:
            with path.open("w", newline="", encoding="utf-8") as file:
                table = csv.writer(file)
                table.writerow(["index", "predicted", *(f"score:{name}" for name in card.classes), "label", "group"])
                for place in np.argsort(rows).tolist():
                    row = int(rows[place])
                    label = self._crops.names[self._crops.labels[row]]
                    group = self._crops.group_name(int(self._crops.groups[row]))
                    said = card.classes[int(scores[place].argmax())]
                    table.writerow([row, said, *(f"{score:.6g}" for score in scores[place]), label, group])
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
        return path

    def _controls(self) -> dict[str, Any]:
        """Simpler classifiers on the same cells; why not, where they cannot be run."""
        from hspc_models.controls import run_controls

        chosen = self.chosen
        if len(chosen.present) < 2:
            return {"why": "controls need cells of at least two classes"}
        cells = chosen.cells.in_order(chosen.present)
        columns = [self._card.classes.index(name) for name in chosen.present]
        said = self._raw[:, columns].argmax(axis=1)
        try:
            return run_controls(
                cells, said, self._card.modality, chosen.units, lambda words: progress.print(words, markup=False)
            ).to_json()
        except HspcError as error:  # too few cells, or scikit-learn is absent: the network's figures stand without
            return {"why": str(error)}

    def _overlap(self, training: tuple[Path, LabelledCrops] | None) -> dict[str, Any]:
        from hspc_models.judged import overlap

        if training is not None:
            path, crops = training
            return overlap(self.chosen, crops, self._card) | {"with": str(path)}
        return {"checked": False, "why": "the card does not hold the training crops; name their file with --trained-on"}


def _scored(card: Card, network: CellNet, crops: LabelledCrops, what: str) -> NDArray[np.float64]:
    from hspc_models.judged import score

    with Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=progress,
        disable=not progress.is_terminal,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=len(crops))
        return score(network, card, crops, lambda n: bar.update(task, completed=n))


def _apart(first: str, second: str) -> tuple[str, str]:
    return (first, second) if first != second else (f"{first} (first)", f"{second} (second)")


def _listed(text: str) -> list[str]:
    """`A,B` in two. Raises SettingsError for an empty or repeated name."""
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise SettingsError(f"--classes {text}: write every class once, parted by commas, e.g. --classes G1,S,G2")
    return names


def _rows(metrics: dict[str, Any]) -> Iterator[tuple[str, str]]:
    def value(key: str) -> str:
        low, high = (_text(end) for end in metrics["intervals"][key])
        return f"{_text(metrics[key])} (95 %: {low} to {high})"

    yield "cells", f"{metrics['n']} ({metrics['units']['n']} {metrics['units']['are']})"
    yield "balanced accuracy", value("balanced_accuracy") + f", chance {metrics['chance']:.3f}"
    yield "macro F1", value("macro_f1")
    for name, rate in metrics["consistency_rate"].items():
        low, high = metrics["intervals"]["consistency_rate"][name]
        auc = f", AUC {_text(metrics['auc'][name])}"
        yield f"{name}, consistent", f"{_text(rate)} (95 %: {_text(low)} to {_text(high)}){auc}"
    low, high = metrics["ece_interval"]
    yield "calibration error", f"{_text(metrics['ece'])} (95 %: {_text(low)} to {_text(high)})"
    for name, one in metrics["controls"].get("classifiers", {}).items():
        if name != "network":
            yield name, _text(one["balanced_accuracy"]["value"])
    if "why" in metrics["controls"]:
        yield "controls", f"not run: {metrics['controls']['why']}"
    yield "verdict", metrics["verdict"]["words"]
    if (against := metrics.get("against")) is not None:
        one = against["comparison"]
        yield f"{against['models'][1]} minus this", f"{one['difference']['value']:+.3f}, p = {one['p']:.2g}"
    if (kept := metrics.get("calibrated")) is not None:
        yield "calibrated", f"{sum(kept['calibration']['counts'])} cells kept in {kept['folder']}"
    for note in metrics["notes"]:
        yield "note", note


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
