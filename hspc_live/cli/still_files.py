"""Where `segment` puts label images and overlays: `<stem>.png` for each image, in a folder of each kind.

Who runs the command again means to have the new results in place of the old, and must never take an old one for new.
So what an earlier run left for the same images is removed before the first image is done. It is told by what the PNG
file itself says: anything else in its place, an input or outlines drawn by hand, is refused and stays.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import OutputError
from hspc_live.recording import png
from hspc_live.report.field_overlay import OVERLAY
from hspc_live.report.style import SOFTWARE

LABELS = f"{SOFTWARE}, label image"


class StillFiles:
    """The files of one run, checked before the work."""

    def __init__(self, files: Sequence[Path], labels: Path | None, overlay: Path | None) -> None:
        """Make the folders. Raises OutputError where two images would share a name or a file is not ours to replace."""
        self._files = files
        self._kinds = {
            folder: software for folder, software in ((labels, LABELS), (overlay, OVERLAY)) if folder is not None
        }
        self._labels, self._overlay = labels, overlay
        self._written: set[Path] = set()
        if not self._kinds:
            return
        if labels is not None and overlay is not None and os.path.realpath(labels) == os.path.realpath(overlay):
            raise OutputError("--labels and --overlay name the same folder, and so the same files; give two folders")
        stems: dict[str, Path] = {}
        for file in files:
            other = stems.setdefault(file.stem.casefold(), file)  # many file systems take A.png and a.png for one
            if other is not file:
                raise OutputError(
                    f"{other} and {file} would both be written as {file.stem}.png; use a folder for each run"
                )
        for folder in self._kinds:
            _make(folder)
        inputs = {os.path.realpath(file) for file in files}
        for path, software in self._earlier():
            if os.path.realpath(path) in inputs:
                raise OutputError(f"{path.parent}: {path.name} would replace an input; give another folder")
            if _made_by(path) != software:
                raise OutputError(
                    f"{path} exists, and no earlier run of `segment` wrote it here: nothing is overwritten; "
                    "give another folder"
                )

    def remove_earlier(self) -> None:
        """Remove what an earlier run left for these images. Raises OutputError."""
        for path, _ in self._earlier():
            try:
                path.unlink()
            except OSError as error:
                raise OutputError(f"{path} of an earlier run cannot be removed: {error.strerror}") from error

    def write_labels(self, file: Path, labels: NDArray[np.uint16]) -> None:
        """Write the label image of `file`, if any are wanted. Raises OutputError."""
        if self._labels is None:
            return
        path = _of(self._labels, file)
        try:
            with path.open("xb") as out:
                self._written.add(path)
                out.write(png.signed(cv2.imencode(".png", labels)[1].tobytes(), LABELS))
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}") from error

    def overlay_of(self, file: Path) -> Path | None:
        """Where the overlay of `file` goes, None where none are wanted."""
        if self._overlay is None:
            return None
        path = _of(self._overlay, file)
        self._written.add(path)
        return path

    def withdraw(self, file: Path) -> None:
        """Remove what this run has written for `file`, whole or in part: not all of it could be."""
        for folder in self._kinds:
            if (path := _of(folder, file)) in self._written:
                with contextlib.suppress(OSError):  # the same fault that kept it from being written, and that is said
                    path.unlink(missing_ok=True)

    def _earlier(self) -> Iterator[tuple[Path, str]]:
        """Files that lie where this run would write, and what they must say of themselves."""
        for folder, software in self._kinds.items():
            for file in self._files:
                path = _of(folder, file)
                if os.path.lexists(path):
                    yield path, software


def own(file: Path) -> bool:
    """Whether `segment` wrote this file: a label image or an overlay, and no picture to find cells in."""
    try:
        return png.made_by(file) in (LABELS, OVERLAY)
    except OSError:  # whoever reads it says so
        return False


def _of(folder: Path, file: Path) -> Path:
    return folder / f"{file.stem}.png"


def _made_by(path: Path) -> str | None:
    try:
        return None if path.is_symlink() or not path.is_file() else png.made_by(path)
    except OSError as error:
        raise OutputError(f"{path} exists and cannot be read: {error.strerror}; give another folder") from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # better now than after the first image
            pass
    except FileExistsError as error:
        raise OutputError(f"{folder} is a file; give the name of a folder") from error
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}") from error
