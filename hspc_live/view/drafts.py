"""Gates as they are drawn: where they lie on a plot, and what moving them would make of the settings. No Qt.

Nothing that is moved is in force. A draft is a copy of the outlets of one revision; only `wish` makes of it what the
run can be asked for, and a draft of a revision that is no longer the newest is told so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from hspc_live.core.errors import SettingsError
from hspc_live.settings.sort import (
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
from hspc_live.stages.gate_tree import SCORE_PREFIX

_OUTLETS = TypeAdapter(tuple[Outlet, ...])
Place = tuple[int, tuple[int, ...]]
"""Which leaf: the outlet's number, then the way down its tree of gates."""


@dataclass(frozen=True, slots=True)
class Line:
    """A border across one axis of a plot. `end` says which end of the gate's range it is; score gates have one."""

    place: Place
    outlet: str
    axis: Literal["x", "y"]
    at: float
    end: Literal["min", "max"]
    movable: bool


@dataclass(frozen=True, slots=True)
class Polygon:
    """A polygon in the plane of a plot. `turned`: the gate's x is the plot's y."""

    place: Place
    outlet: str
    vertices: tuple[tuple[float, float], ...]
    turned: bool


def outlets_from(text: str) -> tuple[Outlet, ...]:
    """Outlets from the JSON text in which a run tells them."""
    return _OUTLETS.validate_json(text)


class Draft:
    """The outlets of `revision`, and what a person has moved since."""

    def __init__(self, outlets: Sequence[Outlet], revision: int) -> None:
        self._begin(outlets, revision)

    def _begin(self, outlets: Sequence[Outlet], revision: int) -> None:
        self.revision = revision
        self.in_force = tuple(outlets)
        self.outlets = tuple(outlets)
        self.newest = revision  # of the run: another person may have set others meanwhile

    @property
    def changed(self) -> bool:
        """Whether anything differs from what is in force."""
        return self.outlets != self.in_force

    @property
    def overtaken(self) -> bool:
        """Whether other gates have come into force since this draft was begun."""
        return self.newest != self.revision

    def follow(self, outlets: str, revision: int) -> bool:
        """The run's gates are these. Without changes the draft follows them (True); else it only learns of it."""
        if revision == self.revision and not self.overtaken:
            return False
        if self.changed:
            self.newest = revision
            return False
        self._begin(outlets_from(outlets), revision)
        return True

    def discard(self) -> None:
        """Back to what was in force."""
        self.outlets = self.in_force

    def wish(self) -> str:
        """The outlets as JSON text for `SetGates`."""
        return json.dumps({"outlets": [outlet.model_dump(mode="json") for outlet in self.outlets]})

    def changes(self) -> list[str]:
        """What is different, a line for each outlet, for the person who confirms."""
        before = {outlet.name: outlet for outlet in self.in_force}
        return [
            f"{outlet.name}: {gate_words(before[outlet.name].gate)}  →  {gate_words(outlet.gate)}"
            for outlet in self.outlets
            if outlet.name in before and outlet != before[outlet.name]
        ]

    # ---- on a plot -----------------------------------------------------------------------------------------------

    def leaves(self) -> Iterator[tuple[Place, str, Gate]]:
        """Every elementary gate with its place and its outlet's name."""
        for number, outlet in enumerate(self.outlets):
            for way, leaf in _leaves(outlet.gate):
                yield (number, way), outlet.name, leaf

    def lines(self, x: str, y: str | None) -> Iterator[Line]:
        """The borders that lie across the axes of a plot of `x` against `y` (None: a histogram of `x`)."""
        axes: list[tuple[Literal["x", "y"], str | None]] = [("x", x), ("y", y)]
        for place, outlet, leaf in self.leaves():
            for axis, name in axes:
                match leaf:
                    case ScoreGate() if name == SCORE_PREFIX + leaf.class_name and leaf.score == "model":
                        yield Line(place, outlet, axis, leaf.min, "min", True)
                    case PromiseGate() if name == SCORE_PREFIX + leaf.class_name and leaf.made is not None:
                        yield Line(place, outlet, axis, leaf.made.threshold, "min", False)
                    case RangeGate() if name == leaf.feature:
                        if leaf.min is not None:
                            yield Line(place, outlet, axis, leaf.min, "min", True)
                        if leaf.max is not None:
                            yield Line(place, outlet, axis, leaf.max, "max", True)
                    case _:
                        pass

    def polygons(self, x: str, y: str) -> Iterator[Polygon]:
        """The polygons in the plane of a plot of `x` against `y`."""
        for place, outlet, leaf in self.leaves():
            if isinstance(leaf, PolygonGate):
                if (leaf.x, leaf.y) == (x, y):
                    yield Polygon(place, outlet, leaf.vertices, False)
                elif (leaf.y, leaf.x) == (x, y):
                    yield Polygon(place, outlet, tuple((b, a) for a, b in leaf.vertices), True)

    # ---- moved ---------------------------------------------------------------------------------------------------

    def move_line(self, line: Line, to: float) -> None:
        """Move a border. A range's ends do not pass each other, a score stays between 0 and 1."""
        leaf = self._leaf(line.place)
        match leaf:
            case ScoreGate():
                moved: Gate = leaf.model_copy(update={"min": round(min(1.0, max(0.0, to)), 4)})
            case RangeGate():
                if line.end == "min" and leaf.max is not None:
                    to = min(to, leaf.max)
                if line.end == "max" and leaf.min is not None:
                    to = max(to, leaf.min)
                moved = leaf.model_copy(update={line.end: float(f"{to:.6g}")})
            case _:
                return
        self._replace(line.place, moved)

    def move_polygon(self, polygon: Polygon, vertices: Sequence[tuple[float, float]]) -> None:
        """Give a polygon other vertices, in the plot's order of axes."""
        leaf = self._leaf(polygon.place)
        if isinstance(leaf, PolygonGate) and len(vertices) >= 3:
            turned = tuple((b, a) for a, b in vertices) if polygon.turned else tuple(vertices)
            self._replace(polygon.place, leaf.model_copy(update={"vertices": turned}))

    def add(self, outlet: str, gate: RangeGate | PolygonGate) -> None:
        """Narrow an outlet: what it takes must pass `gate`, too. Raises SettingsError for a promise, which is whole."""
        for number, one in enumerate(self.outlets):
            if one.name == outlet:
                if isinstance(one.gate, PromiseGate):
                    raise SettingsError(
                        f"outlet {outlet}: a promise must be an outlet's whole gate; it is not narrowed"
                    )
                members = one.gate.of if isinstance(one.gate, AndGate) else (one.gate,)
                self._put(number, AndGate(kind="and", of=(*members, gate)))
                return
        raise SettingsError(f"there is no outlet {outlet}")

    def remove(self, place: Place) -> None:
        """Take away a range or polygon that stands beside others in an `and`."""
        number, way = place
        gate = self.outlets[number].gate
        if isinstance(gate, AndGate) and len(way) == 1 and len(gate.of) > 1:
            left = tuple(member for at, member in enumerate(gate.of) if at != way[0])
            self._put(number, left[0] if len(left) == 1 else AndGate(kind="and", of=left))

    def narrowing(self) -> Iterator[tuple[Place, str]]:
        """The ranges and polygons that `remove` would take away, in words."""
        for place, outlet, leaf in self.leaves():
            gate = self.outlets[place[0]].gate
            if isinstance(leaf, RangeGate | PolygonGate) and isinstance(gate, AndGate) and len(place[1]) == 1:
                yield place, f"{outlet}: {gate_words(leaf)}"

    def _leaf(self, place: Place) -> Gate:
        gate = self.outlets[place[0]].gate
        for step in place[1]:
            assert isinstance(gate, AndGate | OrGate | NotGate)
            gate = gate.of if isinstance(gate, NotGate) else gate.of[step]
        return gate

    def _replace(self, place: Place, leaf: Gate) -> None:
        self._put(place[0], _with(self.outlets[place[0]].gate, place[1], leaf))

    def _put(self, number: int, gate: Gate) -> None:
        try:
            outlet = Outlet.model_validate(self.outlets[number].model_dump() | {"gate": gate.model_dump()})
        except ValidationError as error:
            raise SettingsError(f"outlet {self.outlets[number].name}: {error.errors()[0]['msg']}") from error
        self.outlets = (*self.outlets[:number], outlet, *self.outlets[number + 1 :])


