"""When faults strike: as often as planned, the same in every run, and counted when they are done."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hspc_live.faults.schedule import Injector, Strikes
from hspc_live.settings.faults import DropFrame, FaultPlan, SorterNak


def nak(**when: float) -> SorterNak:
    return SorterNak.model_validate({"kind": "nak", **when})


def struck(strikes: Strikes, seconds: int, step_s: float = 0.01) -> list[int]:
    return [step for step in range(round(seconds / step_s)) if strikes.due(step * step_s)]


def test_once_means_once() -> None:
    assert struck(Strikes(nak(at_s=2.0), "1/0"), 10) == [200]


@given(st.integers(0, 10_000))
def test_the_seed_fixes_the_times(seed: int) -> None:
    one, same = (struck(Strikes(nak(per_s=1.0), f"{seed}/0"), 20) for _ in range(2))
    assert one == same


def test_a_rate_is_kept_on_average_and_no_more_often_than_most() -> None:
    counts = [len(struck(Strikes(nak(per_s=2.0), f"{seed}/0"), 50, 0.1)) for seed in range(50)]
    assert 95 < sum(counts) / len(counts) < 105, "a Poisson mean of 100, its standard error 1.4"
    assert len(struck(Strikes(nak(per_s=2.0, most=3), "1/0"), 50)) == 3


def test_a_frame_s_fault_waits_for_its_frame_even_if_that_one_never_comes() -> None:
    strikes = Strikes(DropFrame(kind="drop", at_frame=7), "1/0")
    assert [index for index in (0, 5, 6, 9, 10) if strikes.due(1.0, index)] == [9]


def test_nothing_strikes_before_the_run_is_under_way_and_only_what_is_done_is_counted() -> None:
    plan = FaultPlan.model_validate({"faults": [{"kind": "nak", "at_s": 0}, {"kind": "drop", "at_frame": 0}]})
    elapsed: list[float | None] = [None]
    counted: list[str] = []
    injector = Injector(plan, lambda: elapsed[0], lambda fault, _: counted.append(fault))
    assert list(injector.due(SorterNak)) == []
    elapsed[0] = 0.0
    [fault] = injector.due(SorterNak)
    assert counted == [] and list(injector.due(SorterNak)) == []
    injector.done(fault)
    assert counted == ["nak"]
