"""From gates that ask something of the model to gates with numbers: promises, corrected scores, the stranger limit.

What a run's settings ask (a purity, a declared population) is answered once, from the model's card and its calibration
cells, and the answer is written into the settings. So the recording holds it, and a replay repeats it whatever becomes
of the calibration. Each answer carries a hash of its question: one that was asked otherwise is answered anew, one asked
alike stays. What cannot be answered is refused in words; no gate passes nothing, or everything, for want of a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from hspc_live.core.errors import HspcError, SettingsError
from hspc_live.core.identity import canonical_sha256
from hspc_live.settings.chamber_run import ChamberRunSettings, PickOutlet
from hspc_live.settings.devices import LoopedCamera, RigSettings, SimulatedCamera
from hspc_live.settings.micromanager import MicroManagerCamera
from hspc_live.settings.schema import DeclaredShares, RunSettings
from hspc_live.settings.sort import (
    AbstainSettings,
    AndGate,
    Correction,
    Gate,
    KnownStrangers,
    MadePromise,
    NotGate,
    OrGate,
    Outlet,
    PromiseGate,
    ScoreGate,
    ShareSeen,
)
from hspc_live.stages.gate import doubt, least_best
from hspc_models.card import Card, Rate, check_fits

AnyOutlet = TypeVar("AnyOutlet", Outlet, PickOutlet)

_NO_MODEL = "the null engine has no card; use engine.kind torch, or a gate of kind score with a `min` of your own"


@dataclass(frozen=True, slots=True)
class _Question:
    """What of a run's settings the answers depend on. `rig_says` are the rig's contradictions to the card.

    `anew`: answers that the settings bring along, from a recording say, count for nothing.
    """

    abstain: AbstainSettings
    views: int
    population: DeclaredShares
    rig_says: tuple[str, ...]
    anew: bool


class GateNumbers:
    """Answers for one model; `card` and `folder` are None for an engine without one."""

    def __init__(self, card: Card | None, folder: Path | None) -> None:
        self._card, self._folder = card, folder
        self._scored: dict[int, tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], Any]] = {}

    def flow(self, settings: RunSettings, *, recorded: bool = False, anew: bool = False) -> RunSettings:
        """The settings of a flow with every number filled in.

        `recorded` settings are those of a run that has been: where they know of no stranger limit, there was none.
        `anew`: for a run that is to come; promises and limits that the settings bring along are made again from the
        present cells.
        Raises SettingsError naming the outlet, what is wrong and the mend; ModelError for a broken calibration file.
        """
        match settings.camera:
            case SimulatedCamera(twin=twin) | LoopedCamera(twin=twin):
                um_per_px: float | None = twin.um_per_px
            case MicroManagerCamera(um_per_px=um_per_px):
                pass
            case _:
                um_per_px = None
        sort = settings.sort
        abstain = self._abstain(sort.abstain, sort.close.views, recorded=recorded, anew=anew)
        says = self._rig_says(settings.rig, um_per_px)
        question = _Question(abstain, sort.close.views, settings.population, says, anew)
        outlets = self._outlets(sort.outlets, question)
        return settings.model_copy(update={"sort": sort.model_copy(update={"abstain": abstain, "outlets": outlets})})

    def chamber(
        self, settings: ChamberRunSettings, *, recorded: bool = False, anew: bool = False
    ) -> ChamberRunSettings:
        """The same for a chamber, where a cell is judged by one look."""
        sort = settings.sort
        abstain = self._abstain(sort.abstain, 1, recorded=recorded, anew=anew)
        says = self._rig_says(settings.rig, settings.camera.um_per_px)
        outlets = self._outlets(sort.outlets, _Question(abstain, 1, settings.population, says, anew))
        return settings.model_copy(update={"sort": sort.model_copy(update={"abstain": abstain, "outlets": outlets})})

    def preload(self, views: int) -> None:
        """Read the calibration cells and import what promises need, so that gates set in mid-run cost no second."""
        if self._card is None or self._card.calibration is None:
            return
        try:
            import hspc_models.promise  # noqa: F401 - scipy takes a second

            self._cells(views)
        except HspcError:
            pass  # said when a promise is asked for

    # ---- strangers -------------------------------------------------------------------------------------------------

    def _abstain(self, abstain: AbstainSettings, views: int, *, recorded: bool, anew: bool) -> AbstainSettings:
        if abstain.strangers == "ignore":
            return abstain.model_copy(update={"known": None})
        basis = canonical_sha256({"model": self._identity(), "views": views})
        if abstain.known is not None and abstain.known.basis == basis and not anew:
            return abstain
        if recorded and abstain.known is None and abstain.strangers == "auto":
            return abstain.model_copy(update={"strangers": "ignore"})
        limits = self._card.strangers if self._card is not None else None
        of = 0 if limits is None else len(limits.limits)
        limit = None if limits is None else limits.limits[min(views, of) - 1]
        if abstain.strangers == "abstain" and (limit is None or views > of):
            name = "the null engine" if self._card is None else f"model {self._card.name}"
            why = "has no limit of strangeness in its card" if limits is None else "was calibrated on too few cells"
            mend = "calibrate it (`hspc-live evaluate … --calibrate`), or say auto or ignore"
            if limit is not None:
                why = f"has a limit for up to {of} looks of a cell, and {views} are combined"
                mend = f"set sort.close.views to {of}, or say auto: the limit is then taken without its promise"
            raise SettingsError(f"sort.abstain.strangers: abstain, but {name} {why}; {mend}")
        # where more looks are combined it still keeps strangers out, but what share of known cells, nobody has counted
        wrongly = None if limits is None or limit is None or views > of else limits.wrongly
        return abstain.model_copy(update={"known": KnownStrangers(limit=limit, wrongly=wrongly, basis=basis)})

    # ---- outlets ---------------------------------------------------------------------------------------------------

    def _outlets(self, outlets: Sequence[AnyOutlet], question: _Question) -> tuple[AnyOutlet, ...]:
        return tuple(
            outlet.model_copy(
                update={"gate": self._gate(f"sort.outlets, gate of outlet '{outlet.name}'", outlet.gate, question)}
            )
            for outlet in outlets
        )

    def _gate(self, where: str, gate: Gate, question: _Question) -> Gate:
        match gate:
            case PromiseGate():
                return self._promise(where, gate, question)
            case ScoreGate(score="corrected"):
                return self._corrected(where, gate, question)
            case ScoreGate():
                return gate.model_copy(update={"correction": None})
            case AndGate() | OrGate():
                return gate.model_copy(update={"of": tuple(self._gate(where, one, question) for one in gate.of)})
            case NotGate():
                return gate.model_copy(update={"of": self._gate(where, gate.of, question)})
            case _:
                return gate

    def _corrected(self, where: str, gate: ScoreGate, question: _Question) -> ScoreGate:
        card = self._known(where, gate.class_name)
        if card is None:
            return gate
        shares = self._declared(where, "corrected scores need", question.population)
        if card.score_shares is None:
            raise SettingsError(
                f"{where}: the card of model {card.name} does not say under which class shares its scores hold; "
                "evaluate the model again (`python -m hspc_models.evaluate`), or use `score: model`"
            )
        basis = canonical_sha256({"model": self._identity(), "from": card.score_shares, "to": shares})
        if gate.correction is not None and gate.correction.basis == basis:
            return gate
        factors = {name: to / by for name, to, by in zip(card.classes, shares, card.score_shares, strict=True)}
        return gate.model_copy(update={"correction": Correction(factors=factors, basis=basis)})

    def _promise(self, where: str, gate: PromiseGate, question: _Question) -> PromiseGate:
        card = self._known(where, gate.class_name)
        if card is None:
            return gate
        abstain, population = question.abstain, question.population
        shares = self._declared(where, "a promise of purity needs", population)
        asked = {
            "model": self._identity(),
            "class": gate.class_name,
            "purity": gate.purity,
            "confidence": gate.confidence,
            "shares": shares,
            "strangers": population.strangers,
            "views": question.views,
            "abstain": [abstain.min_score, abstain.min_views, abstain.known.limit if abstain.known else None],
        }
        basis = canonical_sha256(asked)
        if question.rig_says:
            raise SettingsError(
                f"{where}: no purity can be promised on a rig that the model was not calibrated for: "
                + "; ".join(question.rig_says)
            )
        if gate.made is not None and gate.made.basis == basis and not question.anew:
            return gate
        return gate.model_copy(update={"made": self._made(where, gate, question, card, shares, basis)})

    def _made(
        self, where: str, gate: PromiseGate, question: _Question, card: Card, shares: list[float], basis: str
    ) -> MadePromise:
        """Make the promise. Raises SettingsError where none can be made."""
        from hspc_models.promise import make_promise  # scipy.stats takes a second that few commands need

        try:
            scores, looks, kind, groups = self._cells(question.views)
        except SettingsError as error:
            raise SettingsError(f"{where}: {error}") from error
        about, abstain = card.calibration, question.abstain
        assert about is not None, "load_cells has seen it"
        if about.views < question.views:
            raise SettingsError(
                f"{where}: up to {question.views} looks of a cell are combined (sort.close.views), but the calibration "
                f"cells of model {card.name} have {about.views}; set sort.close.views to {about.views}, or calibrate "
                "on cells that were looked at more often"
            )
        labels = np.minimum(kind, len(card.classes))  # kinds that are no class count as one
        strangers = question.population.strangers
        there = np.bincount(labels, minlength=len(card.classes) + 1)
        absent = [name for name, share, n in zip(card.classes, shares, there, strict=False) if share and not n]
        if absent or (strangers and not there[-1]):
            missing = ", ".join(absent) if absent else "strangers (population.strangers)"
            raise SettingsError(
                f"{where}: the population has {missing}, but no calibration cell of model {card.name} is one: "
                "calibrate on cells of every kind that is declared"
            )
        column = card.classes.index(gate.class_name)
        judged = scores.copy()
        for row, (best, n) in enumerate(zip(scores.max(axis=1).tolist(), looks.tolist(), strict=True)):
            if doubt(best, n, abstain) is not None:
                judged[row], judged[row, column] = 0.0, -1.0  # abstained on: never the best class, at no threshold
        mix = np.array([*(share * (1.0 - strangers) for share in shares), strangers])
        # what is abstained on is below the floor: said so, though it would not pass anyhow
        promise = make_promise(
            judged, labels, column, gate.purity, gate.confidence, prevalence=mix, groups=groups,
            floor=least_best(abstain),
        )  # fmt: skip
        if promise.threshold is None or promise.seen is None or promise.kept is None:
            raise SettingsError(
                f"{where}: that {100 * gate.purity:g} % of what it passes are {gate.class_name} cannot be promised "
                f"with {100 * gate.confidence:g} % confidence from the {about.cells} calibration cells of model "
                f"{card.name}: {promise.why}. Ask for less, or calibrate on more cells"
            )
        return MadePromise(
            threshold=promise.threshold,
            seen=_seen(promise.seen),
            kept=_seen(promise.kept),
            tested=promise.tested,
            method=promise.method,
            data=about.data,
            taken=about.taken,
            calibration_sha256=about.sha256,
            basis=basis,
        )

    # ---- the model ---------------------------------------------------------------------------------------------------

    def _known(self, where: str, class_name: str) -> Card | None:
        """The card; None where the model lacks the class, which `check_gates` says better."""
        if self._card is None:
            raise SettingsError(f"{where}: {_NO_MODEL}")
        return self._card if class_name in self._card.classes else None

    def _declared(self, where: str, what: str, population: DeclaredShares) -> list[float]:
        """The declared shares by class, summing to 1. Raises SettingsError."""
        assert self._card is not None
        given: Mapping[str, float] = population.prevalence
        classes = self._card.classes
        if not given:
            raise SettingsError(
                f"{where}: {what} a declared population; say how common each class is among the cells, e.g. "
                f"population: {{prevalence: {{{', '.join(f'{name}: {1 / len(classes):.2f}' for name in classes)}}}}}"
            )
        if unknown := sorted(set(given) - set(classes)):
            raise SettingsError(
                f"population.prevalence: model {self._card.name} has no class {', '.join(unknown)}; it has "
                f"{', '.join(classes)}; cells of no class are population.strangers"
            )
        total = sum(given.values())
        return [given.get(name, 0.0) / total for name in classes]

    def _cells(self, views: int) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], Any]:
        """Scores (n, classes), looks (n,), kinds (n,) and groups (n,) or None of the calibration cells."""
        if views not in self._scored:
            from hspc_models.calibration_cells import cell_scores, load_cells

            assert self._card is not None and self._folder is not None
            cells = load_cells(self._folder, self._card)
            self._scored[views] = (*cell_scores(cells, self._card.temperature, views), cells.kind, cells.group)
        return self._scored[views]

    def _identity(self) -> list[Any]:
        """What the scores of a crop depend on."""
        card = self._card
        return [] if card is None else [card.weights.sha256, card.temperature, card.symmetries]

    def _rig_says(self, rig: RigSettings, um_per_px: float | None) -> tuple[str, ...]:
        if self._card is None:
            return ()
        return tuple(check_fits(self._card, rig, um_per_px or self._card.um_per_px))


def _seen(rate: Rate) -> ShareSeen:
    return ShareSeen(rate=rate.rate, low=rate.low, high=rate.high, n=rate.n)
