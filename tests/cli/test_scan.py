"""scan: which area is meant, and what is no area."""

from __future__ import annotations

import json

import pytest

from hspc_live.settings.shipped import shipped_config

RIG = shipped_config("rigs/twin_chamber")
QUICK = (
    *("--set", "engine.kind=null", "--set", "sort.outlets=[]"),
    *("--set", "camera.twin.height_px=512", "--set", "camera.twin.width_px=512"),
    *("--set", "calibration={kind: given, x_per_px: [0.2515, -0.006], y_per_px: [0.006, 0.2518]}"),
)


def test_a_circle_is_scanned_and_no_more(hspc_live):
    said = hspc_live("scan", RIG, "--circle", "100,-50,90", *QUICK, "--json")
    assert said.code == 0, said.err
    fields = json.loads(said.out)["fields"]
    assert fields["planned"] == fields["visited"] == 4, "two by two fields of 128 µm, less the overlap"


@pytest.mark.parametrize(
    ("area", "message"),
    [
        (("--rect", "0,0,100"), "say X0,Y0,X1,Y1"),
        (("--rect", "0,0,nan,100"), "say X0,Y0,X1,Y1"),
        (("--rect", "0,0,0,100"), "nothing lies between"),
        (("--circle", "0,0,-5"), "radius"),
        (("--circle", "0,0,5", "--rect", "0,0,1,1"), "one area at a time"),
        (("--rect", "0,0,9000,10"), "outside the limits"),
        (("--affine", RIG), "calibrate-stage"),
    ],
)
def test_what_is_no_area_is_refused(hspc_live, area, message):
    said = hspc_live("scan", RIG, *area, *QUICK)
    assert said.code == 2 and message in said.err


def test_a_flow_has_no_area(hspc_live):
    said = hspc_live("scan", shipped_config("rigs/twin_flow"), "--rect", "0,0,10,10")
    assert said.code == 2 and "stage" in said.err
