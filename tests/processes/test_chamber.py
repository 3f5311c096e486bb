"""Chamber runs over the twin's stage and camera: what is found, listed, found again, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from drifting import Drifting
from hspc_live.cli.chamber import score_chamber
from hspc_live.core.chamber import ChamberCell, ChamberFacts, ChamberOutcome, FieldObjects, Phase, Revisited, Visit
from hspc_live.core.crop import CropGeometry
from hspc_live.core.errors import DeviceError, HspcError, SettingsError, StoppedError
from hspc_live.core.protocols import SnapCamera
from hspc_live.core.values import CameraInfo, Frame
from hspc_live.processes.chamber import ChamberRun
from hspc_live.processes.chamber_io import FieldSink
from hspc_live.processes.chamber_source import LiveFields
from hspc_live.processes.chamber_values import ChamberParts, ChamberReport
from hspc_live.settings.chamber_run import ChamberRunSettings
from hspc_live.wiring_chamber import ChamberDevices, build_chamber, build_chamber_devices
from hspc_models.engines.null import ImmediateEngine

Small = Callable[..., ChamberRunSettings]


class Kept:
    """A sink that keeps the order of what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.visits: list[Visit] = []
        self.found: dict[int, FieldObjects | None] = {}
        self.scored: dict[int, Any] = {}
        self.values: dict[int, np.ndarray] = {}
        self.closed: dict[str, Any] = {}

    def begin(self, facts: ChamberFacts, classes: tuple[str, ...]) -> None:
        self.told.append("begin")

    def field(self, visit: Visit, objects: FieldObjects | None) -> None:
        self.told.append(f"{visit.phase} {visit.number}")
        self.visits.append(visit)
        self.found[visit.number] = objects

    def scores(self, visit: int, views: np.ndarray, scores: np.ndarray) -> None:
        self.told.append(f"scores {visit}")
        self.scored[visit] = views
        self.values[visit] = scores

    def cells(self, cells: Sequence[ChamberCell]) -> None:
        self.told.append("cells")

    def revisited(self, cells: Sequence[Revisited]) -> None:
        self.told.append("revisited")

    def close(self, summary: Any) -> dict[str, Any]:
        self.told.append("close")
        self.closed = dict(summary)
        return {"visits": len(self.visits)}


def go(
    settings: ChamberRunSettings,
    *sinks: FieldSink,
    revisit: bool = False,
    listen: Any = lambda *_: None,
) -> tuple[ChamberReport, ChamberDevices]:
    parts, devices = build_chamber(settings, sinks)
    return asyncio.run(ChamberRun(parts, settings, revisit=revisit, listen=listen).run()), devices


def balanced(report: ChamberReport) -> None:
    assert report.summary["ledger"] == {"balanced": True, "violations": []}
    frames, views, cells = (report.summary[key] for key in ("frames", "views", "cells"))
    assert frames["captured"] == frames["processed"] + sum(frames["dropped"].values()) + sum(frames["lost"].values())
    assert views["detected"] == views["classified"] + sum(views["rejected"].values()) + sum(views["skipped"].values())
    ends = cells["listed"] + cells["passed"] + cells["abstained"]
    assert cells["tracked"] == ends + sum(cells["left_out"].values()) + sum(cells["unresolved"].values())


# ---- a whole run ---------------------------------------------------------------------------------------------------


def test_cells_are_listed_once_and_found_again(small: Small) -> None:
    report, devices = go(small(), revisit=True)
    assert devices.truth is not None
    scored = score_chamber(report, devices.truth(), ("LT-HSC", "ST-HSC", "MPP"))
    balanced(report)
    cells, second = scored["cells"], report.summary["revisit"]
    assert cells["found_rate"] > 0.8 and cells["listed_twice"] == 0
    assert report.summary["mosaic"]["duplicates_merged"] > 10  # the overlaps do show cells twice
    assert second["listed"] == report.summary["picking"]["listed"] > 20
    assert second["refound_of_shown"] >= 0.95  # so small an area is nearly all border, where new pictures end elsewhere
    assert second["position_error_um"]["median"] <= 1.0
    assert scored["fresh"]["position_error_um"] < 0.3  # a pick goes to the fresh place: creep, slips, drift are out


