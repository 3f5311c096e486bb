import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_live.settings.chamber_twin import TwinStageSettings
from hspc_live.twin.stage import Place, StageModel, StageState

S = 1_000_000_000
IDEAL = TwinStageSettings(backlash_um=0, slip_chance=0, drift_um_per_min=0, ringing_um=0)
PLACE = st.tuples(st.floats(-5000, 5000), st.floats(-5000, 5000))


def run(model: StageModel, places: list[Place], pause_ns: int = S) -> list[StageState]:
    """The moves to `places`, one after the other, each begun `pause_ns` after the arrival of the one before."""
    states = [model.at_rest()]
    for place in places:
        states.append(model.command(states[-1], *place, model.arrives_ns(states[-1]) + pause_ns))
    return states


def error(model: StageModel, state: StageState, at_ns: int) -> np.ndarray:
    return np.array(model.true(state, at_ns)) - np.array(model.reported(state, at_ns))


@given(st.lists(PLACE, min_size=1, max_size=6))
def test_the_encoder_arrives_and_the_table_is_as_wrong_as_its_faults(places: list[Place]) -> None:
    settings = TwinStageSettings(slip_chance=0.5)
    model = StageModel(settings, seed=3, epoch_ns=0)
    for state in run(model, places)[1:]:
        at_ns = model.arrives_ns(state) + S  # it has swung out
        assert model.reported(state, at_ns) == pytest.approx(state.to_um, abs=0.026)
        slips = np.array(state.slipped_um) + state.slip_um
        drift = 0.15 * at_ns / S / 60 * np.array([math.cos(math.radians(30)), math.sin(math.radians(30))])
        left = error(model, state, at_ns) - slips - drift
        assert (np.abs(left) <= settings.backlash_um / 2 + 0.03).all()


def test_backlash_depends_on_the_side_it_comes_from() -> None:
    model = StageModel(IDEAL.model_copy(update={"backlash_um": 3.0}), seed=1, epoch_ns=0)
    states = run(model, [(-500, 0), (100, 0), (500, 0), (100, 0), (-500, 0), (100, 0), (101, 0), (100, 0)])
    true = [model.true(state, model.arrives_ns(state) + S)[0] for state in states]
    assert true[2] == pytest.approx(100 - 1.5)
    assert true[4] == pytest.approx(100 + 1.5)
    assert true[6] == true[2]  # the same side, the same place
    assert true[8] == true[7]  # within the play nothing moves


def test_a_stage_without_faults_goes_straight_and_never_too_fast() -> None:
    model = StageModel(IDEAL, seed=1, epoch_ns=5 * S)
    move = run(model, [(3000.0, -4000.0)])[1]
    times = np.linspace(move.begun_ns, model.arrives_ns(move), 400).round().astype(int)
    places = np.array([model.true(move, int(t)) for t in times])
    np.testing.assert_allclose(places[:, 1], -4 / 3 * places[:, 0], atol=1e-6)
    speed = np.linalg.norm(np.diff(places, axis=0), axis=1) / np.diff(times) * S
    assert speed.max() == pytest.approx(IDEAL.speed_um_s, rel=1e-3)
    assert (np.abs(np.diff(speed)) / np.diff(times)[1:] * S).max() < 1.01 * IDEAL.acceleration_um_s2
    # way / speed, and speed / acceleration once for speeding up and slowing down
    assert (model.arrives_ns(move) - move.begun_ns) / S == pytest.approx(5000 / 8000 + 8000 / 80_000)
    short = run(model, [(20.0, 0.0)])[1]
    assert (model.arrives_ns(short) - short.begun_ns) / S == pytest.approx(2 * math.sqrt(20 / 80_000))


