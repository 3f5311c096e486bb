"""What a test must leave behind: nothing. A leftover task, process, thread, socket or shared-memory block fails it.

And what tests of several folders use: sorters that are processes of their own, at the end of a wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import multiprocessing as mp
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")  # windows are tested without a display, in child processes too

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


# ---- sorters at the end of a wire ------------------------------------------------------------------------------------

FIRMWARE = Path(__file__).parents[1] / "drivers/firmware"
# as Arduino compiles (C++11, no exceptions, no RTTI), strictly, and undefined behaviour ends the process at once
FLAGS = (
    "-std=c++11 -O1 -Wall -Wextra -Wconversion -Werror -fno-exceptions -fno-rtti -shared -fPIC "
    "-fsanitize=undefined -fsanitize-undefined-trap-on-error"
).split()


@pytest.fixture(scope="session")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference firmware's core, compiled as for a board but for this machine: a shared library."""
    compiler = shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler on this machine: the sorter firmware's core is not tested here")
    library = tmp_path_factory.mktemp("firmware") / "libhspc_sorter.so"
    sources = [FIRMWARE / "host/core.cpp", *sorted((FIRMWARE / "hspc_sorter").glob("*.cpp"))]
    command = [compiler, *FLAGS, "-I", FIRMWARE / "hspc_sorter", *sources, "-o", library]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library


@dataclass
class Device:
    """A sorter that runs as a program of its own. `at` is its serial port, or the address that it calls."""

    at: str
    diary: Path
    process: subprocess.Popen[str]

    def order(self, text: str) -> None:
        """Switch a fault of the emulator; returns when it is done."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == f"did {text}\n"

    def stop(self) -> None:
        """End it; harmless when it has ended."""
        self.process.terminate()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


@pytest.fixture
def start_device(tmp_path: Path) -> Iterator[Callable[..., Device]]:
    """Starts `python -m MODULE at …` as a device; all are ended after the test."""
    started: list[Device] = []

    def start(module: str, at: str, *arguments: object) -> Device:
        diary = tmp_path / f"device-{len(started)}.jsonl"
        command = [sys.executable, "-m", module, at, "--diary", diary, *arguments]
        process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        started.append(Device(at, diary, process))
        return started[-1]

    yield start
    for device in started:
        device.stop()


@pytest.fixture
def emulator(start_device: Callable[..., Device], tmp_path: Path) -> Callable[..., Device]:
    """Starts a serial emulator (`hspc_drivers.serial_emulator`) and returns it when its port is there."""
    count = iter(range(100))

    def start(*arguments: object) -> Device:
        port = str(tmp_path / f"port-{next(count)}")
        device = start_device("hspc_drivers.serial_emulator", port, *arguments)
        assert device.process.stdout is not None
        assert device.process.stdout.readline() == f"ready {port}\n"
        return device

    return start
