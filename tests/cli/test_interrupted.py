"""Ctrl-C before the program has even loaded: a calm line, the exit code of an interrupted command, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from hspc_live import cli

WORK = (sys.executable, "-m", "hspc_live", "segment", "nothing.png", "--um-per-px", "0.25")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise there")
@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.3, 0.6])
def test_ctrl_c_while_modules_are_imported(tmp_path, after_s):
    # from the moment on at which the program's first line has run; before it, Python itself is starting
    begun = tmp_path / "begun"
    code = (
        "import pathlib, sys; from hspc_live.cli import main; import hspc_live.cli as cli; keep = cli.signal.signal\n"
        "def installed(number, handler):\n"
        f"    keep(number, handler); pathlib.Path({str(begun)!r}).touch()\n"
        "cli.signal.signal = installed; sys.argv = ['hspc-live', 'segment', 'nothing.png', '--um-per-px', '1']; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests may run in the background themselves
    )  # fmt: skip
    while not begun.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are ignored otherwise there")
def test_a_shell_that_keeps_ctrl_c_from_a_command_in_the_background_is_obeyed(tmp_path):
    process = subprocess.Popen(
        WORK, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3 and "nothing.png" in err


def test_afterwards_ctrl_c_is_python_s_own_again(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["hspc-live", "segment", "nothing.png", "--um-per-px", "1"])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 3
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
