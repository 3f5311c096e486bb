"""`hspc-live run` on a chamber: real devices of the twin, from settings to picking list, with a second visit."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chambers import MEASURED
from hspc_live.report.picking_list import read_picking_list
from hspc_live.settings.shipped import shipped_config

Start = Callable[..., Any]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("chamber") / "chamber.yaml"
    file.write_text(MEASURED)
    return file


def test_a_chamber_ends_in_a_picking_list_and_a_second_visit(start: Start, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said, err = start("run", config, "--revisit", "--json", "--out", out).end()
    assert code == 0, err
    summary = json.loads(said)
    assert summary == json.loads((out / "summary.json").read_text())
    assert summary["ledger"] == {"balanced": True, "violations": []} and len(summary["decisions_sha256"]) == 64
    assert (
        summary["fields"]["planned"]
        == summary["fields"]["visited"]
        == summary["frames"]["captured"] - (summary["revisit"]["fields_visited"])
    )
    listed = summary["picking"]["listed"]
    assert summary["cells"]["listed"] == listed > 10
    assert summary["revisit"]["refound_of_shown"] >= 0.95
    assert summary["revisit"]["position_error_um"]["median"] <= 1.0
    assert summary["truth"]["cells"]["listed_twice"] == 0
    assert summary["truth"]["fresh"]["position_error_um"] < 0.3
    picks = read_picking_list(out / "picking_list.json").picks
    with (out / "picking_list.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len(picks) == len(rows) == listed
    assert [int(row["order"]) for row in rows] == list(range(1, listed + 1))
    targets = json.loads((out / "pick_targets.json").read_text())["targets"]
    assert len(targets) == summary["revisit"]["pickable"] > 0
    positions = json.loads((out / "pick_targets.pos").read_text())["map"]["StagePositions"]["array"]
    places = [one["DevicePositions"]["array"][0]["Position_um"]["array"] for one in positions]
    assert places == [[target["x_um"], target["y_um"]] for target in targets], "picks go to the fresh places"
    orders = {pick.cell: pick.order for pick in picks}
    numbers = [int(one["Label"]["scalar"].partition("-")[0]) for one in positions]
    assert numbers == [orders[target["cell"]] for target in targets], "under the numbers that the list has"


def test_without_a_second_visit_and_for_people(start: Start, config: Path) -> None:
    code, said, err = start("run", config).end()
    assert code == 0, err
    assert "picking list" in said and "balanced" in said and "found again" not in said


def test_ctrl_c_ends_after_this_field_with_a_list(start: Start, config: Path, tmp_path: Path) -> None:
    command = start("run", config, "--revisit", "--json", "--out", tmp_path / "out")
    command.until("field 2 of")
    command.ctrl_c()
    code, said, err = command.end()
    assert code == 130, err
    summary = json.loads(said)
    assert summary["interrupted"] and summary["fields"]["visited"] < summary["fields"]["planned"]
    assert summary["ledger"]["balanced"] and summary["picking"]["complete"] is False
    assert (tmp_path / "out" / "picking_list_incomplete.csv").is_file()


def test_a_promise_in_a_chamber_is_recorded_and_repeated(start: Start, config: Path, tmp_path: Path) -> None:
    promise = "sort.outlets.0.gate={kind: promise, class_name: MPP, purity: 0.8}"
    shares = "population.prevalence={LT-HSC: 0.14, ST-HSC: 0.39, MPP: 0.47}"
    told = [part for text in (promise, shares, "engine={kind: torch, threads: 1}") for part in ("--set", text)]
    code, said, err = start("run", config, "--json", "--out", tmp_path / "out", *told).end()
    assert code == 0, err
    summary = json.loads(said)
    (made,) = summary["gates"]["promises"]
    assert made["class_name"] == "MPP" and 0 < made["threshold"] < 1 and "calibrated on cells filmed in flow" in err
    assert sum(summary["abstained"].values()) == summary["cells"]["abstained"]
    picks = read_picking_list(tmp_path / "out" / "picking_list.json")
    taken = [pick.scores[picks.classes.index("MPP")] for pick in picks.picks]
    assert taken and min(taken) >= made["threshold"] - 1e-3
    code, said, err = start("replay", tmp_path / "out" / "recording.h5", "--json").end()
    assert code == 0, err
    again = json.loads(said)
    assert again["same_decisions"] is True and again["gates"] == summary["gates"]
    undeclared = start("run", config, "--json", "--set", promise, "--set", "engine={kind: torch}").end()
    assert undeclared[0] == 2 and "needs a declared population" in " ".join(undeclared[2].split())


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (("--set", "chamber.tiling.area.x0_um=5900"), 2, "nothing was moved"),
        (("--set", "sort.outlets.0.gate.class_name=B-cell"), 2, "B-cell"),
        (("--set", "camera.twin.stage.start_um=[1e9, 0]"), 2, "must contain start_um"),
        (("--set", "camera.twin.density_per_mm2=0", "--set", "camera.twin.specks_per_mm2=0"), 6, "there are cells"),
        (("--arm",), 2, "for a flow"),
        (("--for", "3s"), 2, "for a flow"),
    ],
)  # fmt: skip
def test_what_cannot_be_ends_with_its_code(
    start: Start, config: Path, given: tuple[str, ...], code: int, said: str
) -> None:
    ended, out, err = start("run", config, "--json", *given).end()
    assert ended == code and said in " ".join(err.split()), err
    assert json.loads(out)["exit_code"] == code


def test_a_second_visit_is_nothing_for_a_flow(start: Start) -> None:
    code, _, err = start("run", shipped_config("rigs/twin_flow"), "--revisit").end()
    assert code == 2 and "are for a chamber" in " ".join(err.split())  # lines break where the path ends


def test_check_and_schema_know_both_kinds_of_run(start: Start, config: Path) -> None:
    code, said, _ = start("check", config, "--json").end()
    assert code == 0 and json.loads(said)["mode"] == "chamber"
    code, _, err = start("check", config, "--set", "chamber.tiling.overlpa=0.2").end()
    assert code == 2 and "did you mean 'overlap'" in " ".join(err.split())
    code, said, _ = start("schema", "--mode", "chamber").end()
    assert code == 0 and {"camera", "stage", "chamber"} <= json.loads(said)["properties"].keys()
