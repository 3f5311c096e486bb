"""The sort core in virtual time: what becomes of cells whose whole story is known."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from hspc_live.core.errors import SettingsError
from hspc_live.core.events import (
    Action,
    Alarm,
    Arm,
    ArmingRefused,
    Classify,
    Closed,
    Command,
    Disarm,
    Disarmed,
    Ended,
    Event,
    Finished,
    FrameMissing,
    FrameSeen,
    Gated,
    GatesSet,
    Received,
    Scored,
    Skipped,
    Tick,
)
from hspc_live.core.values import CellOutcome, CellRecord, Detection, Receipt, ReceiptKind, Reject, SortCommand
from hspc_live.settings.sort import (
    AbstainSettings,
    AlarmSettings,
    CloseSettings,
    KnownStrangers,
    Outlet,
    ScoreGate,
    SortSettings,
    TimingSettings,
    TopPercentGate,
    TrackSettings,
)
from hspc_live.stages.gate import EditGates
from hspc_live.stages.sort_core import SortCore

CLASSES = ("LT-HSC", "ST-HSC", "MPP")
LT, ST, MPP = (0.9, 0.06, 0.04), (0.05, 0.9, 0.05), (0.04, 0.06, 0.9)
NAN = (float("nan"),) * 3
FPS, WIDTH_UM, JUNCTION_UM = 100.0, 256.0, 2600.0
LEFT = Outlet(name="left", gate=ScoreGate(class_name="LT-HSC", min=0.5))
RIGHT = Outlet(name="right", gate=ScoreGate(class_name="MPP", min=0.5))
MS = 1_000_000


def detection(x: float, y: float, reject: int = 0, diameter: float = 8.0) -> Detection:
    return Detection(x, y, 50.0, diameter, 0.02, 120.0, 9.0, 3.0, int(x * 4) - 16, int(y * 4) - 16, 0, 0, reject)


@dataclass
class Thing:
    """An object in the flow: it is at x = 0 at `at_s`."""

    at_s: float
    v: float = 4000.0
    y: float = 30.0
    scores: tuple[float, ...] = LT
    reject: int = 0
    hidden: frozenset[int] = frozenset()
    delay_s: float | None = None  # of its scores; None: the world's

    def arrival_ns(self) -> int:
        return round((self.at_s + JUNCTION_UM / self.v) * 1e9)


@dataclass
class World:
    """Things that flow past a camera, filmed into a core; a view is scored `score_after_s` after it was asked for."""

    core: SortCore
    things: list[Thing]
    score_after_s: float = 0.03
    missing: dict[int, str] = field(default_factory=dict)
    over_cap: dict[int, int] = field(default_factory=dict)
    answer: bool = True
    actions: list[Action] = field(default_factory=list)
    whose: dict[tuple[int, int], Thing] = field(default_factory=dict)
    _waiting: list[tuple[int, tuple[int, int]]] = field(default_factory=list)

    def frame(self, index: int) -> FrameSeen:
        now = index / FPS
        seen = sorted(
            (detection((now - thing.at_s) * thing.v, thing.y, thing.reject), number)
            for number, thing in enumerate(self.things)
            if index not in thing.hidden and 8.0 <= (now - thing.at_s) * thing.v <= WIDTH_UM - 8.0
        )
        for view, (_, number) in enumerate(seen):
            self.whose[index, view] = self.things[number]
        return FrameSeen(index, round(now * 1e9), tuple(one for one, _ in seen), self.over_cap.get(index, 0))

    def feed(self, event: Event | EditGates, now_ns: int) -> list[Action]:
        actions = self.core.feed(event, now_ns)
        assert self.core.ledger.balanced() == []
        self.actions += actions
        for one in actions:
            if isinstance(one, Classify):
                thing = self.whose.get((one.frame, one.view))
                delay = self.score_after_s if thing is None or thing.delay_s is None else thing.delay_s
                self._waiting.append((now_ns + round(delay * 1e9), (one.frame, one.view)))
        return actions

    def deliver(self, now_ns: int) -> None:
        """Feed the scores that are due, one view at a time."""
        due = [key for at, key in self._waiting if at <= now_ns] if self.answer else []
        self._waiting = [(at, key) for at, key in self._waiting if at > now_ns or not self.answer]
        for key in due:
            self.feed(Scored((key,), np.array([self.whose[key].scores], dtype=np.float32)), now_ns)

    def film(self, first: int, last: int) -> None:
        for index in range(first, last):
            now = round(index / FPS * 1e9)
            if index in self.missing:
                self.feed(FrameMissing(index, now, self.missing[index], dropped=False), now)
            else:
                self.feed(self.frame(index), now)
            self.deliver(now)

    def end(self, now_s: float) -> None:
        now = round(now_s * 1e9)
        self.feed(Ended(), now)
        self.deliver(now + 10**12)
        self.feed(Finished(), now)
        assert self.core.ledger.open == 0

    def all(self, kind: type[Action]) -> list[Action]:
        return [action for action in self.actions if isinstance(action, kind)]

    @property
    def records(self) -> list[CellRecord]:
        return [action.record for action in self.actions if isinstance(action, Closed)]

    @property
    def commands(self) -> list[SortCommand]:
        return [action.command for action in self.actions if isinstance(action, Command)]

    @property
    def alarms(self) -> list[str]:
        return [action.kind for action in self.actions if isinstance(action, Alarm)]

    def outcome(self, thing: Thing) -> str:
        """Outcome and reason of the one cell that `thing` became."""
        (record,) = [one for one in self.records if self.whose[one.views[0]] is thing]
        return f"{record.outcome}:{record.reason}".rstrip(":")


def world(things: list[Thing], *, armed: bool = True, outlets: tuple[Outlet, ...] = (LEFT,), **given) -> World:
    core_settings = {key: given.pop(key) for key in list(given) if key in SortSettings.model_fields}
    made = World(SortCore(SortSettings(outlets=outlets, **core_settings), CLASSES), things, **given)
    if armed:
        made.feed(Arm("test"), 0)
    return made


def run(things: list[Thing], frames: int = 100, **given) -> World:
    made = world(things, **given)
    made.film(0, frames)
    made.end(frames / FPS)
    return made


# ---- the straight way  ---------------------------------------------------------------------------------------------


def test_a_wanted_cell_is_commanded_for_the_moment_it_is_at_the_junction() -> None:
    cell = Thing(0.1)
    result = run([cell])
    (command,) = result.commands
    assert result.outcome(cell) == "sorted"
    assert command.outlet == "left"
    assert abs(command.fire_at_ns - cell.arrival_ns()) < command.width_ns // 2
    assert abs(command.fire_at_ns - cell.arrival_ns()) < 1 * MS
    assert command.sent_ns <= command.deadline_ns == command.fire_at_ns - command.width_ns // 2 - 20 * MS
    # committed by capture time: at the first frame less than the commit lead before the arrival
    assert 110 * MS <= command.fire_at_ns - command.sent_ns <= 120 * MS


def test_a_cell_is_closed_after_k_views_and_further_ones_are_booked() -> None:
    result = run([Thing(0.1)])
    (record,) = result.records
    assert len(record.views) == 3 == len(result.all(Classify))
    assert result.core.ledger.views.skipped["enough_views"] == 3
    assert record.classification is not None and record.classification.views == 3
    assert record.features["diameter_um"] == pytest.approx(8.0)
    assert record.velocity_um_s == pytest.approx(4000.0, rel=1e-3)


def test_tracking_goes_on_after_closing_and_sharpens_the_arrival() -> None:
    cell = Thing(0.1, v=4400.0)
    seen_thrice = Thing(0.1, v=4400.0, hidden=frozenset(range(15, 40)))
    first, second = run([cell]).records[0], run([seen_thrice]).records[0]
    assert first.arrival_sd_ns is not None and second.arrival_sd_ns is not None
    assert first.arrival_sd_ns < second.arrival_sd_ns


def test_an_unwanted_cell_is_passed_at_once() -> None:
    cell = Thing(0.1, scores=ST)
    result = run([cell])
    assert result.outcome(cell) == "passed:no_gate"
    assert result.commands == []
    (record,) = result.records
    assert record.latency_ns == 30 * MS  # the last of its three views was scored 30 ms after it was seen
    assert result.core.classes == {"LT-HSC": 0, "ST-HSC": 1, "MPP": 0}


def test_an_unsure_cell_is_abstained_on() -> None:
    cell = Thing(0.1, scores=(0.4, 0.35, 0.25))
    result = run([cell], abstain=AbstainSettings(min_score=0.5))
    assert result.outcome(cell) == "abstained:low_score"
    assert result.core.classes == {"LT-HSC": 0, "ST-HSC": 0, "MPP": 0}


def test_a_stranger_is_abstained_on_and_counted_as_one() -> None:
    """Sure enough for its score, but stranger than known cells are."""
    known = KnownStrangers(limit=0.3, wrongly=0.05, basis="the model")
    strange, sure, unsure = Thing(0.1, scores=(0.6, 0.3, 0.1)), Thing(0.4), Thing(0.7, scores=(0.4, 0.35, 0.25))
    things = [strange, sure, unsure]
    result = run(things, frames=130, abstain=AbstainSettings(min_score=0.5, known=known))
    assert [result.outcome(thing) for thing in things] == ["abstained:stranger", "sorted", "abstained:low_score"]
    assert result.core.ledger.doubts == {"low_score": 1, "stranger": 1}
    assert result.core.ledger.to_json()["cells"]["abstained"] == 2
    ignored = run([strange], abstain=AbstainSettings(min_score=0.5, strangers="ignore", known=known))
    assert ignored.outcome(strange) == "sorted"


def test_a_cell_with_fewer_scored_views_than_needed_is_abstained_on() -> None:
    cell = Thing(0.1, hidden=frozenset(range(13, 40)))
    result = run([cell], abstain=AbstainSettings(min_views=3))
    assert result.outcome(cell) == "abstained:few_views"


def test_objects_that_are_never_accepted_are_no_cells() -> None:
    result = run([Thing(0.1, reject=Reject.DEBRIS)])
    assert result.records == []
    assert result.core.ledger.to_json()["views"]["rejected"] == {"debris": 6}


def test_the_json_has_the_keys_that_other_tools_read() -> None:
    summary = run([Thing(0.1), Thing(0.4, scores=ST)]).core.ledger.to_json()
    assert {book: list(entries) for book, entries in summary.items()} == {
        "frames": ["captured", "processed", "dropped", "lost"],
        "views": ["detected", "classified", "rejected", "skipped"],
        "cells": ["tracked", "sorted", "passed", "abstained", "aborted", "unresolved"],
        "commands": ["sent", "fired", "refused", "unacknowledged"],
    }
    assert summary["cells"]["tracked"] == 2


# ---- tracks  -------------------------------------------------------------------------------------------------------


def test_a_cell_keeps_its_id_over_a_missed_frame() -> None:
    cell = Thing(0.1, hidden=frozenset({12}))
    result = run([cell])
    assert result.outcome(cell) == "sorted"
    assert result.core.ledger.cells.tracked == 1


def test_a_cell_keeps_its_id_over_lost_frames() -> None:
    cell = Thing(0.1)
    result = run([cell], missing={12: "worker_died", 13: "worker_died"})
    assert result.outcome(cell) == "sorted"
    assert result.core.ledger.cells.tracked == 1
    assert result.core.ledger.to_json()["frames"]["lost"] == {"worker_died": 2}


def test_a_cell_that_is_lost_from_view_is_closed_with_the_views_it_has() -> None:
    cell = Thing(0.1, hidden=frozenset(range(13, 40)))
    result = run([cell])
    (record,) = result.records
    assert len(record.views) == 2
    assert (record.outcome, record.reason) == (
        CellOutcome.ABORTED,
        "arrival_uncertain",
    )  # two looks are too few to time


def test_lost_frames_close_a_cell_too() -> None:
    result = run([Thing(0.1)], frames=20, missing=dict.fromkeys(range(13, 20), "gone"), answer=False)
    (record,) = result.records
    assert len(record.views) == 2


def test_past_the_decision_line_a_cell_is_closed_whatever_it_has() -> None:
    cell = Thing(0.1, hidden=frozenset({11, 12, 13, 14}))
    result = run([cell], close=CloseSettings(views=3, decision_line_um=150.0))
    (record,) = result.records
    assert len(record.views) == 1
    assert result.core.ledger.views.skipped["enough_views"] == 1


def test_cells_that_overtake_each_other_keep_their_own_scores() -> None:
    slow, fast = Thing(0.1, v=3600.0, y=20.0, scores=ST), Thing(0.115, v=4800.0, y=27.0, scores=MPP)
    result = run([slow, fast])
    assert result.core.ledger.cells.tracked == 2
    assert result.core.classes == {"LT-HSC": 0, "ST-HSC": 1, "MPP": 1}
    assert all(
        record.classification is not None and max(record.classification.scores) > 0.85 for record in result.records
    )


# ---- company at the junction  --------------------------------------------------------------------------------------


def test_purity_aborts_a_cell_that_another_overtakes_on_the_way() -> None:
    """They are 90 µm apart when filmed, and together at the junction."""
    wanted, other = Thing(0.1, v=4000.0), Thing(0.1 + 2600 / 4000 - 2600 / 4150, v=4150.0, y=50.0, scores=ST)
    result = run([wanted, other])
    assert result.outcome(wanted) == "aborted:coincidence"
    assert result.outcome(other) == "passed:no_gate"
    assert result.commands == []


def test_neighbours_in_view_that_part_on_the_way_do_not_abort() -> None:
    wanted, other = Thing(0.1, v=4300.0), Thing(0.1, v=3700.0, y=50.0, scores=ST)
    assert run([wanted, other]).outcome(wanted) == "sorted"


@pytest.mark.parametrize("reject", [Reject.DEBRIS, Reject.CLUSTER, Reject.BLURRED])
def test_purity_counts_rejected_objects_as_company(reject: Reject) -> None:
    wanted = Thing(0.1)
    assert run([wanted, Thing(0.1, y=50.0, reject=reject)]).outcome(wanted) == "aborted:coincidence"


def test_an_object_seen_once_may_be_anywhere_and_aborts_what_is_near() -> None:
    wanted, glimpse = Thing(0.1), Thing(0.13, y=60.0, reject=Reject.DEBRIS, hidden=frozenset(range(15, 40)))
    assert run([wanted, glimpse]).outcome(wanted) == "aborted:coincidence"


@pytest.mark.parametrize(
    ("mode", "outcome"), [("purity", "aborted:unseen"), ("single", "aborted:unseen"), ("recovery", "sorted")]
)
def test_a_gap_in_which_something_may_have_passed_unseen_aborts_what_would_meet_it(mode: str, outcome: str) -> None:
    """Nobody knows what went by: 80 ms without a frame, and the view takes 55."""
    wanted, far = Thing(0.1), Thing(1.6)
    result = run(
        [wanted, far],
        frames=250,
        missing=dict.fromkeys(range(19, 27), "no_result_in_time"),
        outlets=(LEFT.model_copy(update={"mode": mode}),),
    )
    assert (result.outcome(wanted), result.outcome(far)) == (outcome, "sorted")


def test_a_gap_that_every_object_outlasts_aborts_nothing() -> None:
    wanted = Thing(0.1)
    assert run([wanted], missing={19: "camera", 20: "camera"}).outcome(wanted) == "sorted"


def test_a_gap_that_is_still_open_counts_for_the_cells_that_commit_in_it() -> None:
    """The camera fell silent: what comes behind a cell, from the moment of its last picture on, is unknown."""
    wanted = Thing(0.1, v=4400.0)
    result = run([wanted], missing=dict.fromkeys(range(18, 90), "camera"))
    assert result.outcome(wanted) == "aborted:unseen" and result.commands == []


@pytest.mark.parametrize(
    ("mode", "outcome"), [("purity", "aborted:coincidence"), ("single", "aborted:coincidence"), ("recovery", "sorted")]
)
def test_modes_with_unwanted_company(mode: str, outcome: str) -> None:
    wanted, other = Thing(0.1), Thing(0.1005, y=50.0, scores=ST)
    result = run([wanted, other], outlets=(LEFT.model_copy(update={"mode": mode}),))
    assert result.outcome(wanted) == outcome


@pytest.mark.parametrize(
    ("mode", "outcomes"), [("purity", {"sorted", "aborted:refractory"}), ("single", {"aborted:coincidence"})]
)
def test_modes_with_two_cells_for_one_outlet(mode: str, outcomes: set[str]) -> None:
    """In purity the second is not aborted for its company: it is only the actuator that cannot serve it."""
    one, other = Thing(0.1), Thing(0.1005, y=50.0)
    result = run([one, other], outlets=(LEFT.model_copy(update={"mode": mode}),))
    assert {result.outcome(one), result.outcome(other)} == outcomes


def test_purity_aborts_two_wanted_cells_for_different_outlets() -> None:
    one, other = Thing(0.1), Thing(0.1005, y=50.0, scores=MPP)
    result = run([one, other], outlets=(LEFT, RIGHT))
    assert {result.outcome(one), result.outcome(other)} == {"aborted:coincidence"}


def test_purity_waits_for_the_verdict_on_a_neighbour() -> None:
    """The neighbour's scores come after the commit, before the deadline: same verdict as if they had been early."""
    one, other = Thing(0.1), Thing(0.1005, y=50.0)
    made = world([one, other])
    made.score_after_s = 10.0
    made.film(0, 66)  # arrival at 0.75 s, commit at 0.63 s
    keys = {thing.y: [key for key, whose in made.whose.items() if whose is thing][:3] for thing in (one, other)}
    row = np.array([LT], dtype=np.float32)
    for key in keys[30.0]:
        made.feed(Scored((key,), row), 660 * MS)
    assert made.commands == []
    for key in keys[50.0]:
        made.feed(Scored((key,), row), 670 * MS)
    assert len(made.commands) == 1


