"""Real processes for the tests of links and ring, and the rule that nothing stays behind."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hspc_live.wire.links import open_links, private_folder


@pytest.fixture
def folder():
    path = private_folder()
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def nothing_left_open():
    yield
    assert open_links() == 0


@pytest.fixture
def start():
    """Start Python source in a process of its own; it is killed at the end at the latest."""
    started: list[subprocess.Popen[str]] = []

    def _start(source: str, *args: object) -> subprocess.Popen[str]:
        root = Path(__file__).parents[2]
        process = subprocess.Popen(
            [sys.executable, "-c", source, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
        )
        started.append(process)
        return process

    yield _start
    for process in started:
        process.kill()
        process.communicate(timeout=10)
