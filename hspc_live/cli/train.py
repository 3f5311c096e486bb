"""train: a classifier from a training file, on the digital twin or on labelled crops."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hspc_live.cli.options import Json, Set
from hspc_live.cli.output import emit, print_files, progress, screen
from hspc_live.cli.tables import facts
from hspc_live.core.errors import SettingsError
from hspc_live.report.ablation_report import write_ablation
from hspc_live.report.folds_report import write_folds
from hspc_live.report.page import PAGE, metrics_text
from hspc_live.report.training_report import write_training

if TYPE_CHECKING:  # importing torch takes a second, which no other command here need wait for
    from hspc_models.journal import Progress as Step
    from hspc_models.train_settings import TrainSettings


def train(
    config: Annotated[Path, typer.Argument(help="A training file, e.g. configs/train/lsm.yaml.")],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FOLDER", help="Folder for the model; an unfinished run in it goes on."),
    ],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FILE", help="Labelled crops to learn from, in place of the file's source."),
    ] = None,
    recipe: Annotated[
        Literal["paper", "scratch"] | None,
        typer.Option(help="Another recipe than the training file's, with that recipe's own values."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A ResNet-50 to start from: a checkpoint's path or URL, or a model's name."),
    ] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Cross-validate: so many models, each judged on the part it did not see.")
    ] = None,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Train twice, with crops turned and mirrored and as taken; show both.")
    ] = False,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Train a classifier and judge it on cells that it never saw. Started again after a kill, it goes on.

    Several GPUs: torchrun --nproc-per-node N --no-python hspc-live train …
    """
    from hspc_models.train_settings import load_train_settings

    began = time.monotonic()
    settings = load_train_settings(config, source_changes(data, recipe, backbone, overrides or []))
    command = " ".join(["hspc-live train", str(config), *(["--data", str(data)] if data else [])])
    if (last := settings.phases[-1].pixels) != settings.crop_px:
        progress.print(
            f"warning: training ends with crops averaged down to {last} × {last} pixels, and the model will be shown "
            f"{settings.crop_px} × {settings.crop_px}, where it may recognise nothing; end with a phase of "
            f"{settings.crop_px} pixels",
            style="yellow",
            markup=False,
        )
    if folds is not None and ablation:
        raise SettingsError("--folds and --ablation do not go together: choose one")
    if folds is not None:
        report = _cross_validate(settings, folds, out, command)
    else:
        report = (_ablate if ablation else _train)(settings, out, command)
    if report is None:
        return  # another process of this run judges and prints
    result: dict[str, Any] = {"model_dir": str(out), **report, "seconds": round(time.monotonic() - began, 1)}
    if as_json:
        emit(result)
    else:
        screen.print(facts(_rows(result), f"{settings.name} {settings.version}"))
        print_files([Path(file) for file in result.get("files", [])])


def _train(settings: TrainSettings, out: Path, command: str) -> dict[str, Any] | None:
    from hspc_models.finish import done_before, finish, finish_refit, finished, judge_held_out
    from hspc_models.sources import open_source, open_whole
    from hspc_models.train import HELD_OUT, prepare
    from hspc_models.train import train as run
    from hspc_models.train_settings import FileSource

    source = open_source(settings)
    for remark in source.remarks:
        progress.print(remark, markup=False)
    refit = isinstance(settings.source, FileSource) and settings.source.refit
    if finished(out) is not None:
        if not _first():
            return None
        if not (out / PAGE).exists():  # a kill kept it from being written; else `run` refuses to train once more
            done = done_before(out, settings, open_whole(settings) if refit else source)
            return None if done is None else _with_page(settings, out, done)
    if not refit:
        with _Bar(settings) as bar:
            first = run(settings, source, out, command, said=bar.step)
        return _with_page(settings, out, finish(out, settings)) if first else None
    prepare(out)
    judged = out / HELD_OUT
    # after a kill its checkpoint tells whether settings and data are the same: else its figures would be others'
    with _Bar(settings) as bar:
        if run(settings, source, judged, command, said=lambda now: bar.step(now, "to be judged, ")):
            judge_held_out(judged, settings)
    whole = open_whole(settings)
    progress.print(f"once more, {whole.remarks[0]}", markup=False)
    with _Bar(settings) as bar:
        first = run(settings, whole, out, command, said=lambda now: bar.step(now, "all crops, "))
    return _with_page(settings, out, finish_refit(out, judged, len(whole.epoch(0)))) if first else None