def test_a_neighbour_without_a_verdict_in_time_aborts() -> None:
    one, other = Thing(0.1), Thing(0.1005, y=50.0)
    made = world([one, other])
    made.score_after_s = 10.0
    made.film(0, 66)
    mine = tuple(key for key, whose in made.whose.items() if whose is one)[:3]
    made.feed(Scored(mine, np.array([LT] * 3, dtype=np.float32)), 660 * MS)
    wake = made.core.next_wake_ns()
    assert wake is not None and wake < 730 * MS
    made.feed(Tick(), wake + MS)
    assert made.outcome(one) == "aborted:coincidence"
    assert made.outcome(other) == "aborted:late"


@pytest.mark.parametrize(("mode", "outcome"), [("purity", "aborted:crowded"), ("recovery", "sorted")])
def test_a_frame_with_more_objects_than_were_measured(mode: str, outcome: str) -> None:
    wanted = Thing(0.1)
    result = run([wanted], over_cap={13: 40}, outlets=(LEFT.model_copy(update={"mode": mode}),))
    assert result.outcome(wanted) == outcome
    assert result.core.ledger.views.skipped["over_cap"] == 40


def test_objects_beyond_max_tracks_are_counted_and_crowd() -> None:
    things = [Thing(0.1, y=10.0 * number) for number in range(1, 6)]
    result = run(things, max_tracks=3)
    assert result.core.ledger.cells.tracked == 3
    assert result.core.ledger.views.skipped["over_cap"] == 2 * 6
    assert {record.reason for record in result.records} == {"crowded"}


