"""A chamber run's summary for a person: what came of it, and its books in plain words. `--json` has it all by code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hspc_live.cli.output import percent, promised, screen
from hspc_live.cli.tables import counted, facts, ledgers
from hspc_live.report.chamber_words import LEFT_OUT, OUTCOMES, seen_as
from hspc_live.stages.field import NO_CELL


def print_chamber(summary: Mapping[str, Any], title: str) -> None:
    """A chamber run's summary as two tables."""
    screen.print(facts(_findings(summary), title))
    screen.print(ledgers(_books(summary), "Ledgers"))


def _findings(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    fields, cells = summary["fields"], summary["cells"]
    yield "fields visited", f"{fields['visited']} of {fields['planned']}"
    no_cells = sum(count for reason, count in cells["unresolved"].items() if reason in NO_CELL)
    whole = cells["tracked"] - no_cells
    yield "cells found", f"{whole}, beside {no_cells} objects that are no whole cell"
    said = summary["classes"]
    yield "recognised", f"{sum(said.values())}: " + ", ".join(f"{name} {count}" for name, count in said.items())
    left_out = sum(cells["left_out"].values())
    yield "wanted by a gate", f"{cells['listed'] + left_out}"
    why = f"; {left_out} cannot be picked: {counted(_left_out(cells['left_out']))}" if left_out else ""
    complete = summary["picking"].get("complete", True)
    early = "" if complete else ", NOT ALL there might be: the scan was ended early"
    yield "picking list", f"{summary['picking']['listed']} cells{early}{why}"
    if (second := summary["revisit"]) is not None:
        yield from _second_visit(second)
    if (truth := summary.get("truth")) is not None:
        found = truth["cells"]
        yield (
            "in truth",
            f"{found['found']} of {found['cells']} single cells found, {found['listed_twice']} listed twice",
        )
        yield "consistency rate", f"{percent(found['consistency_rate'])}, n = {found['n']}"
    if summary.get("abstained"):
        yield "abstained on", counted(summary["abstained"])
    for made in (summary.get("gates") or {}).get("promises", ()):
        yield f"promised, {made['outlet']}", promised(made)
    if summary["alarms"]:
        yield "alarms", counted(summary["alarms"])
    books = summary["ledger"]
    yield "ledgers", "balanced" if books["balanced"] else "OUT OF BALANCE: " + "; ".join(books["violations"])
    yield "decisions", f"{summary['decisions_sha256'][:16]}…"


def _second_visit(second: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    lost = f"; not found again: {counted(second['lost'])}" if second["lost"] else ""
    yield "found again", f"{second['refound']} of {second['listed']} ({percent(second['refound_fraction'])}){lost}"
    moved, read = second["position_error_um"], second["raw_position_error_um"]
    if moved["median"] is not None:
        yield (
            "moved meanwhile",
            f"median {moved['median']:.2f} µm, 95 % within {moved['p95']:.2f} µm, against their neighbours "
            f"({read['median']:.2f} and {read['p95']:.2f} µm as the stage reads)",
        )
    kept_from = second.get("not_pickable") or {}
    why = f"; {sum(kept_from.values())} are not: {counted(_left_out(kept_from))}" if kept_from else ""
    yield "can be picked now", f"{second['pickable']}{why}"


def _books(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The books with every code in words."""
    views, cells = summary["views"], summary["cells"]
    outcome = {kind.value: words for kind, words in OUTCOMES.items()}
    return {
        "frames": summary["frames"],
        "views": {**views, "rejected": _seen(views["rejected"]), "skipped": _seen(views["skipped"])},
        "cells": {
            "objects in the chamber": cells["tracked"],
            outcome["listed"]: cells["listed"],
            outcome["passed"]: cells["passed"],
            outcome["abstained"]: cells["abstained"],
            outcome["left_out"]: _left_out(cells["left_out"]),
            outcome["unresolved"]: _seen(cells["unresolved"]),
        },
    }


def _seen(counts: Mapping[str, int]) -> dict[str, int]:
    return {seen_as(reason): count for reason, count in counts.items()}


def _left_out(counts: Mapping[str, int]) -> dict[str, int]:
    """Reasons of the picking list in words; a second visit has some of its own."""
    words = {kind.value: text for kind, text in LEFT_OUT.items()}
    return {words.get(reason, reason): count for reason, count in counts.items()}