def test_slips_come_with_moves_and_stay() -> None:
    model = StageModel(IDEAL.model_copy(update={"slip_chance": 0.2, "slip_um": 4.0}), seed=5, epoch_ns=0)
    states = run(model, [(100.0 * (k % 2), 0.0) for k in range(1, 201)])
    errors = np.array([error(model, state, model.arrives_ns(state) + S) for state in states])
    steps = np.diff(errors, axis=0)
    slipped = np.abs(steps).max(axis=1) > 1e-9
    assert slipped.mean() == pytest.approx(0.2, abs=0.08)
    assert steps[slipped].std() == pytest.approx(4.0, rel=0.25)
    assert error(model, states[-1], 10**13) == pytest.approx(errors[-1])  # standing still slips nothing


def test_drift_is_slow_and_goes_its_way() -> None:
    model = StageModel(IDEAL.model_copy(update={"drift_um_per_min": 0.5, "drift_deg": 90.0}), seed=1, epoch_ns=7 * S)
    state = model.at_rest()
    assert model.true(state, 7 * S) == pytest.approx((0, 0))
    assert model.true(state, 7 * S + 120 * S) == pytest.approx((0, 1.0))
    assert model.reported(state, 7 * S + 120 * S) == (0, 0)


def test_the_table_swings_after_arrival_and_comes_to_rest() -> None:
    model = StageModel(IDEAL.model_copy(update={"ringing_um": 2.0}), seed=1, epoch_ns=0)

    def swing(way_um: float, from_ms: int, to_ms: int) -> float:
        move = run(model, [(way_um, 0.0)])[1]
        at = model.arrives_ns(move)
        return max(abs(model.true(move, at + ms * 1_000_000)[0] - way_um) for ms in range(from_ms, to_ms))

    assert 1.0 < swing(3000, 0, 20) < 2.0
    assert 0.05 < swing(3000, 60, 80) < 0.3
    assert swing(3000, 250, 300) < 1e-3
    assert swing(50, 0, 20) < 0.5 * swing(3000, 0, 20)  # a slow arrival swings less


@given(PLACE, PLACE, st.floats(0, 1.5))
def test_a_new_target_or_a_halt_on_the_way_takes_it_from_where_it_is(first: Place, second: Place, after: float) -> None:
    settings = TwinStageSettings(ringing_um=0, slip_chance=1.0)
    model = StageModel(settings, seed=2, epoch_ns=0)
    move = model.command(model.at_rest(), *first, 0)
    at_ns = round(after * model.arrives_ns(move))
    again = model.command(move, *second, at_ns)
    assert model.true(again, at_ns) == pytest.approx(model.true(move, at_ns), abs=1e-6)
    halted = model.halt(move, at_ns)
    assert model.true(halted, at_ns) == pytest.approx(model.true(move, at_ns), abs=1e-6)
    assert model.reported(halted, at_ns + 10 * S) == model.reported(move, at_ns)


@pytest.mark.parametrize("place", [(float("nan"), 0.0), (0.0, float("inf")), (6000.1, 0.0), (0.0, -7000.0)])
def test_what_is_no_place_is_refused_by_name(place: Place) -> None:
    model = StageModel(TwinStageSettings(), seed=1, epoch_ns=0)
    why = model.refusal(*place)
    assert why is not None and why.startswith("x_um" if place[1] == 0.0 else "y_um")
    with pytest.raises(ValueError, match=r"_um"):
        model.command(model.at_rest(), *place, 0)
    assert model.refusal(6000.0, -6000.0) is None


def test_the_same_commands_lead_to_the_same_place() -> None:
    places = [(100.0 * (k % 7), -50.0 * k) for k in range(60)]
    one, again = (run(StageModel(TwinStageSettings(slip_chance=0.3), 9, 0), places) for _ in range(2))
    assert one == again
    other = run(StageModel(TwinStageSettings(slip_chance=0.3), 10, 0), places)
    assert one[-1].slipped_um != other[-1].slipped_um
    assert all(b.moves == a.moves + 1 for a, b in itertools.pairwise(one))
