"""How far a chamber run is: one line that updates on a terminal, a few lines anywhere else."""

from __future__ import annotations

import re
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from hspc_live.cli.output import listener, progress
from hspc_live.core.chamber import Phase

WORDS = {Phase.SCAN: "scanning", Phase.REVISIT: "second visit"}
FIELD = re.compile(r"field (\d+) of (\d+)")
EVERY = 10
"""So many fields are said one by one where there is no terminal; of more, every fifth part of them."""

PARTS = 5


class FieldProgress:
    """Listens to a chamber run; a context, at whose end the line stands still."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("fields"))
        self._bar = Progress(*columns, TimeElapsedColumn(), console=progress) if progress.is_terminal else None
        self._tasks: dict[Phase, TaskID] = {}
        self._before = 0  # fields of the scan, since their numbers count on

    def __enter__(self) -> FieldProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.rest()

    def rest(self) -> None:
        """Let the line stand still, so that other things can be said below it."""
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, role: str, kind: str, text: str) -> None:
        """What the run says; a field that was visited moves the line on."""
        found = FIELD.fullmatch(text)
        if found is None or kind not in tuple(WORDS):
            listener(role, kind, text)
            return
        phase, number, planned = Phase(kind), int(found[1]), int(found[2])
        if phase is Phase.SCAN:
            self._before = number
        else:
            number, planned = number - self._before, planned - self._before
        if self._bar is None:
            self._say(role, phase, number, planned)
        else:
            if phase not in self._tasks:
                self._tasks[phase] = self._bar.add_task(WORDS[phase], total=planned)
                self._bar.start()
            self._bar.update(self._tasks[phase], completed=number)

    def _say(self, role: str, phase: Phase, number: int, planned: int) -> None:
        step = 1 if planned <= EVERY else -(-planned // PARTS)
        if number % step == 0 or number == planned:
            listener(role, WORDS[phase], f"field {number} of {planned}")
