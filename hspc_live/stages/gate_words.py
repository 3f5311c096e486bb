"""What gates rest on, for a person and for a summary: promises, corrected scores, the limit of strangeness."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from hspc_live.settings.sort import AbstainSettings, Gate, MadePromise, PromiseGate, ScoreGate
from hspc_live.stages.gate_tree import leaves


class GatedOutlet(Protocol):
    """An outlet of a flow or of a chamber."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def gate(self) -> Gate:
        """What it takes."""
        ...


def promises(outlets: Iterable[GatedOutlet]) -> list[dict[str, Any]]:
    """The promises in force, JSON-ready: what was asked, the threshold, the yield, and what it rests on."""
    found = []
    for outlet in outlets:
        if isinstance(gate := outlet.gate, PromiseGate) and gate.made is not None:
            made = gate.made.model_dump(mode="json", exclude={"basis"})
            asked = {"class_name": gate.class_name, "purity": gate.purity, "confidence": gate.confidence}
            found.append({"outlet": outlet.name, **asked, **made})
    return found


def stated(outlets: Iterable[GatedOutlet], abstain: AbstainSettings, *, chamber: bool = False) -> list[str]:
    """The same in words, a sentence each, and what must be known beside it."""
    return [*stated_outlets(outlets, chamber=chamber), *_strangers(abstain)]


def stated_outlets(outlets: Iterable[GatedOutlet], *, chamber: bool = False) -> Iterator[str]:
    """What each outlet rests on, where it asks something of the model."""
    for outlet in outlets:
        gate = outlet.gate
        if isinstance(gate, PromiseGate) and gate.made is not None:
            made, name = gate.made, gate.class_name
            yield (
                f"outlet {outlet.name}: at least {_percent(gate.purity)} of the cells it wants are {name}, with "
                f"{_percent(gate.confidence)} confidence, in the declared population: score from {made.threshold:.4f}; "
                f"{_percent(made.kept.rate)} ({_percent(made.kept.low)} to {_percent(made.kept.high)}) of {name} are "
                f"kept; found with {made.tested} calibration cells ({made.method})"
            )
            yield from (f"outlet {outlet.name}: {text}" for text in _limits(outlet, made, chamber))
        for leaf in leaves(gate):
            if isinstance(leaf, ScoreGate) and leaf.correction is not None:
                factors = ", ".join(f"{name} × {factor:.2f}" for name, factor in leaf.correction.factors.items())
                yield f"outlet {outlet.name}: scores corrected for the declared population ({factors})"


def _limits(outlet: GatedOutlet, made: MadePromise, chamber: bool) -> Iterator[str]:
    """Where a promise says less than one may take it to say."""
    if getattr(outlet, "mode", "") == "recovery":
        yield "mode recovery takes the company at the junction along; the promise is of the wanted cells alone"
    if chamber and made.taken == "flow":
        yield "calibrated on cells filmed in flow; in a chamber it holds as far as cells look alike there"
    if made.taken == "crops":
        yield f"calibrated on crops ({made.data}); it holds as far as this rig shows cells as they do"


def _strangers(abstain: AbstainSettings) -> Iterator[str]:
    known = abstain.known
    if abstain.strangers == "ignore" or known is None:
        return
    if known.limit is None:
        yield "strangers: the model has no limit of strangeness; only sort.abstain.min_score keeps them out"
        return
    said = f"strangers: a cell whose best score is below {1.0 - known.limit:.3f} is abstained on; "
    if known.wrongly is None:
        yield said + (
            "the limit was calibrated on fewer looks of a cell than are combined here (sort.close.views), so how many "
            "cells of the model's classes are abstained on, too, is not known"
        )
    else:
        yield said + f"at most {_percent(known.wrongly)} of cells of the model's classes are"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