# ---- uncertainty, refractory, limits  ------------------------------------------------------------------------------


def test_a_single_look_takes_the_prior_and_is_too_uncertain_to_sort() -> None:
    glimpse = Thing(0.1, hidden=frozenset(range(12, 40)))
    result = run([glimpse])
    (record,) = result.records
    assert result.outcome(glimpse) == "aborted:arrival_uncertain"
    assert record.velocity_um_s is None
    assert record.arrival_sd_ns is not None and record.arrival_sd_ns > 100 * MS


def test_a_single_look_is_sorted_where_the_prior_is_narrow_enough() -> None:
    glimpse = Thing(0.1, hidden=frozenset(range(12, 40)))
    result = run([glimpse], track=TrackSettings(velocity_sd_um_s=30.0))
    assert result.outcome(glimpse) == "sorted"


def test_the_actuator_is_given_its_refractory_time() -> None:
    first, second = Thing(0.1), Thing(0.115, y=50.0)
    near = TimingSettings(refractory_ms=5.0, transit_sd_fraction=0.0, k_sigma=2.0)
    assert run([first, second], timing=near).outcome(second) == "sorted"
    far = TimingSettings(refractory_ms=15.0, transit_sd_fraction=0.0, k_sigma=2.0)
    result = run([first, second], timing=far)
    assert (result.outcome(first), result.outcome(second)) == ("sorted", "aborted:refractory")


