"""The documents: every command that they tell people to type is one that there is, with options that it has."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from hspc_live.cli.app import tree

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "docs/first-day-at-the-microscope.md", "docs/classifiers.md")


def commands(document: str) -> Iterator[str]:
    """The lines of its code blocks that begin with `hspc-live`, continued ones as one."""
    for block in re.findall(r"^```[a-z]*\n(.*?)^```", (ROOT / document).read_text(encoding="utf-8"), re.S | re.M):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("hspc-live "):
                yield line


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_can_be_typed(document: str) -> None:
    lines = list(commands(document))
    assert len(lines) > 10
    for line in lines:
        words = shlex.split(line.partition(" > ")[0], comments=True)[1:]
        command = typer.main.get_command(tree())
        name = "hspc-live"
        while hasattr(command, "commands"):
            name = words.pop(0)
            command = command.commands[name]
        command.make_context(name, words)  # raises UsageError for what it does not know
