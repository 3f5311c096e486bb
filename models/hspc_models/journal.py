"""What a training run leaves behind while it runs: `training.jsonl`, and the same figures for TensorBoard."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOG_FILE = "training.jsonl"

Line = dict[str, Any]
"""One epoch's figures."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come. `line` is an epoch's figures when it has just ended."""

    epoch: int
    epochs: int
    step: int
    steps: int
    line: Line | None = None


class Journal:
    """The log in `folder`, begun with the lines of the epochs that a checkpoint has kept.

    TensorBoard's event files are written where tensorboardX is installed (extra `train`).
    """

    def __init__(self, folder: Path, lines: list[Line]) -> None:
        self._path = folder / LOG_FILE
        self.lines: list[Line] = []
        self._events = None
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            pass
        else:
            # what a killed process wrote may end too early or too late: the checkpoint's lines make the curves anew
            for stale in folder.glob("events.*"):
                stale.unlink()
            self._events = SummaryWriter(str(folder))
        for line in lines:
            self.add(line)

    def add(self, line: Line) -> None:
        """Keep one epoch's figures."""
        self.lines.append(line)
        if self._events is not None:
            for name, value in line.items():
                if name != "epoch":
                    self._events.add_scalar(name, value, line["epoch"])

    def flush(self) -> None:
        """Write the lines to the disk."""
        self._path.write_text("".join(json.dumps(line) + "\n" for line in self.lines), encoding="utf-8")
        if self._events is not None:
            self._events.flush()

    def close(self) -> None:
        """Write what is left, and let go of the event file."""
        self.flush()
        if self._events is not None:
            self._events.close()