def test_limits_of_an_outlet_and_of_the_run() -> None:
    cells = [Thing(0.1 + 0.1 * number, scores=LT if number % 2 else MPP) for number in range(6)]
    limited = LEFT.model_copy(update={"limit": 2})
    result = run(cells, frames=200, outlets=(limited, RIGHT))
    assert [result.outcome(cell) for cell in cells[1::2]] == ["sorted", "sorted", "aborted:limit"]
    assert [result.outcome(cell) for cell in cells[0::2]] == ["sorted"] * 3
    result = run(cells, frames=200, outlets=(LEFT, RIGHT), total_limit=4)
    assert [result.outcome(cell) for cell in cells] == ["sorted"] * 4 + ["aborted:limit"] * 2


def test_the_last_place_goes_to_the_cell_that_commits_first_however_late_its_scores() -> None:
    first, second = Thing(0.1, delay_s=0.57), Thing(0.16)
    result = run([first, second], outlets=(LEFT.model_copy(update={"limit": 1}),))
    assert (result.outcome(first), result.outcome(second)) == ("sorted", "aborted:limit")


def test_at_the_end_of_the_run_the_first_to_arrive_commits_first() -> None:
    slow, fast = Thing(0.1, v=3400.0), Thing(0.12, v=4400.0, y=50.0)
    result = run([slow, fast], frames=30, outlets=(LEFT.model_copy(update={"limit": 1}),))
    assert (result.outcome(slow), result.outcome(fast)) == ("aborted:limit", "sorted")


