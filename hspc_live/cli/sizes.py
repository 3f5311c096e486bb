"""sizes: diameters by class, as the paper compares them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from hspc_live.cli.execute import make_out
from hspc_live.cli.options import Json
from hspc_live.cli.output import emit, print_files, screen
from hspc_live.core.errors import DataLoss, SettingsError
from hspc_live.report.size_sources import Sizes, read_sizes
from hspc_live.report.size_statistics import SizeComparison, compare_sizes
from hspc_live.report.sizes import NAME, draw_sizes, mean_sem, p_words


def sizes(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(help="Recordings, JSON of `segment`, CSV tables with diameter_um and class, picking lists."),
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option("--group", metavar="NAME=FILE", help="Take all cells of FILE as class NAME.")
    ] = None,
    test: Annotated[
        Literal["student", "welch"], typer.Option(help="t test: student (the paper's) takes equal variances.")
    ] = "student",
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Only cells classified with at least this score.")
    ] = 0.0,
    out: Annotated[Path | None, typer.Option(help="New folder for sizes.json, sizes.png and sizes.svg.")] = None,
    as_json: Json = False,
) -> None:
    """Compare cell diameters between classes: mean ± SEM, box plot, one-way ANOVA, t tests; pictures with --out."""
    found = read_sizes(sources or [], _groups(group or [], bool(sources)), min_score)
    compared = compare_sizes(found.diameters_um, test)
    comparison = replace(compared, remarks=(*found.missing, *compared.remarks))  # said on the picture, too
    result: dict[str, Any] = {
        "source": found.source,
        **comparison.to_json(),
        "left_out": dict(sorted(found.left_out.items())),
        "missing": found.missing,
        "unreadable": found.failures,
    }
    files: list[Path] = []
    if out is not None:
        make_out(out)
        files = [*draw_sizes(comparison, out, found.source), out / f"{NAME}.json"]
        files[-1].write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        result["files"] = [str(file) for file in files]
    if as_json:
        emit(result)
    else:
        _print(comparison, found)
        print_files(files)
    if found.failures:
        raise DataLoss("not read: " + "; ".join(found.failures))


def _groups(named: list[str], others: bool) -> list[tuple[str, Path]]:
    """NAME=FILE in two. Raises SettingsError for what is no such thing, and where there is nothing to read at all."""
    if not named and not others:
        raise SettingsError("sizes: give at least one file, or --group NAME=FILE")
    parts = [text.partition("=") for text in named]
    for text, (name, _, path) in zip(named, parts, strict=True):
        if not name.strip() or not path.strip():
            raise SettingsError(f"--group {text}: write it as NAME=FILE, e.g. --group LT-HSC=lt.json")
    return [(name.strip(), Path(path.strip())) for name, _, path in parts]


def _print(comparison: SizeComparison, found: Sizes) -> None:
    table = Table(title=f"Cell diameters · {found.source}", title_justify="left")
    for head in ("class", "n", "mean ± SEM (µm)", "median", "box", "whiskers", "outliers"):
        table.add_column(head)
    for group in comparison.groups:
        if group.quartiles_um is None or group.whiskers_um is None:
            table.add_row(group.name, "0", *["–"] * 5)
            continue
        q1, median, q3 = group.quartiles_um
        low, high = group.whiskers_um
        table.add_row(
            group.name, str(group.n), mean_sem(group), f"{median:.2f}", f"{q1:.2f} – {q3:.2f}",
            f"{low:.2f} – {high:.2f}", str(group.outliers),
        )  # fmt: skip
    screen.print(table)
    if (anova := comparison.anova) is not None:
        screen.print(
            f"one-way ANOVA: F({anova.df_between}, {anova.df_within}) = {anova.f:.3g}, {p_words(anova.p)}; "
            f"the classes explain {anova.eta_squared:.1%} of the variance"
        )
    if comparison.pairs:
        kind = "Student's" if comparison.test == "student" else "Welch's"
        pairs = Table(title=f"{kind} t tests", title_justify="left")
        for head in ("classes", "difference (95 % interval) µm", "t", "p", "Holm's p"):
            pairs.add_column(head)
        for pair in comparison.pairs:
            low, high = pair.interval_um
            pairs.add_row(
                f"{pair.first} - {pair.second}", f"{pair.difference_um:+.2f} ({low:+.2f}, {high:+.2f})",
                f"{pair.t:.2f}", f"{p_words(pair.p)} {pair.stars}".removeprefix("p = "),
                p_words(pair.p_holm).removeprefix("p = "),
            )  # fmt: skip
        screen.print(pairs)
    left_out = (f"{count} cells left out: {reason}" for reason, count in sorted(found.left_out.items()))
    for line in (*comparison.remarks, *left_out):
        screen.print(line, markup=False)
