"""Crops from a folder that holds a folder of pictures for each class: CLASS/cell.png, or CLASS/GROUP/cell.png."""

from __future__ import annotations

from pathlib import Path
from typing import Final, cast

import numpy as np

from hspc_live.core.errors import RecordingError, SettingsError
from hspc_live.core.values import Pixels
from hspc_live.recording.images import SUFFIXES, StillImage, image_files, read_image
from hspc_models.dataset import UNKNOWN, LabelledCrops, Origins

GROUP_FOLDER: Final = "folder"
_SAME_SCALE: Final = 0.01


def read_tree(path: Path, label: str | None, group_by: str | None, um_per_px: float | None) -> LabelledCrops:
    """Every picture below `path`, classes and groups by folder.

    Pictures that lie in `path` itself are all of class `label`, or of no class. Raises RecordingError for a picture
    that cannot be read, or is of another size, depth or scale than the first; SettingsError for a `group_by` that
    folders do not have.
    """
    if group_by not in (None, GROUP_FOLDER):
        raise SettingsError(
            f"{path}: a folder of pictures has no column {group_by}; put each group into a folder of its own, as "
            f"CLASS/GROUP/cell.png, and say --group-by {GROUP_FOLDER}"
        )
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    loose = any(p.suffix.lower() in SUFFIXES for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
    if loose and folders:
        raise RecordingError(f"{path}: pictures beside folders of classes; move them into the folder of their class")
    if not loose and not folders:
        raise RecordingError(f"{path}: no folders of classes and no pictures in it; put CLASS/cell.png into it")
    if label is not None and not loose:
        raise SettingsError(
            f"{path}: its folders already name classes; --label {label} is for pictures without a class"
        )
    files, labels, groups = [], [], []
    for number, folder in enumerate([path] if loose else folders):
        for file in _pictures(folder):
            files.append(file)
            labels.append(number if label is not None or not loose else UNKNOWN)
            groups.append(file.parent.name if file.parent != folder else path.name)
    images = [read_image(file) for file in files]
    notes = _checked(path, images)
    group_names, group = np.unique(np.array(groups), return_inverse=True)
    if list(group_names) == [path.name]:
        notes.append(f"{path.name}: taken for one group, as its classes have no folders of groups in them")
    if loose and label is None:
        notes.append(f"{path.name}: no folders of classes, so no crop has a class: good for predict only")
    scale = um_per_px if um_per_px is not None else images[0].um_per_px
    return LabelledCrops(
        cast("Pixels", np.stack([image.pixels for image in images])),
        np.array(labels, np.int64),
        ((label,) if label is not None else ()) if loose else tuple(folder.name for folder in folders),
        group.astype(np.int64),
        float("nan") if scale is None else scale,
        path.name,
        tuple(str(name) for name in group_names),
        origins=Origins(
            tuple(file.relative_to(path).as_posix() for file in files),
            np.arange(len(files)),
            np.zeros(len(files), np.int64),
        ),
        notes=tuple(notes),
    )


def _pictures(folder: Path) -> list[Path]:
    """The pictures of a class: in its folder, and in the folders of groups in that."""
    groups = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    deeper = [p for group in groups for p in group.iterdir() if p.is_dir()]
    if deeper:
        raise RecordingError(f"{deeper[0]}: folders go CLASS/GROUP/cell.png and no deeper; move its pictures up")
    found = [file for place in (folder, *groups) for file in image_files([place]) if file != place]
    if not found:
        raise RecordingError(f"{folder}: no PNG or TIFF file for this class; add crops, or remove the folder")
    return found


def _checked(path: Path, images: list[StillImage]) -> list[str]:
    """What to say of the pictures' scale. Raises RecordingError where they do not fit together."""
    first = images[0]
    for image in images:
        height, width = image.pixels.shape
        if height != width:
            raise RecordingError(f"{image.path}: {width} × {height} pixels; cut or pad crops to squares")
        for what, one, other in (
            ("pixels", f"{len(first.pixels)} × {len(first.pixels)}", f"{width} × {height}"),
            ("", str(first.pixels.dtype), str(image.pixels.dtype)),
        ):
            if one != other:
                raise RecordingError(
                    f"{image.path}: {other} {what}".rstrip() + f", but {first.path.name} has {one}; bring all crops of "
                    "a folder to one size and depth"
                )
    scales = [image.um_per_px for image in images if image.um_per_px is not None]
    if scales and max(scales) > min(scales) * (1 + _SAME_SCALE):
        raise RecordingError(
            f"{path}: pictures of {min(scales):g} and {max(scales):g} µm/px; keep each scale in a folder of its own"
        )
    if scales and len(scales) < len(images):
        return [f"{path.name}: {len(images) - len(scales)} pictures state no scale; that of the others is taken"]
    return []
