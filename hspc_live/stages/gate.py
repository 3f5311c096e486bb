"""What is wanted: evidence of a cell's views combined, and the gates that judge it.

Pure but for one thing a gate may remember: the values that a top-percent gate ranks against. `GateSet.decide` must
therefore be called once a cell, in an order that capture fixes; the sort core sees to that.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from hspc_live.settings.sort import (
    AbstainSettings,
    AndGate,
    Gate,
    NotGate,
    OrGate,
    Outlet,
    PolygonGate,
    PromiseGate,
    RangeGate,
    ScoreGate,
    TopPercentGate,
)
from hspc_live.stages.gate_checks import check_gates as check_gates
from hspc_live.stages.gate_tree import FEATURES as FEATURES
from hspc_live.stages.gate_tree import SCORE_PREFIX, asks, places
from hspc_live.stages.gate_tree import features_asked as features_asked
from hspc_live.stages.gate_tree import leaves as leaves

SMALLEST_SCORE = 1e-7
"""Scores are clipped here before their logarithm is taken: one view's zero shall not veto all others."""

Scores = tuple[float, ...]
Judge = Callable[[Scores, Mapping[str, float]], bool]


def combine(views: Sequence[Scores]) -> Scores:
    """One cell's scores from those of its views: mean of the logarithms, renormalised to sum 1.

    That is the product rule for views taken as independent, tempered by their number (Kittler et al., *On combining
    classifiers*, IEEE TPAMI 20, 1998). Raises ValueError for no view.
    """
    if not views:
        raise ValueError("no view to combine")
    if len(views) == 1:
        means = [math.log(max(score, SMALLEST_SCORE)) for score in views[0]]
    else:
        columns = zip(*views, strict=True)
        means = [sum(math.log(max(score, SMALLEST_SCORE)) for score in column) / len(views) for column in columns]
    top = max(means)
    powers = [math.exp(mean - top) for mean in means]
    total = sum(powers)
    return tuple(power / total for power in powers)


def usable(row: Sequence[float]) -> bool:
    """Whether a row of scores can be evidence: finite, none negative, not all zero."""
    total = 0.0
    for score in row:
        if not 0.0 <= score < math.inf:
            return False
        total += score
    return 0.0 < total < math.inf


def corrected(scores: Scores, factors: Sequence[float]) -> Scores:
    """Scores in another population, by Bayes' rule (Saerens et al., *Neural Computation* 14:21, 2002, eq. 2.4).

    `factors` are, by class, the share there divided by the share under which the scores hold. Scores that no class
    with a share there explains are returned as zeros: no gate wants such a cell.
    """
    odds = [score * factor for score, factor in zip(scores, factors, strict=True)]
    total = sum(odds)
    return tuple(value / total for value in odds) if total > 0 else (0.0,) * len(odds)


def doubt(best: float, views: int, abstain: AbstainSettings) -> str | None:
    """Why nothing is said of a cell of best combined score `best` of so many views; None if its class is believed."""
    if views < abstain.min_views:
        return "few_views"
    if best < abstain.min_score:
        return "low_score"
    limit = _stranger_limit(abstain)
    return "stranger" if limit is not None and 1.0 - best > limit else None


def least_best(abstain: AbstainSettings) -> float:
    """The best combined score below which nothing is said of a cell, however often it was looked at (see `doubt`)."""
    limit = _stranger_limit(abstain)
    return abstain.min_score if limit is None else max(abstain.min_score, 1.0 - limit)


def _stranger_limit(abstain: AbstainSettings) -> float | None:
    return abstain.known.limit if abstain.known is not None and abstain.strangers != "ignore" else None


@dataclass(frozen=True, slots=True)
class EditGates:
    """An event of the sort core: from the next frame on these outlets are in force, by whose wish is recorded.

    It stands here and not with the other events because they know nothing of settings.
    """

    outlets: tuple[Outlet, ...]
    by: str


def inside(x: float, y: float, vertices: Sequence[tuple[float, float]]) -> bool:
    """Whether (x, y) lies in a polygon, by the even-odd rule (Shimrat, CACM 5, 1962). NaN lies in none."""
    odd = False
    x1, y1 = vertices[-1]
    for x2, y2 in vertices:
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            odd = not odd
        x1, y1 = x2, y2
    return odd