def _with_page(settings: TrainSettings, out: Path, report: dict[str, Any]) -> dict[str, Any]:
    """The report, and the page with figures written beside the model."""
    from hspc_models.card import load_card

    judged = load_card(out).validation
    counts = [] if judged is None else [list(row) for row in judged.confusion]
    files = write_training(out, f"{settings.name} {settings.version}", settings.classes, report, counts)
    return {**report, "files": [str(path) for path in files]}


def _ablate(settings: TrainSettings, out: Path, command: str) -> dict[str, Any] | None:
    """What turning and mirroring crops does to the figure: in DIC it turns the shear, which the microscope does not."""
    from hspc_models.ablation import compare_variants, own_variant, variants
    from hspc_models.finish import done_before
    from hspc_models.sources import open_source

    source = open_source(settings)
    both = {}
    for name, changed in variants(settings).items():
        report = done_before(out / name, changed, source)
        if report is None or not (out / name / PAGE).exists():
            report = _train(changed, out / name, f"{command} --ablation")
        if report is not None:
            both[name] = report["validation"]
    if not _first():
        return None
    progress.print("both models on the same cells", markup=False)
    metrics = json.loads(metrics_text(compare_variants(out, settings, source)))
    files = write_ablation(out, metrics)
    return {
        "model_dir": str(out / own_variant(settings)),
        "validation": both[own_variant(settings)],
        "ablation": both,
        "comparison": metrics["comparison"],
        "files": [str(path) for path in files],
    }


def _cross_validate(settings: TrainSettings, folds: int, out: Path, command: str) -> dict[str, Any] | None:
    from hspc_models.crossval import cross_validate
    from hspc_models.peers import HOG, NETWORK, RADIAL, RESNET

    with _Bar(settings) as bar:
        found = cross_validate(settings, folds, out, command, lambda fold, now: bar.step(now, f"fold {fold + 1}, "))
    if found is None or not _first():
        return None
    files = write_folds(out, f"{settings.name} {settings.version}", settings.classes, json.loads(metrics_text(found)))
    ours, resnet, hog, radial = (found[name] for name in (NETWORK, RESNET, HOG, RADIAL))
    return {
        "model_dir": None,  # none of the folds' models is the one to ship
        "model_dirs": [str(out / f"fold-{number + 1}") for number in range(folds)],
        "validation": {
            "balanced_accuracy": ours["balanced_accuracy"]["value"],
            "balanced_accuracy_interval": [ours["balanced_accuracy"]["low"], ours["balanced_accuracy"]["high"]],
            "macro_f1": ours["macro"]["f1"]["value"],
            "n": ours["n"],
            "data": f"{folds} folds, each judged by a model that had not seen it",
            "hog_balanced_accuracy": hog["balanced_accuracy"]["value"],
            "radial_balanced_accuracy": radial["balanced_accuracy"]["value"],
            "resnet_balanced_accuracy": resnet["balanced_accuracy"]["value"],
        },
        "folds": [fold[NETWORK]["balanced_accuracy"]["value"] for fold in found["folds"]],
        "confusion": ours["confusion"],
        "ceiling": found["ceiling"],
        "files": [str(path) for path in files],
    }