def test_a_frame_captured_after_the_deadline_makes_a_cell_late_whatever_the_caller_calls_now() -> None:
    cell = Thing(0.1)
    made = world([cell], answer=False)
    made.film(0, 40)
    made.feed(FrameSeen(40, 2000 * MS, ()), 400 * MS)
    assert made.outcome(cell) == "aborted:late"


def test_a_calibrated_delay_replaces_the_geometry() -> None:
    cell = Thing(0.1, v=4400.0)
    timing = TimingSettings(sort_delay_ms=500.0, sort_delay_velocity_um_s=4000.0)
    (command,) = run([cell], timing=timing).commands
    expected = 0.1 + 220.0 / 4400.0 + 0.5 * 4000.0 / 4400.0
    assert command.fire_at_ns == pytest.approx(expected * 1e9, abs=1e6)


# ---- scores  -------------------------------------------------------------------------------------------------------


def test_views_with_nan_scores_are_booked_and_the_others_decide() -> None:
    cell = Thing(0.1)
    made = world([cell], score_after_s=10.0)
    made.film(0, 40)
    keys = sorted(made.whose)[:3]
    made.feed(Scored(tuple(keys), np.array([LT, NAN, LT], dtype=np.float32)), 400 * MS)
    made.film(40, 100)
    assert made.outcome(cell) == "sorted"
    assert made.core.ledger.views.skipped["nan"] == 1
    assert made.core.ledger.views.classified == 2


def test_a_cell_with_nothing_but_nan_is_waste() -> None:
    cell = Thing(0.1, scores=NAN)
    result = run([cell])
    assert result.outcome(cell) == "aborted:nan_scores"
    assert result.core.ledger.views.skipped["nan"] == 3


def test_scores_of_the_wrong_shape_are_no_evidence() -> None:
    cell = Thing(0.1, scores=(0.5, 0.5))
    result = run([cell])
    assert result.outcome(cell) == "aborted:nan_scores"
    assert "bad_scores" in result.alarms


def test_late_scores_abort_and_no_command_follows() -> None:
    cell = Thing(0.1)
    result = run([cell], score_after_s=0.65)
    assert result.outcome(cell) == "aborted:late"
    assert result.commands == []
    assert result.core.ledger.views.classified == 3  # booked all the same
    assert result.core.ledger.met_fraction == 0.0


def test_scores_after_the_commit_but_before_the_deadline_are_in_time() -> None:
    cell = Thing(0.1)
    result = run([cell], score_after_s=0.53)  # last view at 0.13 s, arrival at 0.75 s
    (command,) = result.commands
    assert command.sent_ns == 660 * MS
    assert result.outcome(cell) == "sorted"


def test_views_that_were_not_inferred_are_waste() -> None:
    cell = Thing(0.1)
    made = world([cell], answer=False)
    made.film(0, 40)
    made.feed(Skipped(tuple(sorted(made.whose)[:3])), 400 * MS)
    assert made.outcome(cell) == "aborted:late"
    assert made.core.ledger.views.skipped["late"] == 3


def test_a_second_score_for_a_view_is_ignored_and_said() -> None:
    cell = Thing(0.1)
    made = world([cell])
    made.film(0, 30)
    made.feed(Scored(((11, 0),), np.array([MPP], dtype=np.float32)), 300 * MS)
    assert "unexpected_score" in made.alarms
    made.film(30, 100)
    assert made.outcome(cell) == "sorted"


def test_when_frames_stop_coming_a_wanted_cell_is_aborted_by_the_clock() -> None:
    cell = Thing(0.1)
    made = world([cell])
    made.film(0, 40)
    wake = made.core.next_wake_ns()
    assert wake is not None and wake < cell.arrival_ns() - 20 * MS
    made.feed(Tick(), wake - 1)
    assert made.records == []
    made.feed(Tick(), wake)
    assert made.outcome(cell) == "aborted:late"


def test_a_recording_without_its_empty_frames_commits_by_ticks_that_carry_capture_time() -> None:
    cell = Thing(0.1)
    made = world([cell])
    made.film(0, 25)
    commit = made.core.next_commit_ns()
    assert commit is not None
    made.feed(Tick(captured_ns=commit), commit)
    assert made.outcome(cell) == "sorted"
    assert made.core.next_commit_ns() is None


