"""The command line in this very process: fast, and with the exit code, stdout and stderr that a user would see."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from hspc_live.cli import main


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


@pytest.fixture
def hspc_live(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """`hspc_live("check", path)` runs the command to its end."""
    monkeypatch.setenv("COLUMNS", "300")

    def run(*args: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["hspc-live", *map(str, args)])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        out, err = capfd.readouterr()
        return Said(code, out, err)

    return run
