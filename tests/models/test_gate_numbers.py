"""What gates ask of the model is answered once, written into the settings, and refused in words where it cannot be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hspc_live.core.errors import SettingsError
from hspc_live.settings.devices import RigSettings
from hspc_live.settings.schema import PopulationSettings, RunSettings
from hspc_live.settings.sort import (
    AbstainSettings,
    AndGate,
    CloseSettings,
    NotGate,
    Outlet,
    PromiseGate,
    RangeGate,
    ScoreGate,
    SortSettings,
)
from hspc_live.stages.gate import GateSet, check_gates, combine, doubt
from hspc_live.stages.gate_words import promises, stated
from hspc_models.calibration_cells import cell_scores
from hspc_models.card import load_card
from hspc_models.gate_numbers import GateNumbers
from hspc_models.metrics import softmax
from hspc_models.prevalence import reweighted_scores

CLASSES = ("LT-HSC", "ST-HSC", "MPP")
PREVALENCE = {"LT-HSC": 0.2, "ST-HSC": 0.3, "MPP": 0.5}
CELLS = 6000


def numbers(folder) -> GateNumbers:
    return GateNumbers(load_card(folder), folder)


def run(*outlets: Outlet, views: int = 2, strangers: float = 0.04, prevalence=PREVALENCE, **abstain) -> RunSettings:
    return RunSettings(
        rig=RigSettings(shear_axis_deg=45.0),
        sort=SortSettings(
            outlets=outlets, close=CloseSettings(views=views), abstain=AbstainSettings(**abstain)
        ),
        population=PopulationSettings(prevalence=prevalence, strangers=strangers),
    )  # fmt: skip


def promise(purity: float = 0.9, name: str = "LT-HSC", confidence: float = 0.95, **more) -> Outlet:
    return Outlet(name=name, gate=PromiseGate(kind="promise", class_name=name, purity=purity, confidence=confidence), **more)  # fmt: skip  # noqa: E501


@pytest.fixture(scope="module")
def folder(tmp_path_factory, gauss):
    path = tmp_path_factory.mktemp("gauss")
    gauss.save(path, gauss.draw(np.random.default_rng(1), CELLS))
    return path


def made(settings: RunSettings, place: int = 0):
    return settings.sort.outlets[place].gate.made


def fresh(seed: int, n: int, gauss) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """New cells of the declared population: scores of two looks combined, number of looks, kind."""
    rng = np.random.default_rng(seed)
    many = gauss.draw(rng, 5 * n)
    scores, looks = cell_scores(many, 1.0, 2)
    shares = np.array([*(0.96 * share for share in PREVALENCE.values()), 0.04]) / gauss.SHARES
    kept = np.flatnonzero(rng.random(len(scores)) < (shares / shares.max())[many.kind])
    return scores[kept], looks[kept], many.kind[kept]


def test_a_promise_made_for_the_declared_population_is_kept_by_the_gate(folder, gauss):
    settings = numbers(folder).flow(run(promise(0.9), promise(0.95, "MPP")))
    check_gates(settings.sort, CLASSES)
    gates = GateSet(settings.sort.outlets, CLASSES)
    scores, looks, kind = fresh(2, 40_000, gauss)
    taken = {"LT-HSC": [], "MPP": []}
    for row, n, of in zip(scores.tolist(), looks.tolist(), kind.tolist(), strict=True):
        if doubt(max(row), n, settings.sort.abstain) is None and (name := gates.decide(tuple(row), {})):
            taken[name].append(of)
    assert np.mean(np.array(taken["LT-HSC"]) == 0) >= 0.9 and len(taken["LT-HSC"]) > 1000
    assert np.mean(np.array(taken["MPP"]) == 2) >= 0.95 and len(taken["MPP"]) > 1000
    # the yield that is stated is what new cells show
    stated_yield = made(settings).kept
    assert stated_yield.rate == pytest.approx(np.sum(np.array(taken["LT-HSC"]) == 0) / (kind == 0).sum(), abs=0.05)


def test_a_population_declared_otherwise_makes_another_promise(folder):
    usual = made(numbers(folder).flow(run(promise()))).threshold
    rare = made(numbers(folder).flow(run(promise(), prevalence={"LT-HSC": 0.08, "ST-HSC": 0.42, "MPP": 0.5}))).threshold
    with_strangers = made(numbers(folder).flow(run(promise(), strangers=0.08))).threshold
    assert rare > usual and with_strangers > usual


def test_more_is_asked_of_who_promises_more(folder):
    found = [made(numbers(folder).flow(run(promise(purity)))) for purity in (0.8, 0.85, 0.9, 0.95)]
    thresholds, yields = [one.threshold for one in found], [one.kept.rate for one in found]
    assert thresholds == sorted(thresholds) and thresholds[0] < thresholds[-1]
    assert yields == sorted(yields, reverse=True)
    surer = made(numbers(folder).flow(run(promise(confidence=0.999))))
    assert surer.threshold > made(numbers(folder).flow(run(promise()))).threshold


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([0.8, 0.9, 0.95]),
    st.lists(st.floats(-8, 8, width=32), min_size=3, max_size=3),
    st.floats(0, 1),
    st.floats(-2e-9, 2e-9),
)
def test_no_cell_below_the_threshold_passes(folder, wanted, logits, nudge, hair):
    settings = resolved(folder, wanted)
    threshold = made(settings).threshold
    near = threshold + hair
    rest = max(0.0, 1.0 - near)
    for scores in (combine([tuple(softmax(np.array([logits]))[0].tolist())]), (near, rest * nudge, rest * (1 - nudge))):
        passes = GateSet(settings.sort.outlets, CLASSES).decide(scores, {}) is not None
        assert passes == (scores[0] >= threshold and scores[0] == max(scores))


_RESOLVED: dict[float, RunSettings] = {}


def resolved(folder, wanted: float) -> RunSettings:
    if wanted not in _RESOLVED:
        _RESOLVED[wanted] = numbers(folder).flow(run(promise(wanted)))
    return _RESOLVED[wanted]


def test_a_promise_made_stays_when_the_calibration_changes(tmp_path, gauss):
    gauss.save(tmp_path, gauss.draw(np.random.default_rng(1), CELLS))
    first = numbers(tmp_path).flow(run(promise()))
    text = first.model_dump_json()  # as the recording keeps it
    gauss.save(tmp_path, gauss.draw(np.random.default_rng(8), CELLS, apart=2.3))
    again = numbers(tmp_path).flow(RunSettings.model_validate_json(text), recorded=True)
    assert again == first
    assert made(numbers(tmp_path).flow(run(promise()))).threshold != made(first).threshold
    (tmp_path / "calibration.safetensors").unlink()
    assert numbers(tmp_path).flow(RunSettings.model_validate_json(text), recorded=True) == first


def test_a_new_run_does_not_rest_on_a_promise_that_its_settings_bring_along(tmp_path, gauss):
    gauss.save(tmp_path, gauss.draw(np.random.default_rng(1), CELLS))
    first = numbers(tmp_path).flow(run(promise()))
    gauss.save(tmp_path, gauss.draw(np.random.default_rng(8), CELLS, apart=2.3))
    brought = RunSettings.model_validate_json(first.model_dump_json())
    anew = made(numbers(tmp_path).flow(brought, anew=True))
    assert anew == made(numbers(tmp_path).flow(run(promise()))) != made(first)


@pytest.mark.parametrize(
    "change",
    [
        {"purity": 0.8},
        {"confidence": 0.8},
        {"views": 1},
        {"strangers": 0.1},
        {"min_score": 0.6},
        {"min_views": 2},
        {"prevalence": {"LT-HSC": 0.5, "ST-HSC": 0.25, "MPP": 0.25}},
    ],
)  # fmt: skip
def test_a_promise_of_something_else_is_made_anew(folder, change):
    before = made(numbers(folder).flow(run(promise())))
    asked = {key: change[key] for key in ("purity", "confidence") if key in change}
    settings = run(promise(**asked), **{key: value for key, value in change.items() if key not in asked})
    outlet = settings.sort.outlets[0]
    stale = outlet.model_copy(update={"gate": outlet.gate.model_copy(update={"made": before})})
    settings = settings.model_copy(update={"sort": settings.sort.model_copy(update={"outlets": (stale,)})})
    assert made(numbers(folder).flow(settings)).basis != before.basis


def test_scores_are_combined_as_often_as_the_rig_looks(folder):
    one, two = (made(numbers(folder).flow(run(promise(), views=views))) for views in (1, 2))
    assert one.threshold != two.threshold and one.kept.rate < two.kept.rate  # a second look helps
    with pytest.raises(SettingsError, match=r"up to 3 looks.*have 2; set sort\.close\.views to 2"):
        numbers(folder).flow(run(promise(), views=3))


def test_cells_that_a_run_abstains_on_do_not_count_for_a_promise(folder):
    """With a limit of strangeness fewer impure cells are above the threshold, and the yield is that of what is left."""
    with_limit = numbers(folder).flow(run(promise(0.8)))
    without = numbers(folder).flow(run(promise(0.8), strangers=0.04, **{"min_views": 2}))
    assert with_limit.sort.abstain.known.limit is not None
    assert made(without).kept.rate < made(with_limit).kept.rate  # single looks are abstained on there


REFUSED = [
    (run(promise(), prevalence={}), r"'LT-HSC': a promise of purity needs a declared population.*prevalence: \{LT-HSC"),
    (run(promise(), prevalence={"HSC": 1.0}), r"population\.prevalence: model gauss has no class HSC; it has LT-HSC"),
    (
        run(promise(0.999)),
        r"99\.9 % of what it passes are LT-HSC cannot be promised with 95 % confidence.*Ask for less",
    ),
    (run(promise(), min_score=0.999999), r"cannot be promised"),
    (
        run(promise()).model_copy(update={"rig": RigSettings(modality="brightfield")}),
        r"on a rig that the model was not calibrated for: modality: the rig is brightfield",
    ),
]


@pytest.mark.parametrize(("settings", "words"), REFUSED)
def test_a_promise_that_cannot_be_made_is_refused_in_words(folder, settings, words):
    with pytest.raises(SettingsError, match=words):
        numbers(folder).flow(settings)


def test_a_model_without_what_is_needed_is_named(tmp_path, gauss):
    few = gauss.draw(np.random.default_rng(2), 60)
    gauss.save(tmp_path / "few", few)
    with pytest.raises(SettingsError, match=r"60 calibration cells of model gauss: too few .*about \d+ would do"):
        numbers(tmp_path / "few").flow(run(promise()))
    none = few.kind < 3
    pure = type(few)(
        few.logits[none[few.cell]], np.cumsum(none)[few.cell[none[few.cell]]] - 1, few.kind[none], few.kinds
    )
    gauss.save(tmp_path / "pure", pure)
    with pytest.raises(SettingsError, match=r"the population has strangers.*no calibration cell of model gauss is one"):
        numbers(tmp_path / "pure").flow(run(promise()))
    gauss.save(tmp_path / "bare", None, score_shares=None)
    with pytest.raises(SettingsError, match=r"outlet 'LT-HSC': model gauss has no calibration cells.*--calibrate"):
        numbers(tmp_path / "bare").flow(run(promise()))
    with pytest.raises(SettingsError, match=r"does not say under which class shares its scores hold"):
        numbers(tmp_path / "bare").flow(run(corrected()))
    with pytest.raises(SettingsError, match=r"the null engine has no card"):
        GateNumbers(None, None).flow(run(promise()))
    with pytest.raises(SettingsError, match=r"sort\.abstain\.strangers: abstain, but model gauss has no limit"):
        numbers(tmp_path / "bare").flow(abstaining("abstain"))
    with pytest.raises(SettingsError, match=r"abstain, but the null engine has no limit"):
        GateNumbers(None, None).flow(abstaining("abstain"))


def abstaining(how: str) -> RunSettings:
    settings = run()
    abstain = AbstainSettings(strangers=how)
    return settings.model_copy(update={"sort": settings.sort.model_copy(update={"abstain": abstain})})


def test_a_promise_must_be_alone(folder):
    inner = promise().gate
    size = RangeGate(kind="range", feature="diameter_um", min=8)
    wrong = {
        "not within and": (Outlet(name="a", gate=AndGate(kind="and", of=(inner, size))),),
        "not within": (Outlet(name="a", gate=NotGate(kind="not", of=inner)),),
        "tried before": (Outlet(name="large", gate=size), promise()),
        "the lower priority": (
            promise(priority=2),
            Outlet(name="any", gate=ScoreGate(class_name="LT-HSC"), priority=1),
        ),
    }
    for words, outlets in wrong.items():
        with pytest.raises(SettingsError, match=words):
            check_gates(numbers(folder).flow(run(*outlets)).sort, CLASSES)
    fine = (Outlet(name="st", gate=ScoreGate(class_name="ST-HSC")), promise(), promise(0.8, "MPP"), Outlet(name="large", gate=size))  # fmt: skip  # noqa: E501
    check_gates(numbers(folder).flow(run(*fine)).sort, CLASSES)


def test_what_was_not_filled_in_is_refused_by_the_sort_core():
    with pytest.raises(SettingsError, match="has not been made"):
        check_gates(run(promise()).sort, CLASSES)
    with pytest.raises(SettingsError, match="have not been corrected"):
        check_gates(run(corrected()).sort, CLASSES)
    with pytest.raises(SettingsError, match="asks for class 'B-cell'"):
        check_gates(run(promise(name="B-cell")).sort, CLASSES)


# ---- corrected scores ------------------------------------------------------------------------------------------------


def corrected(least: float = 0.8) -> Outlet:
    return Outlet(name="LT-HSC", gate=ScoreGate(class_name="LT-HSC", min=least, score="corrected"))


def test_corrected_scores_are_those_of_the_declared_population(folder, gauss):
    settings = numbers(folder).flow(run(corrected()))
    check_gates(settings.sort, CLASSES)
    gates = GateSet(settings.sort.outlets, CLASSES)
    scores, _, kind = fresh(3, 4000, gauss)
    there = reweighted_scores(scores, np.full(3, 1 / 3), np.array([0.2, 0.3, 0.5]))
    expected = (there[:, 0] >= 0.8) & (there.argmax(axis=1) == 0)
    taken = np.array([gates.decide(tuple(row), {}) is not None for row in scores.tolist()])
    near = np.abs(there[:, 0] - 0.8) < 1e-9
    assert (taken == expected)[~near].all() and 0 < taken.sum() < (scores[:, 0] >= 0.8).sum()
    assert np.mean(kind[taken] == 0) > 0.85
    assert gates.decide((1.0, 0.0, 0.0), {}) is not None


def test_corrected_scores_need_a_declared_population(folder):
    with pytest.raises(SettingsError, match="corrected scores need a declared population"):
        numbers(folder).flow(run(corrected(), prevalence={}))
    inside = Outlet(
        name="a", gate=AndGate(kind="and", of=(corrected().gate, RangeGate(kind="range", feature="area_um2")))
    )
    settings = numbers(folder).flow(run(inside))
    assert settings.sort.outlets[0].gate.of[0].correction.factors["MPP"] == pytest.approx(1.5)
    again = numbers(folder).flow(settings)
    assert again == settings
    other = settings.model_copy(update={"population": PopulationSettings(prevalence={"LT-HSC": 1.0}, strangers=0.0)})
    factors = numbers(folder).flow(other).sort.outlets[0].gate.of[0].correction.factors
    assert factors == {"LT-HSC": 3.0, "ST-HSC": 0.0, "MPP": 0.0}


# ---- strangers -------------------------------------------------------------------------------------------------------


def test_the_limit_of_strangeness_is_that_of_as_many_looks(folder):
    limits = load_card(folder).strangers.limits
    for views in (1, 2):
        known = numbers(folder).flow(run(views=views)).sort.abstain.known
        assert known.limit == limits[views - 1] and known.wrongly == 0.05
    assert numbers(folder).flow(abstaining("ignore")).sort.abstain.known is None


def test_a_limit_of_fewer_looks_than_are_combined_claims_nothing(folder):
    """It still keeps strangers out, the side to err on; but its share of known cells was found for other scores."""
    settings = numbers(folder).flow(run(views=3))
    known = settings.sort.abstain.known
    assert known.limit == load_card(folder).strangers.limits[-1] and known.wrongly is None
    assert doubt(1.0 - known.limit - 1e-6, 3, settings.sort.abstain) == "stranger"
    (words,) = stated((), settings.sort.abstain)
    assert "calibrated on fewer looks" in words and "at most" not in words
    with pytest.raises(SettingsError, match=r"up to 2 looks of a cell, and 3 are combined; set sort\.close\.views"):
        numbers(folder).flow(run(views=3).model_copy(update={"sort": abstaining("abstain").sort.model_copy(
            update={"close": CloseSettings(views=3)}
        )}))  # fmt: skip
    # a run that has been keeps what it was judged by
    assert numbers(folder).flow(settings, recorded=True) == settings


def test_a_recording_of_before_there_was_a_limit_is_replayed_without_one(folder):
    old = numbers(folder).flow(run(), recorded=True)
    assert old.sort.abstain.strangers == "ignore" and old.sort.abstain.known is None
    bare = GateNumbers(None, None).flow(run())
    assert bare.sort.abstain.known.limit is None  # looked for, and there was none


def test_what_is_promised_is_said(folder):
    settings = numbers(folder).flow(run(promise(mode="recovery")))
    (one,) = promises(settings.sort.outlets)
    assert one["threshold"] == made(settings).threshold and one["purity"] == 0.9 and one["outlet"] == "LT-HSC"
    words = "\n".join(stated(settings.sort.outlets, settings.sort.abstain))
    assert "at least 90 % of the cells it wants are LT-HSC, with 95 % confidence" in words
    assert f"{made(settings).threshold:.4f}" in words and "of LT-HSC are kept" in words
    assert "mode recovery takes the company" in words and "abstained on" in words
    bare = GateNumbers(None, None).flow(run())
    assert "no limit of strangeness" in "\n".join(stated((), bare.sort.abstain))