def _rows(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    validation = result["validation"]
    low, high = validation["balanced_accuracy_interval"]
    yield "model", result["model_dir"] or f"one for each fold, in {Path(result['model_dirs'][0]).parent}"
    yield "balanced accuracy", f"{validation['balanced_accuracy']:.3f} (95 %: {low:.3f} to {high:.3f})"
    yield "macro F1", f"{validation['macro_f1']:.3f}"
    yield "HOG + logistic regression", f"{validation['hog_balanced_accuracy']:.3f}"
    if (radial := validation.get("radial_balanced_accuracy")) is not None:
        yield "ring profiles + small network", f"{radial:.3f}"
    if (resnet := validation.get("resnet_balanced_accuracy")) not in (None, validation["balanced_accuracy"]):
        yield "its ResNet-50 alone", f"{resnet:.3f}: the model reads rings as well"
    yield "judged on", f"{validation['n']} crops: {validation['data']}"
    for name, judged in result.get("ablation", {}).items():
        a, b = judged["balanced_accuracy_interval"]
        yield name.replace("_", " "), f"{judged['balanced_accuracy']:.3f} (95 %: {a:.3f} to {b:.3f})"
    if (learnt := result.get("learnt_from")) is not None:
        yield "learnt from", f"{learnt['shipped']} crops; the model that was judged, from {learnt['judged']} of them"
    if (paired := result.get("comparison")) is not None:
        gap = paired["difference"]
        yield (
            "turned minus as taken",
            f"{gap['value']:+.3f} (95 %: {gap['low']:+.3f} to {gap['high']:+.3f}), p = {paired['p']:.2g}, "
            f"n = {paired['n']} ({paired['test']})",
        )
    if (folds := result.get("folds")) is not None:
        yield "each fold", ", ".join(f"{value:.3f}" for value in folds)
    if (ceiling := result.get("ceiling")) is not None:
        yield (
            "believed ceiling",
            f"{ceiling['believed']:.3f}: network and peers agree on {ceiling['agreement']:.0%} of the cells; where all "
            f"are wrong alike, nothing seen so far tells better. Mistakes by one class: {ceiling['neighbours']:.0%} "
            f"(if all were as likely: {ceiling['neighbours_by_chance']:.0%})",
        )


def source_changes(data: Path | None, recipe: str | None, backbone: str | None, overrides: list[str]) -> list[str]:
    """The options as overrides of settings; what `--set` says comes last, and wins."""
    changes = []
    if data is not None:
        changes += ["source.kind=files", f"source.data={json.dumps(str(data.expanduser().absolute()))}"]
    if recipe is not None:
        changes.append(f"recipe.kind={recipe}")
    if backbone is not None:
        changes.append(f"recipe.backbone={json.dumps(backbone)}")
    return [*changes, *overrides]


def _first() -> bool:
    """Whether this is the one of torchrun's processes that writes and speaks."""
    return os.environ.get("RANK", "0") == "0"


class _Bar:
    """A progress bar on stderr on a terminal, elsewhere a line an epoch; of several processes, one speaks."""

    def __init__(self, settings: TrainSettings) -> None:
        self._epochs = settings.epochs
        self._silent = not _first()
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]} of {task.fields[epochs]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=progress,
            disable=self._silent or not progress.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, epoch=1, epochs=self._epochs, note="")

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self, now: Step, where: str = "") -> None:
        """Take note of a step or of an epoch's figures."""
        if now.line is None:
            self._bar.update(
                self._task,
                completed=now.epoch * now.steps + now.step,
                total=self._epochs * now.steps,
                epoch=now.epoch + 1,
            )
            return
        note = f"{where}loss {now.line['train_loss']:.3f}"
        if "validation_balanced_accuracy" in now.line:
            note += f", balanced accuracy {now.line['validation_balanced_accuracy']:.3f}"
        self._bar.update(self._task, note=note)
        if not self._silent and not progress.is_terminal:
            progress.print(f"epoch {now.epoch + 1} of {self._epochs}: {note}", markup=False)