def test_a_pick_goes_to_the_fresh_place(small: Small) -> None:
    report, _ = go(small(), revisit=True)
    fresh = {cell.cell: cell for cell in report.revisited}
    assert report.targets and len({target.target for target in report.targets}) == len(report.targets)
    for target in report.targets:
        assert target.cell is not None
        assert (target.x_um, target.y_um) == (fresh[target.cell].x_um, fresh[target.cell].y_um)


def test_what_no_longer_lies_alone_is_no_target(small: Small) -> None:
    settings = small("camera.twin.seed=8")  # of seed 5 every wanted cell has a neighbour within 20 µm
    wide = settings.chamber.model_copy(update={"picking": settings.chamber.picking.model_copy(update={"clear_um": 20})})
    report, _ = go(settings.model_copy(update={"chamber": wide}), revisit=True)
    second = report.summary["revisit"]
    assert 0 < second["pickable"] < second["refound"]
    assert second["not_pickable"]["neighbour_too_near"] == second["refound"] - second["pickable"]


def test_play_that_nobody_spoke_of_is_said_and_nothing_is_picked_by_it(small: Small) -> None:
    told: list[str] = []
    settings = small("camera.twin.stage.backlash_um=8", "chamber.tiling.approach=any")
    report, devices = go(settings, revisit=True, listen=lambda _role, kind, text: told.append(f"{kind} {text}"))
    assert devices.truth is not None
    scored = score_chamber(report, devices.truth(), ("LT-HSC", "ST-HSC", "MPP"))
    balanced(report)
    assert scored["cells"]["found_rate"] > 0.8 and scored["cells"]["listed_twice"] == 0
    assert report.summary["mosaic"]["stage_unsteady_um"] > 2 and report.summary["alarms"]["stage_unsteady"] >= 1
    assert any(line.startswith("alarm the stage stood from field to field ±") for line in told)
    assert not report.targets and report.summary["picking"]["left_out"]["position_uncertain"] > 20


def test_fields_with_more_debris_than_cells_are_counted_and_said(small: Small) -> None:
    told: list[str] = []

    def listen(_role: str, kind: str, text: str) -> None:
        told.append(f"{kind} {text}")

    clean, _ = go(small(), listen=listen)
    assert clean.summary["alarms"] == {} and not [line for line in told if line.startswith("alarm")]
    report, _ = go(small("camera.twin.density_per_mm2=60", "camera.twin.specks_per_mm2=2000"), listen=listen)
    balanced(report)
    dirty = report.summary["alarms"]["dirty_fields"]
    assert 0 < dirty <= report.summary["fields"]["visited"]
    (said,) = (line for line in told if line.startswith("alarm"))
    assert said.startswith(f"alarm {dirty} fields show more debris")


def test_the_same_seed_gives_the_same_run(small: Small) -> None:
    first, second = go(small(), revisit=True)[0], go(small(), revisit=True)[0]
    assert first.summary["decisions_sha256"] == second.summary["decisions_sha256"]
    assert first.cells == second.cells and first.revisited == second.revisited
    other, _ = go(small("camera.twin.seed=6"))
    assert other.summary["decisions_sha256"] != first.summary["decisions_sha256"]


def test_the_picture_kept_was_taken_after_the_check_and_at_rest(small: Small) -> None:
    report, devices = go(small())
    assert devices.truth is not None
    truth = devices.truth()
    for visit in report.visits:
        assert visit.settled.reason == "" and visit.settled.looks >= 3
        row = truth.exposures[truth.exposures["number"] == visit.exposure][0]
        assert row["swept_um"] < 0.25


def test_a_given_calibration_moves_nothing_beforehand(small: Small) -> None:
    given = small("calibration={kind: given, x_per_px: [0.25, 0.0], y_per_px: [0.0, 0.25]}")
    kept = Kept()
    report, _ = go(given, kept)
    assert kept.visits[0].pictures[0].frame.index < 20  # only looks of the first field came before
    assert report.facts.affine[:, :2].tolist() == [[0.25, 0.0], [0.0, 0.25]]


def test_sinks_are_told_everything_in_order(small: Small) -> None:
    kept = Kept()
    report, _ = go(small(), kept, revisit=True)
    assert kept.told[0] == "begin" and kept.told[-2:] == ["revisited", "close"] and kept.told.count("cells") == 1
    assert [v.number for v in kept.visits] == list(range(len(kept.visits)))
    assert [v.phase for v in kept.visits] == sorted((v.phase for v in kept.visits), key=[*Phase].index)
    for number, views in kept.scored.items():
        objects = kept.found[number]
        assert objects is not None and [objects.reasons[view] for view in views] == [""] * len(objects.result.crops)
    assert kept.closed["decisions_sha256"] == report.summary["decisions_sha256"]
    assert report.summary["recording"] == {"visits": len(kept.visits)}


