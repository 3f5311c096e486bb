"""Runs that the screen starts for itself, and what it says where it cannot."""

from __future__ import annotations

import pytest

from hspc_live.cli.view import view
from hspc_live.core.errors import SettingsError
from hspc_live.view.launch import Launched


def test_one_thing_is_looked_at(tmp_path):
    with pytest.raises(SettingsError, match="one of"):
        view(connect="ipc:///tmp/x/control.sock", demo=True)
    with pytest.raises(SettingsError, match="no control address"):
        view(connect="elsewhere")
    with pytest.raises(SettingsError, match="--speed"):
        view(replay=tmp_path / "a.rtdc", speed_="fast")


def test_a_run_that_cannot_start_says_why(tmp_path):
    launched = Launched(["replay", str(tmp_path / "missing.rtdc")])
    try:
        launched._process.wait(60)
        launched._reader.join(10)
        assert launched.found() == [] and launched.exit_code == 3
        assert any("missing.rtdc" in line for line in launched.said)
    finally:
        launched.close()
