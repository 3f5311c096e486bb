"""What was said of the cells against what they really were. Only where truth is known: on the digital twin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from hspc_live.report import style
from hspc_live.report.evidence import Evidence
from hspc_live.twin.score import ABSTAIN, score_cells


@dataclass(frozen=True, slots=True, eq=False)
class Confusion:
    """`counts[i, j]`: cells of true kind `kinds[i]` of which `said[j]` was said; the last column is abstention.

    The first `known` kinds are classes of the model (all of them, those without a cell too); the rest are strangers.
    """

    kinds: tuple[str, ...]
    said: tuple[str, ...]
    counts: NDArray[np.int64]
    known: int

    def shares(self) -> NDArray[np.float64]:
        """Each count as a share of its row; 0 in rows without cells."""
        rows = self.counts.sum(axis=1, keepdims=True)
        shares: NDArray[np.float64] = self.counts / np.maximum(rows, 1)
        return shares


def confusion_table(found: Mapping[str, Mapping[str, int]], classes: Sequence[str]) -> Confusion:
    """The table of `score_cells`' `confusion`, rows and columns in the order of the classes, strangers last."""
    strangers = sorted(set(found) - set(classes))
    kinds, said = (*classes, *strangers), (*classes, ABSTAIN)
    counts = np.array([[found.get(kind, {}).get(word, 0) for word in said] for kind in kinds], np.int64)
    return Confusion(kinds, said, counts.reshape(len(kinds), len(said)), len(classes))


def consistency_words(scores: Mapping[str, Any]) -> str:
    """The consistency rate with interval and n, as a title says it."""
    if scores["consistency_rate"] is None:
        return "no cell of a known class was classified"
    low, high = scores["consistency_interval"]
    rate, low, high = (style.per_cent(share, 1) for share in (scores["consistency_rate"], low, high))
    return f"consistency rate {rate} (95 % interval {low} – {high}, n = {scores['n']} cells)"


def draw_confusion(evidence: Evidence, folder: Path) -> list[Path]:
    """Write `confusion.png`; nothing where there is no truth or no cell was classified."""
    if evidence.truth is None or not any(record.classification for record in evidence.records):
        return []
    scores = score_cells(evidence.records, evidence.truth, evidence.classes)
    table = confusion_table(scores["confusion"], evidence.classes)
    rows, columns = table.counts.shape
    tall_in = 1.75 + 0.62 * rows
    figure = style.new_figure(tall_in)
    style.heading(figure, f"Predicted class against truth: {consistency_words(scores)}", evidence.source)
    axes = figure.add_axes((0.2, 0.62 / tall_in, 0.6, 0.62 * rows / tall_in))
    shares = table.shares()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.15, aspect="auto")
    for i, j in np.ndindex(rows, columns):
        if table.counts[i].sum():
            right = table.kinds[i] == table.said[j]
            axes.text(
                j, i, f"{table.counts[i, j]}   ({style.per_cent(float(shares[i, j]))})", ha="center", va="center",
                fontsize=style.NORMAL + 1, color="white" if shares[i, j] > 0.62 else style.INK,
                fontweight="bold" if right else "normal",
            )  # fmt: skip
            if right:
                frame = Rectangle((j - 0.47, i - 0.44), 0.94, 0.88, fill=False, ec="#D55E00", lw=1.8, zorder=3)
                axes.add_patch(frame)
    names = [f"{kind}  (n = {n})" for kind, n in zip(table.kinds, table.counts.sum(axis=1).tolist(), strict=True)]
    axes.set_yticks(range(rows), names)
    axes.set_xticks(range(columns), [*table.said[:-1], "abstained"])
    axes.xaxis.tick_top()
    axes.set_xlabel("predicted (all looks at a cell combined)", labelpad=8)
    axes.xaxis.set_label_position("bottom")
    axes.tick_params(labelsize=style.NORMAL + 0.5, length=0)
    axes.xaxis.label.set_fontsize(style.NORMAL + 0.5)
    axes.spines[:].set_visible(False)
    axes.hlines(np.arange(0.5, rows - 1), -0.5, columns - 0.5, color="white", lw=1.5)
    axes.vlines(np.arange(0.5, columns - 1), -0.5, rows - 0.5, color="white", lw=1.5)
    if rows > table.known:
        axes.axhline(table.known - 0.5, color=style.INK, lw=1.4)
        axes.text(
            columns - 0.42, (table.known + rows - 1) / 2, "strangers:\nno class of the\nmodel is right",
            va="center", fontsize=style.NORMAL, color="#555555",
        )  # fmt: skip
    axes.text(
        columns - 0.42, (table.known - 1) / 2, "classes of\nthe model", va="center", fontsize=style.NORMAL,
        color="#555555",
    )  # fmt: skip
    lost, silent = scores["unmatched"], sum(record.classification is None for record in evidence.records)
    note = "Rows: what the cells really were. Counts of cells, and shares of their row; framed: right. "
    note += "The rate counts the most probable class of abstained cells, too."
    note += f" {lost} classified cells could not be matched to a true object." if lost else ""
    note += f" {silent} tracked cells were never classified." if silent else ""
    figure.text(0.02, 0.1 / tall_in, note, fontsize=style.SMALL, color="#555555", va="bottom")
    return [style.save(figure, folder / "confusion.png")]
