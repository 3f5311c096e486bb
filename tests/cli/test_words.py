"""What a person reads: tables in plain words, helps, refusals before promises, and quiet ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import h5py
import numpy as np
import pytest
import typer

from hspc_live.cli.app import tree
from hspc_live.cli.output import print_summary, screen
from hspc_live.cli.runs import say_prediction
from hspc_live.cli.tables import ledgers
from hspc_live.core import errors
from hspc_live.core.chamber import ChamberOutcome
from hspc_live.core.values import CellOutcome, Reject
from hspc_live.settings.load import load
from hspc_live.settings.shipped import shipped_config
from hspc_live.stages.field import Reason
from hspc_live.stages.picking import LeftOut
from hspc_live.stages.revisit import Lost
from hspc_live.wiring import model_card

ROOT = Path(__file__).parents[2]
RIG = shipped_config("rigs/twin_flow")
NULL = ("--set", "engine.kind=null")
COMMAND = (sys.executable, "-m", "hspc_live")
RAW = re.compile(r"[{}]|\bNone\b|\bTrue\b|\bFalse\b|[a-z]_[a-z]")
"""What only a programmer reads: braces, Python's constants, keys."""

BOOKS = {
    "frames": {"captured": 12, "processed": 9, "dropped": {"ring_full": 2, "camera": 1}, "lost": {}},
    "views": {"detected": 7, "classified": 4, "rejected": {"not_unique": 3}, "skipped": {}},
    "cells": {"tracked": 3, "sorted": 0, "passed": 1, "abstained": 0, "aborted": {"late": 2}, "unresolved": {}},
    "commands": {"sent": 0, "fired": 0, "refused": 0, "unacknowledged": 0},
}


