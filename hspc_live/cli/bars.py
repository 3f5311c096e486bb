"""A progress bar on stderr for work that is counted in crops; silent where stderr is no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hspc_live.cli.output import progress


@contextmanager
def counted_bar(words: str, total: int, completed: int = 0) -> Iterator[Callable[[int], None]]:
    """A bar while the work runs; what is given tells it how many of `total` are done."""
    bar = Progress(
        TextColumn(words),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=progress,
        disable=not progress.is_terminal,
    )
    with bar:
        task = bar.add_task("", total=total, completed=completed)
        yield lambda done: bar.update(task, completed=done)