def test_top_percent_ranks_cells_in_the_order_of_closing_however_scores_arrive() -> None:
    gate = Outlet(name="best", gate=TopPercentGate(kind="top_percent", feature="score:LT-HSC", percent=20, window=10))
    cells = [Thing(0.1 + 0.05 * number, scores=(0.5 + 0.004 * ((number * 7) % 40), 0.3, 0.1)) for number in range(40)]
    early = run(cells, frames=300, outlets=(gate,))
    mixed = [replace(cell, delay_s=0.4 if number % 3 else 0.0) for number, cell in enumerate(cells)]
    late = run(mixed, frames=300, outlets=(gate,))
    outcomes = [early.outcome(cell) for cell in cells]
    assert outcomes == [late.outcome(cell) for cell in mixed]
    assert outcomes[:9] == ["passed:no_gate"] * 9  # none before the window is full
    assert 4 <= outcomes.count("sorted") <= 12


# ---- arming and alarms  --------------------------------------------------------------------------------------------


def test_disarmed_from_the_start_everything_is_decided_and_nothing_commanded() -> None:
    cell = Thing(0.1)
    result = run([cell], armed=False)
    assert result.outcome(cell) == "aborted:disarmed"
    (gated,) = result.all(Gated)
    assert isinstance(gated, Gated) and gated.decision.outlet == "left"


def test_disarmed_midway_the_rest_is_aborted_until_a_person_arms_again() -> None:
    cells = [Thing(0.1), Thing(0.4), Thing(1.0)]
    made = world(cells)
    made.film(0, 70)
    made.feed(Disarm("operator"), 700 * MS)
    assert not made.core.armed
    made.film(70, 120)
    made.feed(Arm("operator"), 1200 * MS)
    made.film(120, 220)
    assert [made.outcome(cell) for cell in cells] == ["sorted", "aborted:disarmed", "sorted"]
    assert [action.reason for action in made.actions if isinstance(action, Disarmed)] == ["operator"]


def test_a_drifting_velocity_disarms() -> None:
    cells = [Thing(0.1 + 0.1 * number, v=4000.0 * (1 + 0.02 * number)) for number in range(20)]
    result = run(cells, frames=300, alarms=AlarmSettings(velocity_window=5, velocity_drift=0.15))
    (disarmed,) = result.all(Disarmed)
    assert isinstance(disarmed, Disarmed) and "velocity" in disarmed.reason
    assert not result.core.armed
    assert result.outcome(cells[0]) == "sorted"
    assert result.outcome(cells[-1]) == "aborted:disarmed"


def test_a_clog_disarms_and_its_objects_stay_one_cell_each() -> None:
    made = world([Thing(0.1), Thing(0.11, y=60.0)])
    made.film(0, 15)
    stuck = made.frame(14).detections
    for index in range(15, 60):
        made.feed(FrameSeen(index, index * 10 * MS, stuck), index * 10 * MS)
    assert "clog" in made.alarms
    assert not made.core.armed
    assert made.core.ledger.cells.tracked == 2


def test_nobody_can_arm_while_an_alarm_stands() -> None:
    made = world([Thing(0.1)])
    made.film(0, 15)
    stuck = made.frame(14).detections
    for index in range(15, 60):
        made.feed(FrameSeen(index, index * 10 * MS, stuck), index * 10 * MS)
    (refused,) = made.feed(Arm("hasty"), 600 * MS)
    assert isinstance(refused, ArmingRefused) and "stood still" in refused.reason
    assert not made.core.armed and list(made.core.alarms) == ["clog"]
    made.feed(FrameSeen(60, 600 * MS, stuck), 600 * MS)
    assert made.alarms.count("clog") == 1, "it is reported once"
    for index in range(61, 70):
        made.feed(FrameSeen(index, index * 10 * MS, ()), index * 10 * MS)
    made.feed(Arm("patient"), 700 * MS)
    assert made.core.armed and made.core.alarms == {}


def test_lost_focus_disarms() -> None:
    things = [Thing(0.1 + 0.1 * number, reject=Reject.BLURRED if number > 5 else 0) for number in range(20)]
    result = run(things, frames=260, alarms=AlarmSettings(window=8))
    (disarmed,) = result.all(Disarmed)
    assert isinstance(disarmed, Disarmed) and "focus" in disarmed.reason


# ---- gates edited in mid-run  --------------------------------------------------------------------------------------


def test_new_gates_judge_the_cells_that_close_from_the_next_frame_on() -> None:
    before, under_way, after = Thing(0.1), Thing(0.36, delay_s=0.2), Thing(0.6)
    made = world([before, under_way, after])
    made.film(0, 41)  # `under_way` has its three views by frame 40, but no score yet
    (edited,) = made.feed(EditGates((RIGHT,), "operator"), 400 * MS)
    assert edited == GatesSet(1, 41, "operator") and made.core.gate_revision == 1
    made.film(41, 160)
    made.end(1.6)
    assert [made.outcome(cell) for cell in (before, under_way, after)] == ["sorted", "sorted", "passed:no_gate"]
    revisions = {one.decision.cell: one.decision.gate_revision for one in made.all(Gated) if isinstance(one, Gated)}
    assert revisions == {0: 0, 1: 0, 2: 1} == {record.cell: record.gate_revision for record in made.records}