def test_fluorescence_is_measured_on_every_cell(small: Small) -> None:
    report, devices = go(small("exposure.fluorescence=[gfp]", "camera.twin.fluorescence.haze=0"))
    assert devices.truth is not None
    assert report.summary["frames"]["captured"] == 2 * len(report.facts.plan)
    truth = devices.truth()
    light: dict[bool, list[float]] = {True: [], False: []}
    for cell in report.cells:
        if cell.classification is None:
            continue
        away = np.hypot(*(truth.places_um(cell.seen_ns) - (cell.x_um, cell.y_um)).T)
        if away.min() < 4:
            light[bool(truth.bodies["marked"][away.argmin()])].append(cell.features["glow:gfp"])
    assert np.median(light[True]) > 3 * np.median(light[False]) > 0


def test_a_gate_of_light_lists_the_marked_cells_with_their_light(small: Small) -> None:
    gate = "sort.outlets=[{name: bright, gate: {kind: range, feature: 'glow:gfp', min: 40}}]"
    report, devices = go(small("exposure.fluorescence=[gfp]", "camera.twin.fluorescence.haze=0", gate))
    assert devices.truth is not None
    truth = devices.truth()
    assert report.listed.channels == ("gfp",) and len(report.listed.picks) > 5
    marked = []
    for pick in report.listed.picks:
        cell = report.cells[pick.cell]
        assert pick.outlet == "bright" and pick.glow == (cell.features["glow:gfp"],) and pick.glow[0] >= 40
        away = np.hypot(*(truth.places_um(cell.seen_ns) - (cell.x_um, cell.y_um)).T)
        marked.append(bool(truth.bodies["marked"][away.argmin()]))
    assert np.mean(marked) > 0.9 > truth.bodies["marked"].mean() + 0.1
    dark = [cell.features["glow:gfp"] for cell in report.cells if cell.outcome is ChamberOutcome.PASSED]
    assert dark and max(dark) < 40


@pytest.mark.parametrize(
    ("exposed", "said"), [("[]", "no channel of fluorescence is exposed"), ("[gfp]", "the channels exposed are gfp")]
)
def test_a_gate_of_light_that_is_not_exposed_is_refused(small: Small, exposed: str, said: str) -> None:
    gate = "sort.outlets=[{name: bright, gate: {kind: range, feature: 'glow:rfp', min: 40}}]"
    with pytest.raises(SettingsError, match=f"'bright': asks for the light in channel 'rfp', but {said}"):
        build_chamber(small(f"exposure.fluorescence={exposed}", gate))


# ---- refused, dropped, broken, interrupted ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "chamber.tiling.area.x0_um=5900",
        "chamber.tiling.area.x0_um=-1e300",
        "chamber.limits.x_max_um=100",
        "camera.twin.stage.y_limits_um=[-120, 6000]",
        "chamber.tiling.overshoot_um=1e9",
        "calibration.step_um=1e6",
    ],
)
def test_an_area_out_of_reach_is_refused_before_anything_moves(small: Small, change: str) -> None:
    settings = small(change)
    parts, devices = build_chamber(settings)
    with pytest.raises(SettingsError, match="outside the limits of travel"):
        asyncio.run(ChamberRun(parts, settings).run())
    assert devices.truth is not None and len(devices.truth().exposures) == 0
    devices.stage.open()
    assert (devices.stage.position().x_um, devices.stage.position().y_um) == (0.0, 0.0)


def test_a_cell_that_the_stage_cannot_bring_to_the_middle_is_no_pick(small: Small) -> None:
    """The last fields reach beyond the stage's own travel, which the settings do not know of."""
    given = "calibration={kind: given, x_per_px: [0.25, 0.0], y_per_px: [0.0, 0.25]}"
    tight = ["camera.twin.stage.x_limits_um=[-120, 120]", "camera.twin.stage.y_limits_um=[-120, 120]"]
    report, _ = go(small(given, "chamber.tiling.approach=any", *tight), revisit=True)
    balanced(report)
    assert report.summary["picking"]["left_out"]["out_of_reach"] > 0
    places = [(pick.x_um, pick.y_um) for pick in report.listed.picks]
    places += [(target.x_um, target.y_um) for target in report.targets]
    assert len(report.targets) > 3 and all(max(abs(x), abs(y)) <= 120 for x, y in places)
    second = report.summary["revisit"]
    assert second["pickable"] + sum(second["not_pickable"].values()) == second["refound"]


