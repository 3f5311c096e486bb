"""A label image held against hand-drawn or made outlines: for `field_robustness.py`.

A cell counts as found where a label overlaps it with IoU >= 0.5, each label and each cell once, the best first. Cells
within 3 px of the border, labels within 6 px of it, and labels that lie in truth label 65535 count neither way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

IGNORED = 65535
Labels = NDArray[Any]


@dataclass(slots=True, eq=False)
class Score:
    """Cells there, found, false finds; IoU and diameter ratio of the found; merged labels; CPU ms of each image."""

    there: int = 0
    hits: int = 0
    false: int = 0
    merged: int = 0
    merged_accepted: int = 0
    mistaken: int = 0  # images taken for the wrong modality
    iou: list[float] = field(default_factory=list)
    size: list[float] = field(default_factory=list)
    ms: list[float] = field(default_factory=list)

    def __iadd__(self, other: Score) -> Score:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    def figures(self) -> tuple[float, float, float]:
        """Recall, precision, mean IoU."""
        found = self.hits + self.false
        recall = self.hits / self.there if self.there else 1.0
        return recall, self.hits / found if found else 1.0, float(np.mean(self.iou)) if self.iou else 0.0

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        recall, precision, iou = self.figures()
        size = np.quantile(self.size, (0.25, 0.5, 0.75)).round(3).tolist() if self.size else None
        return {
            "cells": self.there, "recall": round(recall, 4), "precision": round(precision, 4), "iou": round(iou, 4),
            "missed": self.there - self.hits, "false": self.false, "merged": self.merged,
            "merged_accepted": self.merged_accepted, "mistaken": self.mistaken, "size_quartiles": size,
            "ms": round(float(np.median(self.ms)), 1) if self.ms else None,
        }  # fmt: skip

    def __str__(self) -> str:
        size = "{:.2f} ({:.2f}-{:.2f})".format(*np.quantile(self.size, (0.5, 0.25, 0.75))) if self.size else "-"
        ms = np.median(self.ms) if self.ms else 0.0
        other = f"  {self.mistaken} taken for the other modality" if self.mistaken else ""
        figures = " ".join(f"{v:.3f}" for v in self.figures())
        counts = f"{self.there - self.hits:3d} {self.false:3d}  {self.merged:2d}/{self.merged_accepted:<2d}"
        return f"{figures}  {counts} {size:17s}{ms:6.1f}{other}"


def score(labels: Labels, truth: Labels, accepted: NDArray[np.bool_]) -> Score:
    """Hold a label image against the truth; `accepted` (n,) tells it of labels 1…n."""
    ignored = truth == IGNORED
    truth = np.where(ignored, 0, truth).astype(np.int64)
    n, m = int(truth.max()), int(labels.max())
    joint = np.bincount((truth * (m + 1) + labels).ravel(), minlength=(n + 1) * (m + 1)).reshape(n + 1, m + 1)
    inter, true_size, size = joint[1:, 1:], joint[1:].sum(1), joint[:, 1:].sum(0)
    iou = inter / np.maximum(true_size[:, None] + size[None] - inter, 1)
    there = set((np.flatnonzero(true_size) + 1).tolist()) - at_border(truth, 3)
    in_ignored = np.bincount(labels[ignored].ravel(), minlength=m + 1)[1:] > 0.3 * size
    excused = at_border(labels, 6) | set((np.flatnonzero(in_ignored) + 1).tolist())
    out, left, used = Score(there=len(there)), iou.copy(), set()
    while left.size and left.max() >= 0.5:
        i, j = np.unravel_index(left.argmax(), left.shape)
        used.add(int(j) + 1)
        if int(i) + 1 in there:
            out.hits += 1
            out.iou.append(float(iou[i, j]))
            out.size.append(float(np.sqrt(size[j] / true_size[i])))
        left[i] = 0
        left[:, j] = 0
    out.false = sum(1 for j in range(1, m + 1) if size[j - 1] and j not in used and j not in excused)
    several = (inter > 0.5 * np.maximum(true_size, 1)[:, None]).sum(0) > 1
    out.merged, out.merged_accepted = int(several.sum()), int((several & accepted[:m]).sum())
    return out


def at_border(labels: Labels, width: int) -> set[int]:
    """The labels within `width` pixels of the image's border."""
    sides = (labels[:width], labels[-width:], labels[:, :width], labels[:, -width:])
    return set(np.unique(np.concatenate([side.ravel() for side in sides])).tolist()) - {0}
