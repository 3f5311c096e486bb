"""Gates as trees: their leaves, and what those look at."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import assert_never

from hspc_live.core.values import Detection
from hspc_live.settings.sort import (
    AndGate,
    Gate,
    NotGate,
    OrGate,
    PolygonGate,
    PromiseGate,
    RangeGate,
    ScoreGate,
    TopPercentGate,
)

FEATURES = tuple(name for name in Detection._fields if name != "reject")
SCORE_PREFIX = "score:"

Leaf = ScoreGate | PromiseGate | RangeGate | PolygonGate | TopPercentGate


def leaves(gate: Gate) -> Iterator[Leaf]:
    """The elementary gates of a tree, in the order in which they are written."""
    match gate:
        case AndGate() | OrGate():
            for member in gate.of:
                yield from leaves(member)
        case NotGate():
            yield from leaves(gate.of)
        case ScoreGate() | PromiseGate() | RangeGate() | PolygonGate() | TopPercentGate():
            yield gate
        case _:
            assert_never(gate)


def features_asked(gate: Gate) -> Iterator[str]:
    """The features that a tree of gates looks at, scores by `score:<class>`, in the order in which they are written."""
    for leaf in leaves(gate):
        yield from asks(leaf)


def asks(leaf: Leaf) -> tuple[str, ...]:
    """The features that an elementary gate looks at."""
    match leaf:
        case ScoreGate() | PromiseGate():
            return (SCORE_PREFIX + leaf.class_name,)
        case RangeGate() | TopPercentGate():
            return (leaf.feature,)
        case PolygonGate():
            return (leaf.x, leaf.y)
        case _:
            assert_never(leaf)


def places(gate: TopPercentGate) -> int:
    """How many of a full window are in its top percent (a hair's breadth forgives 0.1 · 30 < 3)."""
    return math.floor(gate.window * gate.percent / 100.0 + 1e-9)