def test_a_field_that_never_stands_still_is_dropped_and_counted(small: Small) -> None:
    given = "calibration={kind: given, x_per_px: [0.25, 0.0], y_per_px: [0.0, 0.25]}"
    swinging = ["camera.twin.stage.ringing_um=30", "camera.twin.stage.settle_ms=100000"]
    kept = Kept()
    report, _ = go(small(given, "chamber.settle.deadline_s=0.05", *swinging), kept)
    balanced(report)
    frames = report.summary["frames"]
    assert frames["dropped"] == {"still_moving": len(report.facts.plan)} and frames["processed"] == 0
    assert all(objects is None for objects in kept.found.values())
    assert report.cells == [] and report.summary["picking"]["listed"] == 0


class Failing:
    """The twin's camera, until it has taken so many pictures."""

    def __init__(self, camera: SnapCamera, after: int) -> None:
        self._camera, self._left = camera, after

    def open(self) -> CameraInfo:
        return self._camera.open()

    @property
    def channels(self) -> tuple[str, ...]:
        return self._camera.channels

    def snap(self, channel: str, exposure_ms: float | None = None) -> Frame:
        self._left -= 1
        if self._left < 0:
            raise DeviceError("the camera's cable was pulled")
        return self._camera.snap(channel, exposure_ms)

    def close(self) -> None:
        self._camera.close()


def failing(settings: ChamberRunSettings, after: int) -> ChamberParts:
    devices = build_chamber_devices(settings)
    source = LiveFields(devices.stage, Failing(devices.camera, after), settings)
    return ChamberParts(source, ImmediateEngine(("LT-HSC", "MPP")), CropGeometry())


def test_an_engine_that_drifts_in_mid_run_lists_nothing_more_and_says_so(small: Small) -> None:
    """The field behind which its canary came out wrong is not used, nor is any after it; those before are."""
    settings = small("calibration={kind: given, x_per_px: [0.25, 0.0], y_per_px: [0.0, 0.25]}")
    devices = build_chamber_devices(settings)
    kept, said = Kept(), []
    engine = Drifting(sound=1 + 2 * 4)  # once to know the canary, then each field and the canary behind it
    source = LiveFields(devices.stage, devices.camera, settings)
    parts = ChamberParts(source, engine, CropGeometry(), (kept,))
    report = asyncio.run(ChamberRun(parts, settings, listen=lambda _, kind, text: said.append((kind, text))).run())
    balanced(report)
    fields = sorted(kept.scored)
    finite = [bool(np.isfinite(kept.values[field]).all()) for field in fields]
    assert len(fields) > 5 and finite == [True] * 4 + [False] * (len(fields) - 4)
    views = report.summary["views"]
    assert views["skipped"] == {"engine_drift": sum(len(kept.scored[field]) for field in fields[4:])}
    assert report.summary["alarms"]["engine_drift"] == len(fields) - 4
    told = report.summary["canary"]
    assert told["rides"] == len(fields) and "scores a known crop 0.900" in told["drift"]
    assert [text for kind, text in said if kind == "alarm" and "drifted" in text] == [
        f"{told['drift']}: no cell of the fields from here on is listed"
    ]
    assert report.listed.picks, "what was seen before is listed"
    of_picks = {field for cell in report.cells if cell.outcome is ChamberOutcome.LISTED for field, _ in cell.looks}
    assert of_picks & set(fields[:4])


def test_a_sound_engine_is_watched_through_the_whole_scan(small: Small) -> None:
    report, _ = go(small())
    assert report.summary["canary"]["rides"] >= 5 and report.summary["canary"]["drift"] is None
    assert "engine_drift" not in report.summary["alarms"]