def test_ledgers_say_each_sum_with_its_reasons_and_leave_out_what_is_nought(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    screen.print(ledgers(BOOKS, "Ledgers"))
    lines = [" ".join(re.findall(r"[\w,]+", line)) for line in capsys.readouterr().out.splitlines()]
    rows = [line for line in lines if line]
    assert rows == [
        "Ledgers",
        "frames 12 captured", "9 processed", "3 dropped ring full 2, camera 1",
        "views 7 detected", "4 classified", "3 rejected not unique 3",
        "cells 3 tracked", "1 passed", "2 aborted late 2",
        "commands 0 sent",
    ]  # fmt: skip


def test_a_summary_out_of_balance_says_so_with_the_equations(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    violated = "cells: tracked 3 is not passed 1"
    summary = BOOKS | {
        "ledger": {"balanced": False, "violations": [violated]},
        "classes": {"MPP": 1},
        "latency_ms": {"n": 0},
        "deadline": {"met_fraction": None},
        "disarmed": [],
        "recording": {"unrecorded": {"frames": 73, "messages": 0}},
        "warnings": ["[odd] brackets stay"],
        "decisions_sha256": "ab" * 32,
    }
    print_summary(summary, "Run")
    said = capsys.readouterr().out
    assert "OUT OF BALANCE" in said and violated in said and "[odd] brackets stay" in said
    assert "frames 73" in said and "messages" not in said, "who keeps a recording learns what it lacks"


def test_doctor_and_inspect_speak_plainly(hspc_live, tmp_path):
    path = tmp_path / "other.rtdc"
    with h5py.File(path, "w") as file:
        file.attrs["imaging:pixel size"], file.attrs["imaging:frame rate"] = 0.3, 100.0
        file["events/frame"], file["events/time"] = np.arange(3), np.arange(3) / 100
        file["events/image"] = np.full((3, 20, 30), 90, np.uint8)
    seen = hspc_live("inspect", path)
    assert seen.code == 0 and "30 × 20 pixels of 0.3 µm" in seen.out and "nothing: all can" in seen.out
    assert not RAW.search(seen.out.replace(str(path), "")), seen.out
    quick = hspc_live("inspect", path, "--quick")
    assert "all can" not in quick.out, "without reading the pictures nobody knows"
    found = hspc_live("doctor")
    assert found.code == 0 and "weights intact" in found.out and "problems" in found.out
    assert not re.search(r"[{}]|\bNone\b", found.out), found.out


@pytest.fixture
def under_way() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A run of the twin in a process of its own, disarmed; and its control address."""
    small = ("--set", "camera.twin.height_px=96", "--set", "camera.twin.frames_per_s=50")
    run = subprocess.Popen(
        [*COMMAND, "run", RIG, "--for", "60s", *NULL, *small], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert run.stderr is not None
    said = ""
    for line in run.stderr:
        said += line
        if found := re.search(r"control at (\S+)", line):
            yield run, found[1]
            break
    else:
        pytest.fail(f"the run never came under way: {said}")
    run.kill()
    run.communicate()


def test_control_answers_on_stdout_in_plain_words(hspc_live, under_way):
    run, address = under_way
    said = hspc_live("control", "status", "--at", address)
    assert said.code == 0 and not RAW.search(said.out), said.out
    for word in ("armed", "no", "alarms", "none", "those of the settings", "captured"):
        assert word in said.out
    ended = hspc_live("control", "end", "--at", address)
    assert ended.code == 0 and "{" not in ended.out and ended.out.strip()
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 0 and "captured" in out


def test_nothing_is_promised_before_the_output_is_known_to_be_free(hspc_live, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    for command in (("run", RIG, "--for", "2s"), ("demo", "--seconds", "2")):
        said = hspc_live(*command, "--out", tmp_path)
        assert said.code == 4 and "predicted" not in said.err and "not empty" in said.err


@pytest.mark.parametrize(("armed", "seconds", "words"), [
    (True, 60.0, "cells sorted"), (False, 60.0, "cells would be sorted if armed"), (True, 1.2, "about 1 cell sorted"),
])  # fmt: skip
def test_the_prediction_says_what_it_is_for(capfd, monkeypatch, armed, seconds, words):
    monkeypatch.setenv("COLUMNS", "300")
    settings = load(RIG)
    say_prediction(settings, model_card(settings), seconds, armed=armed)
    assert words in capfd.readouterr().err


def test_calibrate_delay_refuses_a_place_it_cannot_write_to_before_it_films(hspc_live, tmp_path):
    said = hspc_live("calibrate-delay", RIG, "--out", tmp_path / "absent" / "delay.yaml")
    assert said.code == 4 and "absent" in said.err and "filming" not in said.err


@pytest.mark.parametrize(
    "args", [("worker", ""), ("control", "status", "--at", ""), ("run", ""), ("demo", "--out", ""), ("segment", "")]
)
def test_an_empty_argument_is_called_that(hspc_live, args):
    said = hspc_live(*args)
    assert said.code == 2 and "argument is empty" in said.err and "error: :" not in said.err


@pytest.mark.parametrize("args", [("worker", "here"), ("control", "status", "--at", "here")])
def test_what_is_no_address_is_named_with_what_one_looks_like(hspc_live, args):
    said = hspc_live(*args)
    assert said.code == 2 and "here" in said.err and "control.sock" in said.err


@pytest.mark.skipif(os.name != "posix", reason="pipes of this kind are POSIX's")
@pytest.mark.parametrize("args", [("--help",), ("check", str(RIG)), ("schema",), ("check", str(RIG), "--json")])
def test_who_stops_reading_is_told_nothing_more(args):
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run([*COMMAND, *args], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert ended.returncode == 141 and ended.stderr == ""


@pytest.mark.skipif(os.name != "posix", reason="pipes of this kind are POSIX's")
def test_a_command_goes_on_when_nobody_reads_its_progress(tmp_path):
    read, write = os.pipe()
    os.close(read)
    out = tmp_path / "delay.yaml"
    args = ("calibrate-delay", RIG, "--beads", "16", "--out", out, "--set", "camera.twin.height_px=96")
    ended = subprocess.run([*COMMAND, *args], stdout=subprocess.PIPE, stderr=write, text=True, check=False)
    os.close(write)
    assert ended.returncode == 0 and out.is_file() and "sort delay" in ended.stdout


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    for inner, one in getattr(command, "commands", {}).items():
        yield from commands(one, f"{name} {inner}")
    yield name, command


def test_every_command_argument_and_option_has_a_help():
    for name, command in commands(typer.main.get_command(tree()), "hspc-live"):
        assert command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name}: {parameter.name}"


def test_the_glossary_knows_every_reason_and_outcome():
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = {reject.name.lower() for reject in Reject if reject}
    words |= {one.value for kind in (Reason, LeftOut, Lost) for one in kind}
    missing = sorted(word for word in words if f"`{word}`" not in text)
    outcomes = {one.value.replace("_", " ") for kind in (CellOutcome, ChamberOutcome) for one in kind}
    assert not missing and all(outcome in text.replace("*", "") for outcome in outcomes)


def test_the_readme_s_exit_codes_are_those_of_the_errors():
    table = re.findall(r"^\| (\d+) \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    own = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    assert {int(code) for code in table} == own | {0, 141}
