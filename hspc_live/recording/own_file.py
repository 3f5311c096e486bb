"""What every recording of ours holds beside its pictures: attributes, texts, tables and JSON lines under `/hspc`.

Of a file that was not closed only what the recorder had acknowledged is given (`committed`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import RecordingError
from hspc_live.core.values import CameraInfo, Modality
from hspc_live.recording.recover import Source

CRASHED: Final = "not closed: the recorder crashed (or still writes); what it had acknowledged is given"
CHAMBER: Final = "hspc-live-chamber/"
FULL: Final = "not closed: the disk was full; what had been acknowledged until then is given"

BROKEN_OFF: Final = "not closed: the run was broken off before its ledgers were written"


def format_of(source: Source) -> str | None:
    """The name of our format that a file is of; None for other people's files."""
    found = source.attributes("hspc").get("format")
    return None if found is None else str(found)


def is_chamber(path: str | Path) -> bool:
    """Whether a file is the recording of a chamber run, of whatever version. Raises RecordingError as `Source` does."""
    source = Source(Path(path))
    try:
        return (format_of(source) or "").startswith(CHAMBER)
    finally:
        source.close()


class OwnFile:
    """`/hspc` of one open file. `losses` and `warnings` say what the file's ending made of it."""

    def __init__(self, source: Source, expected: str) -> None:
        """Raises RecordingError for another format than `expected`, and where its books of rows are lost."""
        self.source = source
        self.attributes = source.attributes("hspc")
        self.losses: list[str] = []
        self.warnings: list[str] = []
        if self.attributes["format"] != expected:
            raise RecordingError(f"{source.path} is of format {self.attributes['format']}, this reads {expected}")
        self.closed = bool(self.attributes["closed"])
        if not self.closed and source.crashed:
            self.losses.append(CRASHED)
        elif self.attributes.get("full", False):
            self.losses.append(FULL)
        elif not self.closed:
            self.warnings.append(BROKEN_OFF)
        self.classes: tuple[str, ...] = tuple(json.loads(self.attributes.get("classes", "[]")))
        self.committed = None if self.closed else self.acknowledged()

    def acknowledged(self) -> dict[str, int]:
        """Rows of each stream that the recorder has acknowledged. Raises RecordingError where that was lost."""
        dataset = self.source.dataset("hspc/committed")
        if dataset is None:
            raise RecordingError(
                f"{self.source.path}: its count of written rows was lost, so nothing in it can be trusted"
            )
        return dict(zip(json.loads(dataset.attrs["streams"]), dataset[:].tolist(), strict=True))

    def camera(self) -> CameraInfo:
        """The camera as it was recorded."""
        fields = json.loads(self.attributes["camera"])
        fields["modality"] = Modality(fields["modality"])
        return CameraInfo(**fields)

    def limit(self, stream: str) -> int | None:
        """How many rows of a stream were acknowledged; None where all that are there count."""
        return None if self.committed is None else self.committed.get(stream, 0)

    def text(self, name: str) -> str | None:
        """A text dataset, or None where it is missing or damaged."""
        dataset = self.source.dataset(f"hspc/{name}")
        if dataset is None:
            return None
        try:
            return str(dataset.asstr()[()])
        except OSError:
            return None

    def json(self, name: str) -> dict[str, Any] | None:
        """A text dataset that holds a JSON object."""
        text = self.text(name)
        if text is None:
            return None
        found: dict[str, Any] = json.loads(text)
        return found

    def table(self, name: str) -> NDArray[np.void] | None:
        """One of our tables, as far as it is good and acknowledged."""
        values: NDArray[np.void] | None = self.source.column(f"hspc/{name}", self.limit(name))
        return values

    def lines(self, name: Literal["notes", "ledger"]) -> list[dict[str, Any]]:
        """Notes, or the ledgers as they were written one after the other."""
        values = self.source.column(f"hspc/{name}", self.limit(name))
        if values is None:
            return []
        lines = bytes(values)
        whole = lines[: lines.rfind(b"\n") + 1]  # a file cut short may end in the middle of a line
        return [json.loads(line) for line in whole.splitlines()]
