"""Predicted purity: right on average, honest in its interval, and sensitive to what it says it rests on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hspc_live.core.errors import SettingsError
from hspc_live.settings.sort import SortMode
from hspc_live.stages.predict import PredictionInputs, predict, table_at

CLASSES = ("LT-HSC", "ST-HSC", "MPP")
PREVALENCE = {"LT-HSC": 0.14, "ST-HSC": 0.39, "MPP": 0.47}
BASE = PredictionInputs(
    confusion={
        "LT-HSC": {"LT-HSC": 180, "ST-HSC": 40, "MPP": 10, "abstain": 70},
        "ST-HSC": {"LT-HSC": 12, "ST-HSC": 210, "MPP": 30, "abstain": 48},
        "MPP": {"LT-HSC": 3, "ST-HSC": 25, "MPP": 240, "abstain": 32},
        "dead": {"LT-HSC": 2, "MPP": 10, "abstain": 68},
        "doublet": {"MPP": 5, "abstain": 15},
    },
    wanted=frozenset({"LT-HSC"}),
    prevalence=PREVALENCE,
    strangers=0.05,
    events_per_s=11.5,
    mode="purity",
    pulse_ms=20.0,
    seconds=20.0,
)


def _expected(strangers: float = 0.05) -> float:
    right = 0.14 * (1 - strangers) * 180 / 300
    wrong = (1 - strangers) * (0.39 * 12 / 300 + 0.47 * 3 / 300) + strangers * 2 / 100
    return right / (right + wrong)


def test_the_mean_is_bayes_rule_and_the_same_every_time() -> None:
    prediction = predict(replace(BASE, seconds=5000.0))
    assert prediction.purity == pytest.approx(_expected(), abs=0.02)
    assert predict(BASE) == predict(BASE)
    assert prediction.recovery == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize(("mode", "seconds"), [("purity", 6.0), ("purity", 100.0), ("recovery", 20.0)])
def test_the_interval_holds_the_measured_purity(mode: SortMode, seconds: float) -> None:
    """Worlds with a card and a run each, drawn as the module says worlds are: ≥ 93 % inside."""
    rng = np.random.default_rng(5)
    held = 0
    runs = 0
    widths = []
    for _ in range(250):
        p_true = {kind: rng.dirichlet(alpha) for kind, alpha in _ALPHAS.items()}
        confusion = {
            kind: dict(zip((*CLASSES, "abstain"), rng.multinomial(_CARD_CELLS[kind], p).tolist(), strict=True))
            for kind, p in p_true.items()
        }
        inputs = replace(BASE, confusion=confusion, mode=mode, seconds=seconds)
        purity = _measure(inputs, p_true, rng)
        if purity is None:
            continue
        prediction = predict(inputs)
        assert prediction.interval is not None
        runs += 1
        widths.append(prediction.interval[1] - prediction.interval[0])
        held += prediction.interval[0] - 1e-12 <= purity <= prediction.interval[1] + 1e-12
    assert runs > 200
    assert held / runs >= 0.93
    assert np.mean(widths) < 0.75  # and it says something


_ALPHAS = {
    "LT-HSC": (12.0, 4.0, 1.0, 4.0),
    "ST-HSC": (1.0, 14.0, 3.0, 4.0),
    "MPP": (0.5, 2.0, 16.0, 3.0),
    "dead": (0.5, 0.5, 1.0, 6.0),
}
_CARD_CELLS = {"LT-HSC": 200, "ST-HSC": 200, "MPP": 200, "dead": 60}


def _measure(inputs: PredictionInputs, p_true: dict[str, np.ndarray], rng: np.random.Generator) -> float | None:
    """One run, object by object: who passes, who is sorted, who else is in the pulse."""
    kinds = (*CLASSES, "dead")
    shares = np.array([*(PREVALENCE[kind] * (1 - inputs.strangers) for kind in CLASSES), inputs.strangers])
    count = rng.poisson(inputs.events_per_s * inputs.seconds)
    times = np.sort(rng.uniform(0, inputs.seconds, count))
    who = rng.choice(4, size=count, p=shares)
    sorted_ = np.array([rng.random() < p_true[kinds[k]][0] for k in who], dtype=bool)
    unseen = rng.random(count) < inputs.unseen
    good = total = 0
    for at in np.flatnonzero(sorted_):
        near = np.flatnonzero(np.abs(times - times[at]) < inputs.pulse_ms / 2e3)
        others = [o for o in near if o != at and (inputs.mode == "recovery" or unseen[o])]
        good += int(who[at] == 0) + sum(int(who[o] == 0) for o in others)
        total += 1 + len(others)
    return good / total if total else None


def test_fewer_cells_or_a_smaller_card_widen_the_interval() -> None:
    def width(inputs: PredictionInputs) -> float:
        interval = predict(inputs).interval
        assert interval is not None
        return interval[1] - interval[0]

    tenth = {kind: {said: n // 10 for said, n in row.items()} for kind, row in BASE.confusion.items()}
    assert width(replace(BASE, seconds=5.0)) > width(BASE) > width(replace(BASE, seconds=200.0))
    assert width(replace(BASE, seconds=2000.0, confusion=tenth)) > width(replace(BASE, seconds=2000.0))


def test_recovery_mode_takes_company_along() -> None:
    crowded = replace(BASE, events_per_s=200.0)
    recovery, purity = predict(replace(crowded, mode="recovery")), predict(crowded)
    assert recovery.purity is not None and purity.purity is not None
    assert recovery.purity < purity.purity - 0.2


def test_strangers_and_prevalence_matter() -> None:
    many = predict(replace(BASE, strangers=0.4, seconds=2000.0)).purity
    few = predict(replace(BASE, strangers=0.0, seconds=2000.0)).purity
    assert many is not None and few is not None and many < few
    assert few == pytest.approx(_expected(0.0), abs=0.02)


def test_objects_that_are_never_judged_are_never_sorted() -> None:
    whole, half = predict(BASE), predict(replace(BASE, classified=0.5))
    assert half.sorted_cells == pytest.approx(whole.sorted_cells / 2)


def test_nothing_expected_means_no_number() -> None:
    prediction = predict(replace(BASE, seconds=1e-4))
    assert prediction.purity is None and prediction.interval is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wanted": frozenset({"HSC"})}, "HSC"),
        ({"wanted": frozenset()}, "wants no class"),
        ({"confusion": {"LT-HSC": {"LT-HSC": 5}}}, "no row for MPP, ST-HSC"),
        ({"prevalence": {"LT-HSC": 0.0, "MPP": 1.0}}, "no share at all"),
    ],
)
def test_contradictions_are_said(change: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        predict(replace(BASE, **change))


def test_the_card_s_table_is_taken_at_the_threshold_not_above() -> None:
    counts = (((9, 1, 0), (2, 8, 0)), ((7, 0, 3), (1, 6, 3)))
    tables = ((0.34, 0.7), ("A", "B"), counts, ("A", "B"))
    assert table_at(*tables, threshold=0.7) == {
        "A": {"A": 7, "B": 0, "abstain": 3},
        "B": {"A": 1, "B": 6, "abstain": 3},
    }
    assert table_at(*tables, threshold=0.69)["A"]["A"] == 9
    with pytest.raises(SettingsError, match=r"0\.2"):
        table_at(*tables, threshold=0.2)