class Ranking:
    """The last `window` values of one feature, kept sorted: is a value among their top percent?"""

    __slots__ = ("_places", "_recent", "_sorted", "_window")

    def __init__(self, gate: TopPercentGate) -> None:
        self._window = gate.window
        self._places = places(gate)
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []

    def rank(self, value: float) -> bool:
        """Take `value` into the window; True if the window is full and fewer than its top places lie above `value`."""
        if value != value:  # NaN has no rank, and would spoil the order of the others
            return False
        if len(self._recent) == self._window:
            oldest = self._recent.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
        self._recent.append(value)
        insort(self._sorted, value)
        if len(self._recent) < self._window:
            return False
        return len(self._sorted) - bisect_right(self._sorted, value) < self._places


class GateSet:
    """The outlets' gates, compiled once, tried by priority (then in the order of the settings).

    `revision` numbers the sets that follow each other in a run. A ranking that the set `before` had too goes on in this
    one: editing one gate must not empty the window of another.
    """

    def __init__(
        self, outlets: Sequence[Outlet], classes: tuple[str, ...], revision: int = 0, before: GateSet | None = None
    ) -> None:
        self.revision = revision
        self.outlets = {outlet.name: outlet for outlet in outlets}
        self._classes = classes
        self._kept = list(before.rankings) if before is not None else []
        self.rankings: list[tuple[TopPercentGate, Ranking]] = []
        self._ranked: list[bool] = []
        self._needed: set[str] = set()
        for outlet in outlets:
            for leaf in leaves(outlet.gate):
                self._needed.update(name for name in asks(leaf) if not name.startswith(SCORE_PREFIX))
        ordered = sorted(outlets, key=lambda outlet: outlet.priority)
        self._judges = [(outlet.name, self._compile(outlet.gate)) for outlet in ordered]

    @property
    def remembers(self) -> bool:
        """Whether a verdict depends on the cells judged before: then the order of judging matters."""
        return bool(self.rankings)

    def decide(self, scores: Scores, features: Mapping[str, float]) -> str | None:
        """The outlet of the first gate that passes the cell, None if none does.

        A cell that lacks (as NaN) a feature that any gate asks for passes none: a `not` must not make ignorance a yes.
        """
        # every ranking sees every cell, whatever other gates say: its window is one of cells, not of candidates
        self._ranked = [ranking.rank(self._value(gate.feature, scores, features)) for gate, ranking in self.rankings]
        if any(math.isnan(features[name]) for name in self._needed):
            return None
        for name, judge in self._judges:
            if judge(scores, features):
                return name
        return None

    def _value(self, name: str, scores: Scores, features: Mapping[str, float]) -> float:
        if name.startswith(SCORE_PREFIX):
            return scores[self._classes.index(name.removeprefix(SCORE_PREFIX))]
        return features[name]

    def _compile(self, gate: Gate) -> Judge:
        match gate:
            case ScoreGate():
                return self._score(gate)
            case PromiseGate():
                assert gate.made is not None, "refused by check_gates"
                return self._score(ScoreGate(class_name=gate.class_name, min=gate.made.threshold))
            case RangeGate():
                low = -math.inf if gate.min is None else gate.min
                high = math.inf if gate.max is None else gate.max
                feature = gate.feature
                return lambda scores, features: low <= self._value(feature, scores, features) <= high
            case PolygonGate():
                x, y, vertices = gate.x, gate.y, gate.vertices
                return lambda scores, features: inside(
                    self._value(x, scores, features), self._value(y, scores, features), vertices
                )
            case TopPercentGate():
                place = len(self.rankings)
                self.rankings.append((gate, self._ranking(gate)))
                return lambda _scores, _features: self._ranked[place]
            case AndGate():
                members = [self._compile(member) for member in gate.of]
                return lambda scores, features: all(judge(scores, features) for judge in members)
            case OrGate():
                members = [self._compile(member) for member in gate.of]
                return lambda scores, features: any(judge(scores, features) for judge in members)
            case NotGate():
                member = self._compile(gate.of)
                return lambda scores, features: not member(scores, features)
            case _:
                assert_never(gate)

    def _ranking(self, gate: TopPercentGate) -> Ranking:
        """The ranking that an equal gate of the set before had, or a new one."""
        for kept in self._kept:
            if kept[0] == gate:
                self._kept.remove(kept)
                return kept[1]
        return Ranking(gate)

    def _score(self, gate: ScoreGate) -> Judge:
        column, least, top = self._classes.index(gate.class_name), gate.min, gate.top
        factors = None
        if gate.score == "corrected":
            assert gate.correction is not None, "refused by check_gates"
            factors = tuple(gate.correction.factors[name] for name in self._classes)

        def judge(scores: Scores, _features: Mapping[str, float]) -> bool:
            judged = scores if factors is None else corrected(scores, factors)
            score = judged[column]
            return score >= least and (not top or score == max(judged))

        return judge