def test_a_camera_that_fails_ends_the_scan_and_keeps_what_was_seen(small: Small) -> None:
    settings = small("calibration={kind: given, x_per_px: [0.25, 0.0], y_per_px: [0.0, 0.25]}")
    parts = failing(settings, after=20)
    report = asyncio.run(ChamberRun(parts, settings, revisit=True).run())
    assert isinstance(report.failure, DeviceError) and "cable" in str(report.failure)
    assert 0 < report.summary["fields"]["visited"] < report.summary["fields"]["planned"]
    assert report.cells and report.summary["failure"] == str(report.failure)
    assert report.summary["revisit"]["fields_visited"] == 0  # nobody goes on with a broken camera
    balanced(report)


def test_a_camera_that_fails_on_the_second_visit_keeps_the_list(small: Small) -> None:
    settings = small("calibration={kind: given, x_per_px: [0.25, 0.0], y_per_px: [0.0, 0.25]}")
    whole = asyncio.run(ChamberRun(failing(settings, 10_000), settings, revisit=True).run())
    looks = sum(visit.settled.looks for visit in whole.visits if visit.phase is Phase.SCAN)
    report = asyncio.run(ChamberRun(failing(settings, looks + 5), settings, revisit=True).run())
    assert isinstance(report.failure, DeviceError)
    assert report.summary["decisions_sha256"] == whole.summary["decisions_sha256"]
    second = report.summary["revisit"]
    assert 0 < second["refound"] < second["listed"] == whole.summary["revisit"]["listed"]
    assert second["listed"] == second["refound"] + sum(second["lost"].values())
    balanced(report)


def test_a_camera_that_does_not_open_is_an_error_at_once(small: Small) -> None:
    settings = small()
    parts = failing(settings, after=0)
    with pytest.raises(DeviceError, match="cable"):
        asyncio.run(ChamberRun(parts, settings).run())


def interrupting(times: int, at: str) -> Any:
    def listen(_role: str, kind: str, text: str) -> None:
        if kind == "scan" and text.startswith(at):
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)  # unlike `os.kill` it has been heard when this returns

    return listen


@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals reach the main thread")
def test_ctrl_c_once_lists_what_was_seen(small: Small) -> None:
    report, _ = go(small(), revisit=True, listen=interrupting(1, "field 3 "))
    assert report.interrupted and report.failure is None
    # said of the third while its pictures are looked at: the stage is on its way to the fourth, and that is the last
    assert report.summary["fields"]["visited"] == 4 < report.summary["fields"]["planned"]
    assert any(cell.outcome is ChamberOutcome.LISTED for cell in report.cells)
    assert report.summary["revisit"]["fields_visited"] == 0
    balanced(report)


def test_ctrl_c_twice_stops(small: Small) -> None:
    kept, before = Kept(), signal.getsignal(signal.SIGINT)
    with pytest.raises(StoppedError):
        go(small(), kept, listen=interrupting(2, "field 3 "))
    assert kept.told[-1] == "close" and "cells" not in kept.told
    assert signal.getsignal(signal.SIGINT) is before


def test_nothing_to_see_is_said(small: Small) -> None:
    empty = small("camera.twin.density_per_mm2=0", "camera.twin.specks_per_mm2=0", "camera.twin.dust=0")
    with pytest.raises(HspcError, match="cells"):
        go(empty)


def test_an_empty_chamber_gives_an_empty_list(small: Small) -> None:
    report, _ = go(
        small(
            "camera.twin.density_per_mm2=0", "camera.twin.specks_per_mm2=0",
            "calibration={kind: given, x_per_px: [0.25, 0.0], y_per_px: [0.0, 0.25]}",
        ),
        revisit=True,
    )  # fmt: skip
    balanced(report)
    assert report.summary["picking"]["listed"] == 0 and report.summary["revisit"]["refound_fraction"] is None


def test_every_object_ends_in_one_place(small: Small) -> None:
    report, _ = go(small("sort.abstain.min_score=0.5", "chamber.picking.top=5", "chamber.picking.clear_um=10"))
    balanced(report)
    picks = {pick.cell for pick in report.listed.picks}
    assert len(picks) == 5 == report.summary["picking"]["listed"]
    assert {cell.cell for cell in report.cells if cell.outcome is ChamberOutcome.LISTED} == picks
    counts = Counter(cell.reason for cell in report.cells if cell.outcome is ChamberOutcome.LEFT_OUT)
    assert report.summary["picking"]["left_out"] == dict(counts) and counts["over_top"] > 0
