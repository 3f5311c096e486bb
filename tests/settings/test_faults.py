"""Fault plans: what cannot be is a mistake that names its place, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from hspc_live.core.errors import SettingsError
from hspc_live.settings.chamber_run import ChamberRunSettings
from hspc_live.settings.devices import SimulatedCamera
from hspc_live.settings.fault_checks import check_chamber_faults, check_faults, load_faults
from hspc_live.settings.faults import FaultPlan
from hspc_live.settings.load import load, load_run
from hspc_live.settings.schema import RunSettings
from hspc_live.settings.shipped import shipped_config, shipped_configs


def plan(*faults: dict[str, object], **more: object) -> FaultPlan:
    return FaultPlan.model_validate({"faults": faults, **more})


@pytest.fixture
def rig() -> RunSettings:
    return load(shipped_config("rigs/twin_flow"), environ={})


@pytest.mark.parametrize("name", [name for name in shipped_configs() if name.startswith("faults/")])
def test_every_shipped_plan_loads_and_fits_the_demonstration_rig(name: str, rig: RunSettings) -> None:
    assert check_faults(load_faults(shipped_config(name)), rig, live=True, recording=True) == rig


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{kind: drop}", "exactly one of at_s, per_s or at_frame, not none"),
        ("{kind: drop, at_s: 1, at_frame: 3}", "not at_s and at_frame"),
        ("{kind: kill, process: worker, at_frame: 3}", "at_frame"),
        ("{kind: kill, process: camera, at_s: 1}", "'worker', 'record' or 'sort'"),
        ("{kind: nak, at_s: 1, most: 3}", "needs per_s"),
        ("{kind: explode, at_s: 1}", "expected one of drop, duplicate"),
        ("{kind: nak, at_s: -1}", "must be at least 0"),
    ],
)
def test_a_mistake_names_file_line_and_key(line: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(f"seed: 1\nfaults:\n  - {line}\n")
    with pytest.raises(SettingsError) as raised:
        load_faults(path)
    assert f"{path}:3" in str(raised.value) and said in str(raised.value)


@pytest.mark.parametrize("kind", ["serial", "zmq"])
def test_a_real_sorter_is_refused_unless_a_person_says_so(rig: RunSettings, kind: str) -> None:
    """Wherever a cell could really be deflected wrongly."""
    sorter = {
        "serial": {"kind": "serial", "port": "/dev/ttyACM0", "outlets": {"LT-HSC": 1}},
        "zmq": {"kind": "zmq", "address": "tcp://127.0.0.1:5570"},
    }[kind]
    real = RunSettings.model_validate({**rig.model_dump(), "sorter": sorter})
    nak = {"kind": "nak", "at_s": 1}
    with pytest.raises(SettingsError, match=r"could deflect wrongly.*real_devices"):
        check_faults(plan(nak), real, live=True, recording=False)
    assert check_faults(plan(nak, real_devices=True), real, live=True, recording=False) == real


@pytest.mark.parametrize(
    ("fault", "live", "recording", "said"),
    [
        ({"kind": "slip", "at_s": 1}, True, True, "no stage in a flow"),
        ({"kind": "disk_full", "at_s": 1}, True, False, "nothing is recorded"),
        ({"kind": "kill", "process": "record", "at_s": 1}, True, False, "nothing is recorded"),
        ({"kind": "clog", "at_s": 1}, False, True, "simulated camera"),
        ({"kind": "nak", "at_s": 1}, False, True, "real time"),
        ({"kind": "reorder", "at_frame": 1}, False, True, "have their order"),
        ({"kind": "clock_jump", "at_s": 1}, False, True, "recording's time"),
    ],
)
def test_what_cannot_strike_is_refused(
    rig: RunSettings, fault: dict[str, object], live: bool, recording: bool, said: str
) -> None:
    with pytest.raises(SettingsError, match=rf"faults\.0.*{said}"):
        check_faults(plan(fault), rig, live=live, recording=recording)


def test_sorter_faults_need_a_sorter(rig: RunSettings) -> None:
    none = RunSettings.model_validate({**rig.model_dump(), "sorter": {"kind": "none"}})
    with pytest.raises(SettingsError, match="no sorter"):
        check_faults(plan({"kind": "silence", "at_s": 1}), none, live=True, recording=True)


def test_the_twin_s_mishaps_are_set_in_its_settings(rig: RunSettings) -> None:
    three = plan(
        {"kind": "clog", "at_s": 4, "seconds": 2},
        {"kind": "bubble", "at_s": 9},
        {"kind": "velocity_drift", "per_s": -0.02},
    )
    camera = check_faults(three, rig, live=True, recording=False).camera
    assert isinstance(camera, SimulatedCamera)
    found = camera.twin.mishaps
    assert (found.clog_at_s, found.clog_seconds, found.bubble_at_s) == (4, 2, 9)
    assert found.velocity_drift_per_s == -0.02


def test_a_chamber_takes_what_it_can_and_refuses_the_rest() -> None:
    settings = load_run(shipped_config("rigs/twin_chamber"), environ={})
    assert isinstance(settings, ChamberRunSettings)
    check_chamber_faults(plan({"kind": "slip", "at_frame": 3}), settings, recording=False)
    with pytest.raises(SettingsError, match=r"faults\.0 \(nak\)"):
        check_chamber_faults(plan({"kind": "nak", "at_s": 1}), settings, recording=False)
    real = load_run(shipped_config("rigs/mm_chamber"), environ={})
    assert isinstance(real, ChamberRunSettings)
    with pytest.raises(SettingsError, match="real_devices"):
        check_chamber_faults(plan({"kind": "slip", "at_frame": 3}), real, recording=False)
