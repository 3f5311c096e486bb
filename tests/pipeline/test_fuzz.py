"""A live run under a rain of bad messages at every socket that listens: it sorts on, its books balance, nothing grows.

`HSPC_FUZZ=1000000` sends a million (`make fuzz`); the default is 100,000.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hspc_live.cli.execute import Order, execute
from hspc_live.processes.ask import ask
from hspc_live.twin.pulses import read_diary
from hspc_live.wire.guard import new_pair
from hspc_live.wire.keys import write_keys
from hspc_live.wire.messages import AskRun, EndRun

MESSAGES = int(os.environ.get("HSPC_FUZZ", "100000"))
SHARES = {"control": 0.15, "work": 0.15, "sort": 0.2, "record": 0.1, "show": 0.1, "sorter": 0.15, "door": 0.15}
NAMES = {"control": "fuzz", "record": "fuzz", "sorter": "fuzz", "door": "fuzz", "show": ""}  # else: as a worker's
MOST_GROWTH_MB = 200.0


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder of our own: no socket of another run on this machine is ever meant."""
    folder = Path(tempfile.mkdtemp(prefix="fz", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


class Rain:
    """Listens to the run; starts the rain when all sockets are there, ends the run when it has stopped."""

    def __init__(self, runtime: Path, keys: dict[str, tuple[Path, Path]], processes: Any, tmp_path: Path) -> None:
        self.runtime, self.keys, self.processes, self.tmp_path = runtime, keys, processes, tmp_path
        self.said: list[tuple[str, str, str]] = []
        self.at: dict[str, str] = {}
        self.sent: dict[str, int] = {}
        self.grown_mb: dict[str, float] = {}
        self.failure: BaseException | None = None
        self.thread: threading.Thread | None = None

    def __call__(self, role: str, kind: str, text: str) -> None:
        self.said.append((role, kind, text))
        if kind in ("open", "running"):
            self.at[kind] = text.rpartition(" ")[2]
            if len(self.at) == 2:
                self.thread = threading.Thread(target=self._work)
                self.thread.start()

    def _work(self) -> None:
        try:
            self._pour()
        except BaseException as error:
            self.failure = error
        ask(self.at["running"], EndRun("test"))

    def _pour(self) -> None:
        control = self.at["running"]
        folder = Path(control.removeprefix("ipc://")).parent
        run = json.loads(ask(control, AskRun()).detail)["plan"]["run_id"]
        (sorter,) = self.runtime.glob("hspc-*/sorter.sock")
        at = {name: f"ipc://{folder}/{name}.sock" for name in ("control", "work", "sort", "record", "show")}
        at |= {"sorter": f"ipc://{sorter}", "door": self.at["open"]}
        targets = [
            {"kind": kind, "at": at[kind], "name": NAMES.get(kind, "segment-fuzz"), "messages": round(MESSAGES * share)}
            for kind, share in SHARES.items()
        ]
        targets[-1] |= {"secret": str(self.keys["helper"][1]), "server": str(self.keys["rig"][0])}
        plan = self.tmp_path / "plan.json"
        plan.write_text(json.dumps({"seed": 20260801, "run": run, "targets": targets}))
        before = self._memory()
        fuzz = Path(__file__).parents[1] / "made/fuzz.py"
        done = subprocess.run([sys.executable, str(fuzz), str(plan)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        self.sent = json.loads(done.stdout)
        after = self._memory()
        self.grown_mb = {name: after[name] - before[name] for name in before if name in after}

    def _memory(self) -> dict[str, float]:
        """MB in use by this process and its children."""
        found = {"supervisor": _rss_mb(os.getpid())}
        for pid in self.processes.below(os.getpid()):
            found[str(pid)] = _rss_mb(pid)
        return found

    def end(self) -> None:
        assert self.thread is not None, f"the run never came under way: {self.said}"
        self.thread.join(60)
        if self.failure is not None:
            raise self.failure


def _rss_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@pytest.mark.timeout(0 if MESSAGES > 100_000 else 300)
def test_every_socket_stands_a_rain_of_bad_messages(tiny, runtime, processes, tmp_path: Path) -> None:
    keys = {name: write_keys(tmp_path / "keys", name, new_pair()) for name in ("rig", "helper")}
    door = ["door.listen=tcp://127.0.0.1:*", f"door.keys.secret={keys['rig'][1]}"]
    door += [f"door.keys.allow=[{keys['helper'][0]}]", "door.messages_per_s=1000000"]
    rain = Rain(runtime, keys, processes, tmp_path)
    order = Order(tiny(*door, "pipeline.lease_timeout_s=1.0"), live=True, arm_by="test", out=tmp_path / "out")
    outcome = execute(order, rain)
    rain.end()
    s = outcome.summary
    print(json.dumps({"sent": rain.sent, "refused": s["refused"], "shown": s["shown"], "faults": s["sorter"]}))
    print(json.dumps({"grown_mb": rain.grown_mb, "frames": s["frames"], "commands": s["commands"]}))
    assert outcome.error is None, outcome.error
    assert not outcome.report.failures and s["ledger"]["balanced"], "every process was alive to the end"
    assert rain.sent == {kind: round(MESSAGES * share) for kind, share in SHARES.items()}
    refused = {kind: sum(n for name, n in s["refused"].items() if name.startswith(f"{kind}.")) for kind in SHARES}
    refused["work"] = sum(n for name, n in s["refused"].items() if name.startswith("acquire."))
    refused |= {"show": s["shown"]["refused"], "sorter": s["sorter"]["faults"]["stranger"]}
    for kind, sent in rain.sent.items():
        # the rest were good messages, or are none that arrived: what overruns a publisher is dropped by its sender
        least = 50 if kind == "show" else 0.7 * sent
        assert refused[kind] > least, f"{kind}: {refused[kind]} of {sent} are counted"
    assert max(rain.grown_mb.values()) < MOST_GROWTH_MB, rain.grown_mb
    assert s["frames"]["captured"] > 100 and s["frames"]["processed"] > 0
    fired = [pulse.command for pulse in read_diary(tmp_path / "out/pulses.jsonl").pulses]
    assert len(fired) == len(set(fired)) == s["commands"]["fired"]