def _leaves(gate: Gate, way: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Gate]]:
    match gate:
        case AndGate() | OrGate():
            for number, member in enumerate(gate.of):
                yield from _leaves(member, (*way, number))
        case NotGate():
            yield from _leaves(gate.of, (*way, 0))
        case _:
            yield way, gate


def _with(gate: Gate, way: tuple[int, ...], leaf: Gate) -> Gate:
    if not way:
        return leaf
    match gate:
        case AndGate() | OrGate():
            of = tuple(_with(one, way[1:], leaf) if at == way[0] else one for at, one in enumerate(gate.of))
            return gate.model_copy(update={"of": of})
        case NotGate():
            return gate.model_copy(update={"of": _with(gate.of, way[1:], leaf)})
        case _:
            raise ValueError(f"a {gate.kind} gate has no members")


def gate_words(gate: Gate) -> str:
    """A gate for a person."""
    match gate:
        case ScoreGate():
            top = ", best class" if gate.top else ""
            return f"{gate.class_name} ≥ {gate.min:g}{top}" + (" (corrected)" if gate.score == "corrected" else "")
        case PromiseGate():
            return f"{gate.class_name} with purity {gate.purity:g} promised"
        case RangeGate():
            low = "" if gate.min is None else f"{gate.min:g} ≤ "
            return f"{low}{gate.feature}" + ("" if gate.max is None else f" ≤ {gate.max:g}")
        case PolygonGate():
            return f"polygon of {len(gate.vertices)} corners in ({gate.x}, {gate.y})"
        case TopPercentGate():
            return f"top {gate.percent:g} % by {gate.feature}"
        case NotGate():
            return f"not ({gate_words(gate.of)})"
        case AndGate():
            return " and ".join(f"({gate_words(one)})" for one in gate.of)
        case OrGate():
            return " or ".join(f"({gate_words(one)})" for one in gate.of)
