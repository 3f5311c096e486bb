"""A sorter's process elsewhere: it calls, serves one host after the other, and is missed when it is gone."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hspc_drivers.zmq_sorter import ZmqSorter
from hspc_live.core.errors import DeviceError, SettingsError
from hspc_live.core.values import Receipt, ReceiptKind, SortCommand
from hspc_live.settings.devices import ZmqSorter as ZmqSettings
from hspc_live.settings.load import load
from hspc_live.twin.pulses import read_diary
from hspc_live.wire.guard import new_pair
from hspc_live.wire.keys import read_guard, write_keys
from hspc_live.wire.links import endpoint, open_router, private_folder

MS = 1_000_000
MODULE = "hspc_drivers.sorter_process"
SHIPPED = Path(__file__).parents[2] / "configs/rigs/twin_flow.yaml"
QUICK = ("--settings", json.dumps({"watchdog_ms": 1000.0}))


@pytest.fixture
def address() -> Iterator[str]:
    folder = private_folder()
    yield endpoint(folder, "sorter")
    shutil.rmtree(folder)


def _fire(sorter: ZmqSorter, number: int) -> list[Receipt]:
    """Arm, send one command, and wait for what became of it."""
    sorter.arm()
    at = time.perf_counter_ns() + 400 * MS
    sorter.send(SortCommand(number, number, "left", at, 80 * MS, at - 80 * MS, 0))
    receipts: list[Receipt] = []
    end = time.monotonic() + 5.0
    while not receipts and time.monotonic() < end:
        sorter.heartbeat()
        receipts += sorter.poll()
        time.sleep(0.01)
    return receipts


def _until_error(sorter: ZmqSorter) -> str:
    end = time.monotonic() + 10.0
    while time.monotonic() < end:
        try:
            sorter.heartbeat()
            sorter.poll()
        except DeviceError as error:
            return str(error)
        time.sleep(0.01)
    pytest.fail("nothing was said")


def test_one_host_after_the_other(address: str, start_device: Callable[..., Any]) -> None:
    """Each numbers its commands from 0, and hears nothing of what the device told nobody in between."""
    device = start_device(MODULE, address, *QUICK)
    for _ in range(2):
        sorter = ZmqSorter(address)
        sorter.open()
        try:
            assert [(r.command, r.kind) for r in _fire(sorter, 0)] == [(0, ReceiptKind.FIRED)]
        finally:
            sorter.close()
        time.sleep(0.3)
    assert [pulse.command for pulse in read_diary(device.diary).pulses] == [0, 0]


def test_nobody_calls(address: str) -> None:
    with pytest.raises(DeviceError, match=r"no device has called.*is its process running"):
        ZmqSorter(address, start_s=0.3).open()


def test_an_address_that_others_can_reach_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"other machines.*sorter\.address"):
        ZmqSorter("tcp://0.0.0.0:5570").open()


def test_with_keys_the_known_device_serves_and_another_is_never_heard(
    tmp_path: Path, start_device: Callable[..., Any]
) -> None:
    """As on another computer: tcp, keys at both ends."""
    made = {name: write_keys(tmp_path / "keys", name, new_pair()) for name in ("rig", "sorter", "stranger")}
    settings = load(
        SHIPPED,
        [
            "sorter.kind=zmq",
            "sorter.address=tcp://0.0.0.0:5571",
            f"sorter.keys.secret={made['rig'][1]}",
            f"sorter.keys.allow=[{made['sorter'][0]}]",
        ],
        {},
    ).sorter
    assert isinstance(settings, ZmqSettings) and settings.keys is not None
    guard = read_guard(settings.keys.secret, settings.keys.allow)
    with open_router("tcp://127.0.0.1:*") as free:
        port = free.address.rpartition(":")[2]
    at = f"tcp://127.0.0.1:{port}"

    def device(name: str) -> Any:
        return start_device(MODULE, at, *QUICK, "--secret", made[name][1], "--host-key", made["rig"][0])

    stranger = device("stranger")
    sorter = ZmqSorter(f"tcp://0.0.0.0:{port}", 2.0, guard)
    with pytest.raises(DeviceError, match="no device has called"):
        sorter.open()
    stranger.stop()
    device("sorter")
    sorter = ZmqSorter(f"tcp://0.0.0.0:{port}", 30.0, guard)
    sorter.open()
    try:
        assert [(r.command, r.kind) for r in _fire(sorter, 0)] == [(0, ReceiptKind.FIRED)]
    finally:
        sorter.close()


def test_settings_that_leave_the_sorter_open_to_others_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"sorter\.keys: missing.*other computers"):
        load(SHIPPED, ["sorter.kind=zmq", "sorter.address=tcp://0.0.0.0:5571"], {})


@pytest.mark.parametrize("again", [False, True])
def test_a_device_that_dies_is_missed_and_one_switched_on_anew_is_not_trusted(
    address: str, start_device: Callable[..., Any], again: bool
) -> None:
    device = start_device(MODULE, address, *QUICK)
    sorter = ZmqSorter(address)
    sorter.open()
    try:
        sorter.arm()
        device.process.kill()
        device.process.wait()
        if again:
            start_device(MODULE, address, *QUICK)
            end = time.monotonic() + 20.0
            while "anew" not in (said := _until_error(sorter)) and time.monotonic() < end:
                assert "cannot be reached" in said or "silent" in said
            assert "anew" in said and not sorter.armed and sorter.faults["restarted"] == 1
            with pytest.raises(DeviceError, match="anew"):
                sorter.arm()
        else:
            assert "cannot be reached" in _until_error(sorter) and sorter.faults["unreachable"] >= 1
        sorter.disarm()  # must work at any time
    finally:
        sorter.close()
