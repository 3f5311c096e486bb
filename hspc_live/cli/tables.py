"""Small tables for a person: facts by name, and the books of a run with their reasons in plain words.

What a table leaves out, `--json` has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

BOOKS = ("frames", "views", "cells", "commands")


def facts(rows: Iterable[tuple[str, str]], title: str | None = None) -> Table:
    """A table of two columns: a name, and what there is to say about it."""
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(name, text)
    return table


def ledgers(books: Mapping[str, Any], title: str) -> Table:
    """The books among `books`: what came in, what became of it, and why. What is nought is left out."""
    table = Table(title=title, show_header=False, title_justify="left", pad_edge=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name in BOOKS:
        book = books.get(name)
        if not book:  # a run that crashed before it had one
            continue
        for row, (entry, value) in enumerate(book.items()):
            reasons = value if isinstance(value, Mapping) else {}
            count = sum(reasons.values()) if isinstance(value, Mapping) else value
            if row == 0 or count:
                table.add_row("" if row else name, str(count), plain(entry), counted(reasons))
        table.add_section()
    return table


def counted(counts: Mapping[str, int]) -> str:
    """`late 95, not unique 4`, the most frequent first."""
    most_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{plain(name)} {count}" for name, count in most_first)


def plain(key: str) -> str:
    """A key of the JSON as words."""
    return key.replace("_", " ")


def yes_no(value: bool) -> str:
    """A truth value as a word."""
    return "yes" if value else "no"


def columns(head: Iterable[str], rows: Iterable[Iterable[str]], title: str | None = None) -> Table:
    """A table with a head: names at the left, what is measured at the right."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(head):
        table.add_column(name, justify="right" if place else "left", no_wrap=not place, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
