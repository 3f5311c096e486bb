"""A chamber under fault plans: a slip costs picks and gives no wrong one; what fails ends with its own exit code."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from chambers import MEASURED


@pytest.fixture
def rough(hspc_live, tmp_path: Path):
    """Runs a small chamber under one fault; gives exit code, the JSON and stderr."""
    config, plan = tmp_path / "chamber.yaml", tmp_path / "plan.yaml"
    config.write_text(MEASURED)

    def run(fault: str, *options: object):
        plan.write_text(f"faults: [{fault}]\n")
        said = hspc_live("run", config, "--faults", plan, "--json", *options)
        return said.code, json.loads(said.out), said.err

    return run


def test_a_slip_in_mid_scan_is_noticed_and_no_place_is_listed_that_is_not_sure(rough):
    code, s, err = rough("{kind: slip, at_frame: 30, x_um: 15}", "--revisit")
    assert code == 0 and "A FAULT PLAN IS IN FORCE" in err and "A FAULT PLAN IS IN FORCE" in s["warnings"][0]
    assert s["faults"]["injected"] == {"slip": 1} and s["ledger"]["balanced"]
    assert s["faults"]["observed"]["alarms"]["overlaps_disagree"] > 0
    assert s["cells"]["left_out"]["position_uncertain"] > s["cells"]["listed"], "what cannot be hit is no pick"
    assert s["truth"]["cells"]["listed_twice"] == 0 and s["revisit"]["refound_of_shown"] == 1.0
    assert s["truth"]["fresh"]["position_error_um"] < 0.3


def test_scores_that_are_no_numbers_are_no_picks(rough):
    code, s, _ = rough("{kind: nan, at_s: 0, count: 2}")
    assert code == 0 and s["faults"]["injected"] == {"nan": 2}
    assert s["views"]["skipped"]["engine_drift"] > 0 and s["cells"]["unresolved"]["engine_drift"] > 0
    assert "nan" in s["canary"]["drift"] and s["ledger"]["balanced"]


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        ("{kind: disconnect, at_frame: 20}", 6, "does not answer any more"),
        ("{kind: out_of_memory, at_s: 0}", 5, "smaller engine.buckets"),
        ("{kind: nak, at_s: 0}", 2, "a chamber run cannot do that"),
    ],
)
def test_what_fails_ends_with_its_own_exit_code(rough, fault, code, said):
    found = rough(fault)
    assert found[0] == code and said in " ".join(found[2].split())


def test_a_full_disk_ends_the_recording_and_not_the_scan(rough, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    code, s, _ = rough("{kind: disk_full, at_s: 0, left_kb: 1500}", "--out", tmp_path / "out")
    assert code == 10 and s["faults"]["injected"] == {"disk_full": 1}
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == before, "only the recording had no room"
    assert "disk full" in s["faults"]["observed"]["recording"] and s["cells"]["listed"] > 0
