"""Who may die without ending the run."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hspc_live.processes.plan import RunPlan
from hspc_live.processes.supervisor import Supervisor
from hspc_live.settings.load import load
from hspc_live.settings.shipped import shipped_config
from hspc_live.wire.codec import encode
from hspc_live.wire.links import Link, endpoint, open_dealer, open_router, private_folder
from hspc_live.wire.messages import Failed, Prepared


@pytest.fixture
def control() -> Iterator[Link]:
    folder = private_folder()
    with open_router(endpoint(folder, "control")) as link:
        yield link
    shutil.rmtree(folder)


@pytest.mark.parametrize(("role", "goes_on"), [("door", True), ("record", False)])
def test_a_door_that_fails_under_way_is_started_anew_and_its_reason_kept(control, tmp_path: Path, role, goes_on):
    """Whatever comes in from outside ends no run; the failure of anybody else does."""
    settings = load(shipped_config("rigs/twin_flow"), ()).model_dump_json()
    plan = RunPlan("run", str(tmp_path), str(tmp_path), control.address, settings, live=True)
    said: list[tuple[str, str, str]] = []
    supervisor = Supervisor(plan, control, {role: print}, listen=lambda *words: said.append(words))
    supervisor._start(role)  # ends at once
    supervisor._running = True
    with open_dealer(control.address, role.encode()) as child:
        child.try_send(encode(Prepared(), run="run"))
        child.try_send(encode(Failed("WireError", "out of luck"), run="run"))
        supervisor._children[role].process.join()
        deadline = time.monotonic() + 10.0
        while not any(kind in ("replaced", "draining") for _, kind, _ in said) and time.monotonic() < deadline:
            supervisor._reap(restart=True)
    report = supervisor._report
    assert (("door", "replaced") in [words[:2] for words in said]) is goes_on
    assert report.failures == ([] if goes_on else [(role, "WireError", "out of luck")])
    assert report.warnings == (["the door process failed: out of luck"] if goes_on else [])
    supervisor._kill_leftovers()
