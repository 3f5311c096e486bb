"""Gates that cannot be judged, or contradict each other: found before a camera is opened, not by the first cell."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hspc_live.core.chamber import GLOW
from hspc_live.core.errors import SettingsError
from hspc_live.settings.sort import (
    AndGate,
    Gate,
    OrGate,
    Outlet,
    PromiseGate,
    RangeGate,
    ScoreGate,
    SortSettings,
    TopPercentGate,
)
from hspc_live.stages.gate_tree import FEATURES, SCORE_PREFIX, Leaf, asks, leaves, places


def check_gates(settings: SortSettings, classes: tuple[str, ...], channels: tuple[str, ...] | None = None) -> None:
    """Refuse gates that the model cannot serve or that contradict themselves.

    `channels` are those of fluorescence that are measured on every cell; None in a flow, where there is none.
    Raises SettingsError naming the outlet, and for an unknown class both the gate's class and the model's classes, for
    an unknown channel both the gate's channel and those that are measured.
    """
    names = [outlet.name for outlet in settings.outlets]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"sort.outlets: two outlets are called '{name}'; give each its own name")
    if settings.abstain.min_views > settings.close.views:
        raise SettingsError(
            f"sort.abstain.min_views: a verdict needs {settings.abstain.min_views} views, "
            f"but a cell is closed after {settings.close.views} (sort.close.views)"
        )
    for outlet in settings.outlets:
        where = f"sort.outlets, gate of outlet '{outlet.name}'"
        _check_promise(where, outlet, settings.outlets)
        for leaf in leaves(outlet.gate):
            _check_resolved(where, leaf, classes)
            for feature in asks(leaf):
                _check_feature(where, feature, classes, channels)
            if isinstance(leaf, RangeGate) and leaf.min is not None and leaf.max is not None and leaf.min > leaf.max:
                raise SettingsError(f"{where}: min {leaf.min:g} of '{leaf.feature}' is above max {leaf.max:g}")
            if isinstance(leaf, TopPercentGate) and places(leaf) < 1:
                raise SettingsError(
                    f"{where}: the top {leaf.percent:g} % of a window of {leaf.window} cells is less than one cell; "
                    f"make the window at least {math.ceil(100 / leaf.percent)}"
                )


def _check_feature(where: str, name: str, classes: tuple[str, ...], channels: tuple[str, ...] | None) -> None:
    if name.startswith(GLOW):
        _check_channel(where, name.removeprefix(GLOW), channels)
    elif name.startswith(SCORE_PREFIX):
        asked = name.removeprefix(SCORE_PREFIX)
        if asked not in classes:
            raise SettingsError(f"{where}: asks for class '{asked}', but the model's classes are {', '.join(classes)}")
    elif name not in FEATURES:
        light = "" if channels is None else f", {GLOW}<channel>"
        raise SettingsError(
            f"{where}: no feature '{name}'; there are {', '.join(FEATURES)}{light} and {SCORE_PREFIX}<class>"
        )


def _check_channel(where: str, channel: str, channels: tuple[str, ...] | None) -> None:
    if channels is None:
        raise SettingsError(f"{where}: asks for fluorescence, '{GLOW}{channel}', which is measured in a chamber alone")
    if channel not in channels:
        raise SettingsError(
            f"{where}: asks for the light in channel '{channel}', but "
            + (
                f"the channels exposed are {', '.join(channels)}"
                if channels
                else "no channel of fluorescence is exposed"
            )
            + " (exposure.fluorescence)"
        )


def _check_resolved(where: str, leaf: Leaf, classes: tuple[str, ...]) -> None:
    """What has to be filled in from the model is there. `hspc_models.gate_numbers` does it, from the wiring."""
    if leaf.class_name not in classes if isinstance(leaf, ScoreGate | PromiseGate) else True:
        return  # said by the check of features
    if isinstance(leaf, PromiseGate) and leaf.made is None:
        raise SettingsError(
            f"{where}: the promise of purity has not been made: it needs a model with calibration cells"
        )
    if isinstance(leaf, ScoreGate) and leaf.score == "corrected":
        if leaf.correction is None or set(leaf.correction.factors) != set(classes):
            raise SettingsError(
                f"{where}: the scores have not been corrected: that needs a model's card and population.prevalence"
            )


def _check_promise(where: str, outlet: Outlet, outlets: Sequence[Outlet]) -> None:
    """A promise is of all cells above a threshold, not of what other gates leave of them."""
    if not isinstance(outlet.gate, PromiseGate):
        if any(isinstance(leaf, PromiseGate) for leaf in leaves(outlet.gate)):
            raise SettingsError(
                f"{where}: a promise of purity holds for a whole outlet, not within and, or, not; make it the outlet's "
                "only gate"
            )
        return
    place = {other.name: (other.priority, number) for number, other in enumerate(outlets)}
    for other in outlets:
        if place[other.name] < place[outlet.name] and not _apart(other.gate, outlet.gate.class_name):
            raise SettingsError(
                f"{where}: outlet '{other.name}' is tried before it and may take part of its cells, of which the rest "
                f"need not be as pure; give '{outlet.name}' the lower priority number"
            )


def _apart(gate: Gate, class_name: str) -> bool:
    """Whether a gate can have no cell whose best class is `class_name`."""
    match gate:
        case PromiseGate():
            return gate.class_name != class_name
        case ScoreGate():
            return gate.class_name != class_name and gate.top and gate.score == "model"
        case AndGate():
            return any(_apart(member, class_name) for member in gate.of)
        case OrGate():
            return all(_apart(member, class_name) for member in gate.of)
        case _:
            return False
