"""Company at the junction, the sort modes, the actuator's pulses, and the table of a cell's life."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_live.core.values import Detection
from hspc_live.settings.sort import SortMode, TrackSettings
from hspc_live.stages.cell import OUTCOMES, TRANSITIONS, Cell, IllegalStepError, State, Step
from hspc_live.stages.decide import Clash, clash
from hspc_live.stages.junction import Crossings, Pulses, overlaps
from hspc_live.stages.timing import Pulse
from hspc_live.stages.track import Track

MS = 1_000_000


def track(number: int) -> Track:
    look = Detection(20.0, 30.0, 50.0, 8.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 1, 1, 0)
    return Track(number, 0, 0, look, TrackSettings())


def cell(state: State, outlet: str | None = None) -> Cell:
    return Cell(0, 0, 0, state=state, outlet=outlet)


@pytest.mark.parametrize(
    ("company", "purity", "single"),
    [
        ([], Clash.CLEAR, Clash.CLEAR),
        ([None], Clash.ABORT, Clash.ABORT),
        ([cell(State.WANTED, "left")], Clash.CLEAR, Clash.ABORT),
        ([cell(State.SORTED, "left")], Clash.CLEAR, Clash.ABORT),
        ([cell(State.WANTED, "right")], Clash.ABORT, Clash.ABORT),
        ([cell(State.PASSED)], Clash.ABORT, Clash.ABORT),
        ([cell(State.ABSTAINED)], Clash.ABORT, Clash.ABORT),
        ([cell(State.ABORTED)], Clash.ABORT, Clash.ABORT),
        ([cell(State.SCORING)], Clash.WAIT, Clash.ABORT),
        ([cell(State.OPEN), cell(State.WANTED, "left")], Clash.WAIT, Clash.ABORT),
        ([cell(State.SCORING), None], Clash.ABORT, Clash.ABORT),
    ],
)
def test_what_company_means_in_each_mode(company: list[Cell | None], purity: Clash, single: Clash) -> None:
    modes: dict[SortMode, Clash] = {"purity": purity, "single": single, "recovery": Clash.CLEAR}
    assert {mode: clash(mode, "left", company) for mode in modes} == modes


spans = st.tuples(st.integers(0, 2000), st.integers(0, 300)).map(lambda s: Pulse(s[0] * MS, (s[0] + s[1]) * MS))


@given(st.lists(spans, max_size=30), spans)
def test_crossings_find_exactly_what_overlaps(windows: list[Pulse], pulse: Pulse) -> None:
    crossings = Crossings()
    for number, window in enumerate(windows):
        crossings.add(track(number), window)
    found = [one.number for one in crossings.during(pulse)]
    assert found == [number for number, window in enumerate(windows) if overlaps(window, pulse)]


@given(st.lists(spans, max_size=30), st.integers(0, 2500), spans)
def test_forgetting_the_past_changes_nothing_ahead(windows: list[Pulse], before_ms: int, pulse: Pulse) -> None:
    crossings, short = Crossings(), Crossings()
    for number, window in enumerate(windows):
        crossings.add(track(number), window)
        short.add(track(number), window)
    short.forget(before_ms * MS)
    if pulse.start_ns >= before_ms * MS:
        assert [one.number for one in short.during(pulse)] == [one.number for one in crossings.during(pulse)]


def test_an_object_of_unknown_arrival_is_found_everywhere_in_its_long_window() -> None:
    crossings = Crossings()
    crossings.add(track(1), Pulse(0, 60_000 * MS))
    assert len(crossings.during(Pulse(30_000 * MS, 30_001 * MS))) == 1
    crossings.forget(59_000 * MS)
    assert len(crossings) == 1
    crossings.forget(61_000 * MS)
    assert len(crossings) == 0


def test_memory_of_the_junction_does_not_grow_with_the_run() -> None:
    crossings, dice = Crossings(), random.Random(1)
    for now in range(0, 20_000, 10):
        start = now + dice.randint(500, 700)
        crossings.add(track(now), Pulse(start * MS, (start + dice.randint(1, 30)) * MS))
        crossings.forget((now - 100) * MS)
    assert len(crossings) < 300


def test_pulses_keep_the_refractory_time() -> None:
    pulses = Pulses(5 * MS)
    pulses.add(Pulse(100 * MS, 110 * MS))
    assert pulses.conflict(Pulse(105 * MS, 120 * MS))
    assert pulses.conflict(Pulse(114 * MS, 120 * MS))
    assert not pulses.conflict(Pulse(115 * MS, 120 * MS))
    assert pulses.conflict(Pulse(90 * MS, 96 * MS))  # an earlier pulse decided later
    assert not pulses.conflict(Pulse(80 * MS, 95 * MS))
    pulses.forget(116 * MS)
    assert not pulses.conflict(Pulse(105 * MS, 120 * MS))


def test_the_table_ends_only_in_outcomes_and_every_outcome_is_an_end() -> None:
    assert {state for state, steps in TRANSITIONS.items() if not steps} == set(OUTCOMES)
    assert set(TRANSITIONS) == set(State)
    reached = {after for steps in TRANSITIONS.values() for after in steps.values()}
    assert reached == set(State) - {State.OPEN}


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("step", list(Step))
def test_a_step_outside_the_table_is_refused(state: State, step: Step) -> None:
    one = cell(state)
    after = TRANSITIONS[state].get(step)
    if after is None:
        with pytest.raises(IllegalStepError, match=state.value):
            one.go(step)
        assert one.state is state
    else:
        one.go(step)
        assert one.state is after and one.ended == (after in OUTCOMES)


def test_only_a_wanted_cell_can_be_commanded() -> None:
    assert [state for state, steps in TRANSITIONS.items() if Step.COMMAND in steps] == [State.WANTED]
