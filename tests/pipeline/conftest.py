"""Whole runs of tiny size: real processes, sockets, shared memory and files; the null engine by default."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from hspc_live.cli.execute import Order, Outcome, execute
from hspc_live.processes.plan import GateEdit
from hspc_live.settings.devices import ReplayCamera
from hspc_live.settings.load import load, load_text
from hspc_live.settings.schema import RunSettings

TINY: dict[str, Any] = {
    "name": "tiny",
    "camera": {
        "kind": "simulated",
        "twin": {
            "height_px": 96,
            "width_px": 256,
            "um_per_px": 0.4,
            "frames_per_s": 100.0,
            "velocity_um_s": 2000.0,
            "events_per_s": 12.0,
            "junction_um": 900.0,
            "dust": 2,
        },
    },
    "background": {"frames": 8, "every_s": 1.0},
    "engine": {"kind": "null"},
    "sort": {
        "track": {"velocity_um_s": 2000.0, "velocity_sd_um_s": 400.0},
        "close": {"views": 2, "decision_line_um": 85.0},
        "outlets": [
            {"name": "LT-HSC", "mode": "recovery", "gate": {"kind": "score", "class_name": "LT-HSC", "min": 0.5}}
        ],
        "timing": {"junction_um": 900.0},
    },
    "population": {"prevalence": {"LT-HSC": 0.2, "ST-HSC": 0.4, "MPP": 0.4}},
    "sorter": {"kind": "simulated", "watchdog_ms": 2000.0},
    "record": {"window_px": 48},
    # a loaded machine may take its time; what is too late for the junction is a matter of its own
    "pipeline": {"frame_deadline_s": 5.0, "silent_periods": 20.0},
}


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The settings of a tiny rig as a file."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return path


@pytest.fixture(scope="session")
def tiny(tiny_config: Path) -> Callable[..., RunSettings]:
    """The tiny rig's settings, with `key.path=value` overrides."""
    return lambda *overrides: load(tiny_config, overrides, {})


@dataclass
class Watch:
    """Listens to a run: keeps what was said, and calls `acts[kind]` some seconds after the first such word."""

    said: list[tuple[str, str, str]] = field(default_factory=list)
    acts: dict[str, tuple[float, Callable[[str, str], None]]] = field(default_factory=dict)

    def __call__(self, role: str, kind: str, text: str) -> None:
        self.said.append((role, kind, text))
        if kind in self.acts:
            after_s, act = self.acts.pop(kind)
            asyncio.get_running_loop().call_later(after_s, act, role, text)

    def kinds(self) -> list[str]:
        return [kind for _, kind, _ in self.said]


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture(scope="session")
def replay() -> Callable[..., Outcome]:
    """Replays a recording with its own settings (or given ones) and returns the outcome."""

    def run(
        path: Path,
        *overrides: str,
        settings: RunSettings | None = None,
        speed: float | None = None,
        workers: int = 1,
        listen: Callable[[str, str, str], None] = lambda *_: None,
        out: Path | None = None,
        edits: tuple[GateEdit, ...] = (),
    ) -> Outcome:
        if settings is None:
            from hspc_live.recording.reader import open_recording

            with open_recording(path) as recording:
                assert recording.settings_json is not None, f"{path} does not carry its settings"
                settings = load_text(recording.settings_json, str(path), [f"pipeline.workers={workers}", *overrides])
        camera = ReplayCamera(kind="replay", path=path)
        record = settings.record.model_copy(update={"path": None})
        settings = settings.model_copy(update={"camera": camera, "record": record})
        arm_by = None if settings.sorter.kind == "none" else "test"
        order = Order(settings, live=False, arm_by=arm_by, speed=speed, out=out, gate_edits=edits)
        return execute(order, listen)

    return run


@dataclass(frozen=True)
class Recorded:
    """A live run on the twin: what it was told, and what it left."""

    settings: RunSettings
    outcome: Outcome
    out: Path

    @property
    def path(self) -> Path:
        assert self.outcome.recording is not None
        return self.outcome.recording

    @property
    def summary(self) -> dict[str, Any]:
        return self.outcome.summary


@pytest.fixture(scope="session")
def live(tiny: Callable[..., RunSettings], tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """250 frames filmed live, sorted and recorded; many tests look at it."""
    settings = tiny("camera.frames=250")
    out = tmp_path_factory.mktemp("live") / "out"
    order = Order(settings, live=True, arm_by="test", out=out, keep_truth=True)
    return Recorded(settings, execute(order, lambda *_: None), out)


@pytest.fixture(scope="session")
def replayed(live: Recorded, replay: Callable[..., Outcome]) -> Outcome:
    """That recording, replayed undisturbed: what every other replay of it must decide."""
    return replay(live.path)


# ---- processes -----------------------------------------------------------------------------------------------------


class Processes:
    """What runs on this machine below some process, by `/proc`."""

    @staticmethod
    def below(pid: int) -> dict[int, str]:
        """All descendants of `pid` with their command lines."""
        found: dict[int, str] = {}
        for file in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                for child in map(int, file.read_text().split()):
                    line = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found |= {child: line, **Processes.below(child)}
        return found

    @staticmethod
    def alive(pid: int) -> bool:
        """Whether `pid` runs; a zombie does not."""
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    @staticmethod
    def gone(pids: list[int], within_s: float = 20.0) -> list[int]:
        """Those of `pids` that still run after waiting for their end."""
        deadline = time.monotonic() + within_s
        while (left := [pid for pid in pids if Processes.alive(pid)]) and time.monotonic() < deadline:
            time.sleep(0.02)
        return left

    @staticmethod
    def kill(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    @staticmethod
    def of_role(role: str) -> int:
        """The process that plays `role` in the run under way in this very process."""
        import multiprocessing

        [pid] = [p.pid for p in multiprocessing.active_children() if p.name == f"hspc-{role}"]
        assert pid is not None
        return pid


@pytest.fixture
def processes() -> Processes:
    return Processes()


@dataclass
class Command:
    """`hspc-live …` under way, in a session of its own as in a terminal of its own."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def until(self, word: str) -> str:
        """Read stderr until a line holds `word`."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if word in line:
                return line
        pytest.fail(f"{word!r} was never said; the command ended with {self.process.wait()}:\n{''.join(self.lines)}")

    def ctrl_c(self) -> None:
        """What a terminal does: everyone in the foreground gets the signal."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, out, "".join(self.lines) + err


@pytest.fixture
def start() -> Iterator[Callable[..., Command]]:
    """Starts `hspc-live` as a process; what still runs after the test is killed."""
    started: list[Command] = []

    def run(*args: str | Path) -> Command:
        process = subprocess.Popen(
            [sys.executable, "-m", "hspc_live", *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(Command(process))
        return started[-1]

    yield run
    for command in started:
        if command.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(command.process.pid, signal.SIGKILL)
            command.process.wait()
        for stream in (command.process.stdout, command.process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def screen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Opens the operator's window over a connection, or over results; it is closed at the end."""
    request.getfixturevalue("qtbot")
    from PySide6.QtCore import QSettings

    from hspc_live.view.window import Window

    opened: list[Window] = []

    def make(connection: Any) -> Window:
        settings = QSettings(str(tmp_path / "view.ini"), QSettings.Format.IniFormat)
        window = Window(connection, reports=tmp_path / "reports", settings=settings)
        window.show()
        opened.append(window)
        return window

    yield make
    for window in opened:
        window.close()
        window.deleteLater()