def edited_often(delay_s: float) -> list[tuple[str | None, int]]:
    """Outlet and gate revision of 20 cells whose gates change every 200 ms, scored after `delay_s`."""
    cells = [Thing(0.1 + 0.05 * number, scores=LT if number % 2 else MPP) for number in range(20)]
    made = world(cells, score_after_s=delay_s)
    for number in range(6):
        made.film(20 * number, 20 * number + 20)
        made.feed(EditGates((RIGHT,) if number % 2 else (LEFT,), "operator"), 20 * (number + 1) * 10 * MS)
    made.film(120, 220)
    made.end(2.2)
    return [(record.outlet, record.gate_revision) for record in sorted(made.records, key=lambda one: one.cell)]


def test_which_gates_judge_a_cell_does_not_depend_on_when_its_scores_come() -> None:
    at_once = edited_often(0.0)
    assert len(at_once) == 20 and {revision for _, revision in at_once} >= {0, 1, 2, 3, 4}
    assert at_once == edited_often(0.03) == edited_often(0.25)


def test_editing_one_gate_keeps_the_window_of_another() -> None:
    best = Outlet(name="best", gate=TopPercentGate(kind="top_percent", feature="score:LT-HSC", percent=50, window=10))
    cells = [Thing(0.1 + 0.05 * number, scores=(0.5 + 0.004 * number, 0.3, 0.1)) for number in range(24)]
    made = world(cells, outlets=(best,))
    made.film(0, 75)
    made.feed(EditGates((best, RIGHT), "operator"), 750 * MS)
    made.film(75, 260)
    made.end(2.6)
    outlets = [record.outlet for record in sorted(made.records, key=lambda record: record.cell)]
    assert outlets == [None] * 9 + ["best"] * 15, "scores rise, so every cell is the best of a full window"


def test_gates_that_do_not_fit_leave_the_old_ones_in_force() -> None:
    cell = Thing(0.1)
    made = world([cell])
    made.film(0, 5)
    strange = Outlet(name="left", gate=ScoreGate(class_name="B-cell"))
    with pytest.raises(SettingsError, match=r"'B-cell'.*LT-HSC, ST-HSC, MPP"):
        made.feed(EditGates((strange,), "operator"), 50 * MS)
    assert made.core.gate_revision == 0
    made.film(5, 100)
    assert made.outcome(cell) == "sorted"
    made.feed(Ended(), 1000 * MS)
    with pytest.raises(SettingsError, match="ended"):
        made.feed(EditGates((RIGHT,), "operator"), 1000 * MS)


def test_a_refused_edit_does_not_swallow_what_was_due() -> None:
    cell = Thing(0.1)
    made = world([cell])
    made.film(0, 40)
    wake = made.core.next_wake_ns()
    assert wake is not None
    with pytest.raises(SettingsError):
        made.feed(EditGates((Outlet(name="left", gate=ScoreGate(class_name="B-cell")),), "operator"), wake)
    made.feed(Tick(), wake)
    assert made.outcome(cell) == "aborted:late"


# ---- doubtful objects  ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["purity", "recovery", "single"])
@pytest.mark.parametrize(("clusters", "outcome"), [(5, "aborted:doubtful"), (1, "sorted")])
def test_an_object_that_most_looks_take_for_a_cluster_is_not_sorted(mode: str, clusters: int, outcome: str) -> None:
    made = world([Thing(0.1)], outlets=(LEFT.model_copy(update={"mode": mode}),))
    looks = 0
    for index in range(100):
        frame = made.frame(index)
        if frame.detections:
            looks += 1
            if looks > 6 - clusters:  # the first looks are good, the later ones show what it is
                cluster = tuple(one._replace(reject=int(Reject.CLUSTER)) for one in frame.detections)
                frame = replace(frame, detections=cluster)
        made.feed(frame, frame.captured_ns)
        made.deliver(frame.captured_ns)
    assert looks == 6
    (record,) = made.records
    assert f"{record.outcome}:{record.reason}".rstrip(":") == outcome


def test_a_doubtful_neighbour_is_not_taken_along() -> None:
    """Bound for the same outlet, and yet no cell: in purity mode its company spoils the sort."""
    first, second = Thing(0.1), Thing(0.1003, y=60.0)
    made = world([first, second])
    looks = 0
    for index in range(100):
        frame = made.frame(index)
        looks += bool(frame.detections)
        if looks > 3:
            strange = (one._replace(reject=int(Reject.CLUSTER)) if one.y_um > 50 else one for one in frame.detections)
            frame = replace(frame, detections=tuple(strange))
        made.feed(frame, frame.captured_ns)
        made.deliver(frame.captured_ns)
    assert (made.outcome(first), made.outcome(second)) == ("aborted:coincidence", "aborted:doubtful")
    assert made.commands == []


# ---- frames  -------------------------------------------------------------------------------------------------------


def test_a_frame_that_comes_twice_is_ignored_and_said() -> None:
    cell = Thing(0.1)
    made = world([cell])
    made.film(0, 13)
    made.feed(made.frame(12), 130 * MS)
    made.feed(FrameMissing(12, 120 * MS, "late", dropped=False), 130 * MS)
    made.film(13, 100)
    assert made.alarms.count("duplicate_frame") == 2
    assert made.outcome(cell) == "sorted"
    assert made.core.ledger.frames.captured == 100


