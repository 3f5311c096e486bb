"""Cells of the twin's chamber in its still fields, held against the truth: what is merged, missed and not marked.

    python tools/field_chamber.py [--seed 1] [--fields 100] [--config rigs/twin_chamber] [--overlays DIR]

Films fields of the chamber's settings side by side, segments each as the chamber run does, and counts, of bodies that
lie clear of the border: `found` (a label among the cells overlaps a body of a known class, alone, with IoU >= 0.5);
`merged` (share a label among the cells with another body); labels among the cells that hold two bodies or more, and of
these the accepted; for dead cells, shrunken and swollen, and for debris of 2.5 µm or more, how many have no object of
any kind within `NEAR_UM`; labels that hold no body.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.crop import CropGeometry
from hspc_live.core.values import Modality
from hspc_live.settings.chamber_run import ChamberRunSettings
from hspc_live.settings.load import load_run
from hspc_live.settings.shipped import shipped_config
from hspc_live.stages.field import FieldResult, FieldSegmenter
from hspc_live.twin.cells import CLASSES
from hspc_live.twin.chamber import ChamberTwin

NEAR_UM = 4.0
SWOLLEN_UM = 8.2  # dead cells larger than this are the pale, swollen ones
BORDER_PX = 6


def count(result: FieldResult, truth: NDArray[np.uint16], kinds: list[str], um: float) -> Counter[str]:
    """Of one field: `truth` its label image, `kinds` the kind of the body of each label 1 … n."""
    out: Counter[str] = Counter()
    n, m = len(kinds), int(result.labels.max())
    joint = np.bincount(
        (truth.astype(np.int64) * (m + 1) + result.labels).ravel(), minlength=(n + 1) * (m + 1)
    ).reshape(n + 1, m + 1)
    inter, true_size, size = joint[1:, 1:], joint[1:].sum(1), joint[:, 1:].sum(0)
    sides = (truth[:BORDER_PX], truth[-BORDER_PX:], truth[:, :BORDER_PX], truth[:, -BORDER_PX:])
    at_border = set(np.unique(np.concatenate([side.ravel() for side in sides])).tolist())
    covered = inter > 0.5 * np.maximum(true_size, 1)[:, None]
    # a body is a cell, alive or dead, or a bead: debris lost in a cell's outline is no second cell
    bodies = np.array([kind != "debris" for kind in kinds], bool)
    several = (covered & bodies[:, None]).sum(0) > 1
    accepted = np.array([r is None for r, whole in zip(result.reasons, result.whole, strict=True) if whole], bool)
    out["labels"], out["labels of two or more"] = m, int(several.sum())
    out["of these accepted"] = int((several & accepted[:m]).sum()) if m else 0
    out["labels of nothing"] = int((inter.max(0, initial=0) < 0.3 * size).sum())
    iou = inter / np.maximum(true_size[:, None] + size[None] - inter, 1)
    rows = result.frame.objects
    for i, kind in enumerate(kinds):
        if i + 1 in at_border or not true_size[i]:
            continue
        ys, xs = np.nonzero(truth == i + 1)
        near = np.hypot(rows["x_um"] / um - xs.mean(), rows["y_um"] / um - ys.mean()) * um < NEAR_UM
        diameter = 2 * np.sqrt(true_size[i] / np.pi) * um
        where = kind
        if kind == "dead":
            where = "dead, swollen" if diameter > SWOLLEN_UM else "dead, shrunken"
        if kind == "debris" and diameter < 2.5:
            continue
        out[f"{where}: there"] += 1
        out[f"{where}: not marked"] += int(not near.any())
        out[f"{where}: a cell"] += int(near.any() and bool((near & result.whole).any()))
        if kind in (*CLASSES, "doublet", "cluster", "bead"):
            out["bodies"] += 1
            out["merged"] += int((covered[i] & several).any())
            alone = (iou[i] >= 0.5) & ~several
            out[f"{where}: found"] += int(alone.any())
    return out


def main() -> None:
    """Film, segment, count; prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="rigs/twin_chamber")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fields", type=int, default=100)
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE, as for `hspc-live run`")
    parser.add_argument("--overlays", type=Path)
    parser.add_argument("--keep", type=Path, help="folder where filmed fields are kept and taken from again")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    settings = load_run(shipped_config(options.config), [f"camera.twin.seed={options.seed}", *options.set])
    assert isinstance(settings, ChamberRunSettings)
    twin_settings: Any = settings.camera.twin  # type: ignore[union-attr]
    um = twin_settings.um_per_px
    twin = ChamberTwin(twin_settings) if options.keep is None or not options.keep.exists() else None
    stage = FieldSegmenter(settings.segment, um, Modality(twin_settings.modality), CropGeometry())
    edge = twin_settings.width_px * um
    columns = int(np.ceil(np.sqrt(options.fields)))
    total: Counter[str] = Counter()
    for number in range(options.fields):
        pixels, truth, kinds = _filmed(twin, number, columns, edge, options.keep)
        result = stage.field(pixels)
        total += count(result, truth, kinds, um)
        if options.overlays is not None:
            _draw(options.overlays / f"{number:03d}.png", pixels, truth, result)
    print(json.dumps({"seed": options.seed, "fields": options.fields, **dict(sorted(total.items()))}, indent=1))


def _filmed(
    twin: ChamberTwin | None, number: int, columns: int, edge_um: float, keep: Path | None
) -> tuple[NDArray[Any], NDArray[np.uint16], list[str]]:
    """One field, its labels and the kinds of their bodies."""
    kept = None if keep is None else keep / f"{number}.npz"
    if kept is not None and kept.exists():
        with np.load(kept, allow_pickle=False) as file:
            return file["pixels"], file["truth"], [str(kind) for kind in file["kinds"]]
    assert twin is not None, f"{kept} is missing; film into an empty folder"
    x_um, y_um = ((place + 0.5 - columns / 2) * 0.9 * edge_um for place in divmod(number, columns))
    pixels = twin.render(x_um, y_um, 60.0, number=number)
    truth, owners = twin.labels(x_um, y_um, 60.0)
    kinds = [twin.settled.thing(int(owner)).kind for owner in owners]
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(kept, pixels=pixels, truth=truth, kinds=np.array(kinds))
    return pixels, truth, kinds


def _draw(path: Path, pixels: NDArray[Any], truth: NDArray[np.uint16], result: FieldResult) -> None:
    """The picture with the true outlines in green, the cells found in magenta, the centres of what is rejected red."""
    light = pixels.astype(np.float32) / np.quantile(pixels, 0.999) * 255
    picture = cv2.cvtColor(np.clip(light, 0, 255).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    for image, colour in ((truth, (0, 220, 0)), (result.labels, (255, 0, 255))):
        for label in np.unique(image)[1:]:
            outlines = cv2.findContours((image == label).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
            cv2.drawContours(picture, outlines, -1, colour, 1)
    for row, whole, reason in zip(result.frame.objects, result.whole, result.reasons, strict=True):
        box = [int(row[name]) for name in ("x0_px", "y0_px", "x1_px", "y1_px")]
        if not whole:
            cv2.rectangle(picture, box[:2], box[2:], (0, 0, 255), 1)
        if reason is not None:
            cv2.putText(picture, str(reason), box[:2], cv2.FONT_HERSHEY_PLAIN, 0.8, (0, 255, 255), 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture)


if __name__ == "__main__":
    main()
