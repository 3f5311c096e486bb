"""What a test must leave behind: nothing. A leftover task, process, thread, socket or shared-memory block fails it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import multiprocessing as mp
import os
import threading
import time
from collections.abc import AsyncIterator, Generator, Iterator
from multiprocessing import resource_tracker
from pathlib import Path

import pytest

GRACE_S = 3.0  # closing is partly asynchronous: ZeroMQ's threads, the kernel's, a child's last breath
SHARED_MEMORY = Path("/dev/shm")
BEFORE = pytest.StashKey[tuple[set[str], set[str]]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Watch the tasks of every coroutine test; first in line, so that the test's own fixtures clean up before."""
    for item in items:
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.function):
            item.fixturenames.insert(0, "no_leftover_tasks")


@pytest.fixture
async def no_leftover_tasks() -> AsyncIterator[None]:
    """Fails a coroutine test that leaves a task running in its loop."""
    before = asyncio.all_tasks()
    yield
    deadline = time.monotonic() + GRACE_S
    while left := {task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()}:
        if time.monotonic() > deadline:
            pytest.fail(f"tasks left running: {sorted(str(task.get_coro()) for task in left)}")
        await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _inventory(request: pytest.FixtureRequest) -> None:
    """Notes what is there before the test; what a module's fixtures hold is there already."""
    request.node.stash[BEFORE] = (_own(), set(_blocks()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Fails a test that leaves a process, thread, socket or shared-memory block, after all its fixtures are gone."""
    yield
    if BEFORE not in item.stash:  # its set-up failed or skipped it
        return
    before, blocks = item.stash[BEFORE]
    deadline = time.monotonic() + GRACE_S
    while left := (_own() - before) | (set(_blocks()) - blocks):
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: {', '.join(sorted(left))}")
        time.sleep(0.01)


def _own() -> set[str]:
    return {*_children(), *_threads(), *_sockets(), *_mapped("self")}


def _children() -> Iterator[str]:
    mp.active_children()  # reaps those that have ended
    tracker = resource_tracker._resource_tracker._pid  # lives as long as the interpreter, by design
    for file in Path("/proc/self/task").glob("*/children"):
        for pid in file.read_text().split():
            if int(pid) != tracker:
                yield f"process {pid}"


def _threads() -> Iterator[str]:
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.main_thread():
            yield f"thread {thread.name}"


def _sockets() -> Iterator[str]:
    for link in Path("/proc/self/fd").glob("*"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of this very listing
            target = os.readlink(link)
            if target.startswith("socket:"):
                yield target


def _mapped(process: str) -> Iterator[str]:
    """Files in shared memory that a process has mapped; none if it has gone or is another user's."""
    with contextlib.suppress(OSError):
        for line in Path("/proc", process, "maps").read_text().splitlines():
            if f" {SHARED_MEMORY}/" in line:
                yield line[line.index(f"{SHARED_MEMORY}/") :]


def _blocks() -> Iterator[str]:
    """Blocks in shared memory; those of other runs on this machine are not ours to judge.

    A run's folder carries the number of the process that made it: ours, or one that has ended and should have removed
    it. What lives belongs to somebody else.
    """
    yield from map(str, SHARED_MEMORY.glob("psm_*"))
    for folder in SHARED_MEMORY.glob("hspc-*-*"):
        owner = folder.name.split("-")[1]
        if owner == str(os.getpid()) or not Path("/proc", owner).exists():
            yield str(folder)
