"""The picture of the classes' sizes: every cell a dot, a box over them, mean ± SEM beside it."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hspc_live.core.errors import OutputError
from hspc_live.report import style
from hspc_live.report.size_statistics import PairTest, SizeComparison, SizeGroup

NAME: Final = "sizes"
MOST_GROUPS: Final = 8
"""More boxes than these on one picture cannot be read; the JSON has them all."""

LINES: Final = 22
"""Lines of text that fit beside the picture; pairs of classes give way to remarks."""

DOT_WIDTH: Final = 0.30
BOX_WIDTH: Final = 0.16
MEAN_AT: Final = 0.40
"""Where the mean stands, right of its class: clear of its dots and of the next one's."""

MOST_BRACKETS: Final = 6
"""All pairs of four classes; of more pairs the text alone speaks."""

SMALLEST_P: Final = 1e-300
RAISED: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
FORMATS: Final = ("png", "svg")


def draw_sizes(comparison: SizeComparison, folder: Path, source: str) -> list[Path]:
    """Write `sizes.png` and `sizes.svg` into `folder`; nothing where no class has a cell. `source`: whose data it is.

    Raises OutputError where they cannot be written.
    """
    if not any(group.n for group in comparison.groups):
        return []
    figure = sizes_figure(comparison, source)
    paths = [folder / f"{NAME}.{suffix}" for suffix in FORMATS]
    try:
        for path in paths:
            style.save(figure, path) if path.suffix == ".png" else _save_svg(figure, path)
    except OSError as error:
        raise OutputError(f"{folder}: the picture cannot be written: {error.strerror or error}") from error
    return paths


def _save_svg(figure: Figure, path: Path) -> None:
    """The same picture as SVG; its dots are one raster image, as ten thousand circles would stall any viewer."""
    figure.savefig(path, metadata={"Creator": "HSPC Live", "Date": None})


def sizes_figure(comparison: SizeComparison, source: str) -> Figure:
    """The picture that `draw_sizes` writes, of classes of which one at least has a cell."""
    groups = [group for group in comparison.groups if group.n][:MOST_GROUPS]
    shown = {group.name for group in groups}
    pairs = [pair for pair in comparison.pairs if {pair.first, pair.second} <= shown]
    tall_in = 6.2
    figure = style.new_figure(tall_in)
    style.heading(figure, _title(comparison), source)
    axes = figure.add_axes((0.06, 0.17, 0.52, 0.70))
    colours = style.class_colours([group.name for group in groups])
    for place, group in enumerate(groups):
        _group(axes, place, group, colours[group.name])
    style.plain(axes)
    axes.set_xlim(-0.5, len(groups) - 0.45)
    axes.set_xticks(range(len(groups)), [_label(group) for group in groups])
    axes.set_ylabel("diameter (µm)")
    axes.grid(axis="y", color=style.PALE, lw=0.5)
    low, high = _limits(groups)
    axes.set_ylim(low, _brackets(axes, pairs, [group.name for group in groups], high, (high - low) * 0.075))
    _table(figure, comparison, groups, pairs)
    note = "Every cell is a dot. Box: middle half with median; whiskers: to the outermost cell within 1.5 × IQR of it. "
    note += "Diamond: mean ± SEM.\n"
    if pairs:
        note += "* p < 0.05, ** p < 0.01, *** p < 0.001, n.s. not significant: t test, without Holm's correction. "
    if len(groups) < sum(1 for group in comparison.groups if group.n):
        note += f"Only the first {len(groups)} classes are drawn; the JSON has all. "
    note += "Cells of one animal are not independent: p values speak of these cells, not of animals."
    figure.text(0.02, 0.1 / tall_in, note, fontsize=style.SMALL, color="#555555", va="bottom", linespacing=1.4)
    return figure


def _title(comparison: SizeComparison) -> str:
    anova = comparison.anova
    if anova is None:
        return "Cell diameters: nothing to compare"
    verdict = "Cell diameters differ between the classes" if anova.p < 0.05 else "No difference in cell diameters shown"
    return f"{verdict} (one-way ANOVA, {p_words(anova.p)}; classes explain {_share(anova.eta_squared)} of the variance)"


def _share(share: float) -> str:
    return style.per_cent(share, 1 if share < 0.1 else 0)


def _label(group: SizeGroup) -> str:
    name = group.name if len(group.name) <= 18 else group.name[:17] + "…"
    return f"{name}\nn = {group.n:,}"


def _limits(groups: list[SizeGroup]) -> tuple[float, float]:
    """The range of all cells with a little air; never less than a µm, so that equal cells do not look scattered."""
    low = min(float(group.diameters_um[0]) for group in groups)
    high = max(float(group.diameters_um[-1]) for group in groups)
    middle, half = (low + high) / 2, max((high - low) / 2, 0.5) * 1.06
    return max(0.0, middle - half), middle + half