def test_frames_whose_time_runs_backwards_are_booked_not_tracked_and_disarm() -> None:
    """A clock that went back makes every later command early."""
    cell = Thing(0.1)
    made = world([cell])
    made.film(0, 13)
    backwards = made.frame(13)
    made.feed(FrameSeen(13, 110 * MS, backwards.detections), 130 * MS)
    made.film(14, 100)
    assert made.alarms.count("time_backwards") == 1
    assert made.core.ledger.views.skipped["time_backwards"] == 1
    assert made.core.ledger.frames.processed == 100
    (disarmed,) = made.all(Disarmed)
    assert isinstance(disarmed, Disarmed) and "camera's times cannot be trusted" in disarmed.reason
    assert made.outcome(cell) == "aborted:disarmed" and made.all(Command) == []


def test_dropped_and_lost_frames_are_booked_by_reason() -> None:
    made = world([])
    made.feed(FrameMissing(0, 0, "ring_full", dropped=True), 0)
    made.feed(FrameMissing(2, None, "deadline", dropped=False), 0)
    made.feed(FrameMissing(1, None, "ring_full", dropped=True), 0)
    made.film(3, 5)
    assert made.core.ledger.to_json()["frames"] == {
        "captured": 5,
        "processed": 2,
        "dropped": {"ring_full": 2},
        "lost": {"deadline": 1},
    }


def test_frame_alarms_reach_a_person() -> None:
    made = world([])
    made.feed(FrameSeen(0, 0, (), 0, ("black",)), 0)
    assert made.alarms == ["black"]


def test_objects_without_a_place_are_booked_not_followed() -> None:
    made = world([])
    nan = float("nan")
    made.feed(FrameSeen(0, 0, (detection(20.0, 30.0), detection(20.0, 30.0)._replace(x_um=nan))), 0)
    assert made.core.ledger.views.skipped["not_finite"] == 1
    assert made.core.ledger.cells.tracked == 1


# ---- receipts and the end  -----------------------------------------------------------------------------------------


def test_a_command_that_reached_the_sorter_twice_is_booked_by_what_became_of_the_first() -> None:
    made = world([Thing(0.1)])
    made.film(0, 120)
    (command,) = made.commands
    twice = Receipt(command.command, ReceiptKind.REFUSED, command.sent_ns, "duplicate")
    fired = Receipt(command.command, ReceiptKind.FIRED, command.fire_at_ns)
    made.feed(Received((twice,)), command.sent_ns)
    made.feed(Received((fired, twice, fired)), command.fire_at_ns)
    assert (made.core.ledger.commands.fired, made.core.ledger.commands.refused) == (1, 0)
    assert made.alarms.count("unexpected_receipt") == 3


def test_receipts_are_booked_once() -> None:
    cells = [Thing(0.1 + 0.1 * number) for number in range(3)]
    made = world(cells)
    made.film(0, 120)
    first, second, _ = [command.command for command in made.commands]
    fired, refused = Receipt(first, ReceiptKind.FIRED, 1), Receipt(second, ReceiptKind.REFUSED, 1, "too_late")
    made.feed(Received((fired, refused, fired, Receipt(99, ReceiptKind.FIRED, 1))), 1200 * MS)
    made.end(1.2)
    assert made.core.ledger.to_json()["commands"] == {"sent": 3, "fired": 1, "refused": 1, "unacknowledged": 1}
    assert made.alarms.count("unexpected_receipt") == 2


def test_the_tail_of_a_run_is_decided() -> None:
    """Frames end while three cells are on their way: all frames are known, so they are commanded at once."""
    cells = [Thing(0.1 + 0.1 * number) for number in range(3)]
    made = world(cells)
    made.film(0, 45)
    assert made.commands == []
    made.feed(Ended(), 450 * MS)
    assert [made.outcome(cell) for cell in cells] == ["sorted"] * 3
    made.feed(Finished(), 460 * MS)
    assert made.core.ledger.open == 0


def test_scores_after_the_end_still_decide_and_what_never_comes_is_unresolved() -> None:
    scored, forgotten = Thing(0.1), Thing(0.2)
    made = world([scored, forgotten], answer=False)
    made.film(0, 45)
    made.feed(Ended(), 450 * MS)
    mine = tuple(sorted(key for key, whose in made.whose.items() if whose is scored))[:3]
    made.feed(Scored(mine, np.array([LT] * 3, dtype=np.float32)), 460 * MS)
    made.feed(Finished(), 470 * MS)
    assert made.outcome(scored) == "sorted"
    assert made.outcome(forgotten) == "unresolved:run_ended"
    assert made.core.ledger.views.skipped["run_ended"] == 3
    assert made.core.ledger.commands.unacknowledged == 1


def test_a_run_of_nothing_is_a_normal_run() -> None:
    result = run([], frames=0)
    assert result.actions == []
    assert result.core.next_wake_ns() is None and result.core.next_commit_ns() is None


def test_after_the_end_nothing_is_taken_in() -> None:
    made = run([], frames=3)
    made.feed(FrameSeen(3, 30 * MS, (detection(20.0, 20.0),)), 30 * MS)
    assert made.alarms == ["after_finish"]
    assert made.core.ledger.frames.captured == 3


def test_a_gate_for_a_class_that_the_model_lacks_is_refused_naming_both() -> None:
    with pytest.raises(SettingsError, match=r"'HSC-X'.*LT-HSC, ST-HSC, MPP"):
        SortCore(SortSettings(outlets=(Outlet(name="a", gate=ScoreGate(class_name="HSC-X")),)), CLASSES)
