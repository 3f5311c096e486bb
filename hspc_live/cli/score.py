"""After a run on the twin: what was sorted against what there was, beside what had been predicted.

The truth is joined here, in the parent process and after the end; nothing of it ever reaches the pipeline.
"""

from __future__ import annotations

import math
from typing import Any

from hspc_live.cli.execute import Outcome
from hspc_live.core.clock import NS_PER_S
from hspc_live.recording.reader import open_recording
from hspc_live.recording.tables import cell_records
from hspc_live.settings.devices import SimulatedCamera
from hspc_live.settings.schema import RunSettings
from hspc_live.settings.sort import MadePromise, Outlet, PromiseGate, ScoreGate
from hspc_live.settings.twin import TwinFlowSettings
from hspc_live.stages.gate import least_best
from hspc_live.stages.predict import Prediction, PredictionInputs, predict, table_at
from hspc_live.twin.pulses import read_diary
from hspc_live.twin.score import Filmed, score_cells, score_sort, wanted_classes
from hspc_live.twin.truth import FlowTruth
from hspc_models.card import Card


def predicted(settings: RunSettings, card: Card | None, seconds: float) -> Prediction | None:
    """Purity of the first outlet as it can be said before the run; None where card or population are not enough."""
    outlets = settings.sort.outlets
    if card is None or card.cell_confusion is None or not outlets or not settings.population.prevalence:
        return None
    outlet = outlets[0]
    threshold = least_best(settings.sort.abstain)  # strangers are abstained on, in the table as in the run
    match outlet.gate:
        case ScoreGate(score="corrected"):
            return None  # the card's table is of thresholds on the model's own scores
        case ScoreGate(min=least):
            threshold = max(threshold, least)
        case PromiseGate(made=MadePromise(threshold=least)):
            threshold = max(threshold, least)
    table = card.cell_confusion
    pulse_ms = _pulse_ms(settings)
    population = settings.population
    return predict(
        PredictionInputs(
            confusion=table_at(table.thresholds, table.kinds, table.counts, card.classes, threshold),
            wanted=wanted_classes(outlet.gate),
            prevalence=population.prevalence,
            strangers=population.strangers,
            events_per_s=population.events_per_s,
            mode=outlet.mode,
            pulse_ms=pulse_ms,
            seconds=seconds,
            classified=population.classified,
            aborted=_aborted(settings, outlet, pulse_ms),
        )
    )


def _pulse_ms(settings: RunSettings) -> float:
    """The usual pulse, of a cell at the prior velocity that is looked at until it leaves the field.

    Its arrival spreads by the transit's own jitter and by the error of a velocity fitted to n looks (least squares:
    position error / (frame period · sqrt(n (n² - 1) / 12))).
    """
    timing, track, twin = settings.sort.timing, settings.sort.track, _twin(settings)
    transit_ms = (timing.junction_um - settings.sort.close.decision_line_um) / track.velocity_um_s * 1e3
    spread = timing.transit_sd_fraction
    if twin is not None:
        looks = max(2.0, twin.width_px * twin.um_per_px / track.velocity_um_s * twin.frames_per_s)
        sd_um_s = track.position_sd_um * twin.frames_per_s / math.sqrt(looks * (looks**2 - 1) / 12)
        spread = math.hypot(spread, sd_um_s / track.velocity_um_s)
    return min(timing.max_pulse_ms, max(timing.min_pulse_ms, 2 * timing.k_sigma * spread * transit_ms))


def _twin(settings: RunSettings) -> TwinFlowSettings | None:
    return settings.camera.twin if isinstance(settings.camera, SimulatedCamera) else None


def _aborted(settings: RunSettings, outlet: Outlet, pulse_ms: float) -> float:
    """Share of wanted cells with company at the junction: two windows overlap when they are a pulse apart or less."""
    if outlet.mode == "recovery":
        return 0.0
    alone_ms = 2 * pulse_ms + settings.sort.timing.refractory_ms
    return 1.0 - math.exp(-settings.population.events_per_s * alone_ms / 1e3)


def score(settings: RunSettings, card: Card | None, outcome: Outcome, seconds: float) -> dict[str, Any]:
    """The keys `sort` and `model` of the summary; empty where there is no truth to hold the run against."""
    scored: dict[str, Any] = {}
    if outcome.truth is None or not outcome.truth.is_file() or not isinstance(settings.camera, SimulatedCamera):
        return scored
    truth = FlowTruth.load(outcome.truth)
    if outcome.recording is None:
        return scored
    with open_recording(outcome.recording) as recording:
        records = cell_records(recording)
    classes = card.classes if card is not None else tuple(settings.population.prevalence)
    scored["model"] = score_cells(records, truth, classes)
    if outcome.diary is not None and outcome.diary.is_file():
        twin = settings.camera.twin
        period_ns = round(NS_PER_S / twin.frames_per_s)
        captured = outcome.summary["frames"]["captured"]
        first_ns = outcome.report.reports["sort"]["first_captured_ns"]
        if first_ns is not None:
            filmed = Filmed(
                first_ns=first_ns,
                last_ns=first_ns + max(captured - 1, 0) * period_ns,
                field_um=twin.width_px * twin.um_per_px,
            )
            scored["sort"] = score_sort(read_diary(outcome.diary), truth, settings.sort.outlets, filmed)
            before = predicted(settings, card, seconds)
            scored["sort"]["predicted_purity"] = before.purity if before is not None else None
            scored["sort"]["predicted_interval"] = before.interval if before is not None else None
    return scored