def _group(axes: Axes, place: int, group: SizeGroup, colour: str) -> None:
    values = group.diameters_um
    size = np.full(len(values), np.clip(900 / len(values), 2.5, 22))
    if group.whiskers_um is not None:  # a lone dot must be seen, however many others there are
        size[(values < group.whiskers_um[0]) | (values > group.whiskers_um[1])] = 9.0
    axes.scatter(
        place + _swarm(values), values, s=size, color=colour, alpha=0.75 if len(values) < 2000 else 0.45,
        edgecolors=style.INK, linewidths=0.4 if len(values) < 300 else 0, rasterized=True, zorder=2,
    )  # fmt: skip
    if group.quartiles_um is None or group.whiskers_um is None or group.sem_um is None:
        return
    (q1, median, q3), (low, high) = group.quartiles_um, group.whiskers_um
    left, middle, right = place - BOX_WIDTH, float(place), place + BOX_WIDTH
    axes.plot([left, right, right, left, left], [q1, q1, q3, q3, q1], color=style.INK, lw=1.3, zorder=4)
    axes.plot([left, right], [median, median], color=style.INK, lw=2.4, solid_capstyle="butt", zorder=4)
    for end, edge in ((low, q1), (high, q3)):
        axes.plot([middle, middle], [edge, end], color=style.INK, lw=1.1, zorder=4)
        axes.plot([middle - BOX_WIDTH / 2, middle + BOX_WIDTH / 2], [end, end], color=style.INK, lw=1.1, zorder=4)
    axes.errorbar(
        place + MEAN_AT, group.diameters_um.mean(), yerr=group.sem_um, fmt="D", ms=5, color=style.INK, mfc=colour,
        capsize=4, lw=1.3, zorder=5,
    )  # fmt: skip


def _brackets(axes: Axes, pairs: list[PairTest], names: list[str], low: float, step: float) -> float:
    """A bracket with its stars over every pair, from `low` upwards, near pairs first; returns where the last ends."""
    if len(pairs) > MOST_BRACKETS:
        return low
    spans = sorted(
        (names.index(pair.second) - names.index(pair.first), names.index(pair.first), pair) for pair in pairs
    )
    top = low
    taken: list[set[float]] = []  # of each level the half places that its brackets cover
    for span, first, pair in spans:
        covered = {first + half / 2 for half in range(1, 2 * span)}
        level = next((number for number, others in enumerate(taken) if not others & covered), len(taken))
        if level == len(taken):
            taken.append(set())
        taken[level] |= covered
        y = low + (level + 0.35) * step
        left, right = first + 0.05, first + span - 0.05
        axes.plot([left, left, right, right], [y - step / 5, y, y, y - step / 5], color=style.INK, lw=1.1, zorder=6)
        axes.text(
            (left + right) / 2,
            y + step / 10,
            pair.stars,
            ha="center",
            va="bottom",
            fontsize=style.NORMAL,
            color=style.INK,
        )
        top = max(top, y + step)
    return top


def _swarm(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sideways places that spread dots as wide as cells of that size are many; `values` sorted. No chance in it."""
    n = len(values)
    if n < 2 or values[0] == values[-1]:
        return np.linspace(-DOT_WIDTH / 2, DOT_WIDTH / 2, n) if n > 1 else np.zeros(n)
    bins = int(np.clip(np.sqrt(n) * 1.5, 4, 60))
    counts, edges = np.histogram(values, bins)
    wide = np.interp(values, (edges[1:] + edges[:-1]) / 2, counts / counts.max())
    # the golden ratio fills a line evenly however many come (a low-discrepancy sequence)
    even = (np.arange(n) * 0.6180339887498949) % 1.0 - 0.5
    spread: NDArray[np.float64] = 2 * DOT_WIDTH * even * wide
    return spread


def _table(figure: Figure, comparison: SizeComparison, groups: list[SizeGroup], pairs: list[PairTest]) -> None:
    """Mean ± SEM of each class, then the pairs, at the right of the picture."""
    axes = figure.add_axes((0.61, 0.05, 0.38, 0.82))
    axes.axis("off")
    lines: list[tuple[str, str, bool]] = [("mean ± SEM (median)", "", True)]
    for group in groups:
        median = "–" if group.quartiles_um is None else f"{group.quartiles_um[1]:.2f}"
        lines.append((group.name[:22], f"{mean_sem(group)} µm  ({median})", False))
    remarks = [line for remark in comparison.remarks for line in wrap(remark, 66)]
    fitting = max(1, (LINES - len(lines) - len(remarks) - 4) // 2)
    if pairs:
        kind = "Student's" if comparison.test == "student" else "Welch's"
        lines += [("", "", False), (f"difference (95 % interval), Cohen's d; {kind} t test", "", True)]
    for pair in pairs[:fitting]:
        low, high = pair.interval_um
        difference = f"{pair.difference_um:+.2f} ({low:+.2f}, {high:+.2f}) µm, d = {pair.cohens_d:+.2f}"
        lines.append((f"{pair.first[:12]} - {pair.second[:12]}", difference, False))
        lines.append(("", f"{p_words(pair.p)} {pair.stars}, Holm {p_words(pair.p_holm)}", False))
    if len(pairs) > fitting:
        lines.append((f"… and {len(pairs) - fitting} more pairs in the JSON", "", False))
    lines += [("", "", False), *((line, "", False) for line in remarks)]
    step = 1 / LINES
    for number, (left, right, bold) in enumerate(lines[:LINES]):
        weight = "bold" if bold else "normal"
        y = 1 - step * number
        axes.text(0.0, y, left, fontsize=style.NORMAL, color=style.INK, fontweight=weight, va="top")
        axes.text(0.33, y, right.replace("-", "−"), fontsize=style.NORMAL, color=style.INK, va="top")


def mean_sem(group: SizeGroup) -> str:
    """Mean ± SEM of a class that has cells, both to the same decimals: two, or three where the SEM is small."""
    if group.sem_um is None:
        return f"{group.mean_um:.2f} ± –"
    digits = 2 if group.sem_um >= 0.01 else 3
    return f"{group.mean_um:.{digits}f} ± {group.sem_um:.{digits}f}"


def p_words(p: float) -> str:
    """A p value as text; what is smaller than 0.001 by its power of ten."""
    if p >= 0.001:
        return f"p = {p:.3f}"
    if p < SMALLEST_P:
        return "p < 10⁻³⁰⁰"
    digit, _, power = f"{p:.0e}".partition("e")
    return f"p = {digit} × 10{str(int(power)).translate(RAISED)}"
