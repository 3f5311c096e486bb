"""What commands print: one JSON object on stdout with `--json`, otherwise tables; progress always on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

progress = Console(stderr=True, highlight=False, emoji=False)
MANY = 0.9  # of the cells decided in time: below, the summary says what that means
screen = Console(highlight=False, emoji=False)


emitted = False  # whether this process has printed its one JSON object


def emit(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    global emitted
    emitted = True
    json.dump(value, sys.stdout, indent=2, default=str, allow_nan=False)
    sys.stdout.write("\n")


def listener(role: str, kind: str, text: str) -> None:
    """What processes say, for the person at the terminal."""
    style = {"armed": "green", "running": "green", "replaced": "yellow", "hung": "yellow"}.get(kind, "")
    style = "bold red" if kind in ("disarmed", "alarm", "arming-refused", "killed") else style
    progress.print(f"{role}: {kind}{': ' + text if text else ''}", style=style, markup=False)


def percent(value: float | None, digits: int = 1) -> str:
    """A share in per cent, or a dash."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def interval(value: Any) -> str:
    """An interval of shares in per cent, or nothing."""
    return "" if value is None else f" ({percent(value[0])} to {percent(value[1])})"


def total(counts: Mapping[str, int]) -> str:
    """The sum of a ledger's reasons, with the reasons."""
    inner = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    return f"{sum(counts.values())}" + (f" ({inner})" if inner else "")


def print_summary(summary: Mapping[str, Any], title: str) -> None:
    """A run's summary as a table."""
    frames, views, cells, commands = (summary[k] for k in ("frames", "views", "cells", "commands"))
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    table.add_row(
        "frames",
        f"{frames['captured']} captured = {frames['processed']} processed + {total(frames['dropped'])} dropped "
        f"+ {total(frames['lost'])} lost",
    )
    table.add_row(
        "views",
        f"{views['detected']} detected = {views['classified']} classified + {total(views['rejected'])} rejected "
        f"+ {total(views['skipped'])} skipped",
    )
    table.add_row(
        "cells",
        f"{cells['tracked']} tracked = {cells['sorted']} sorted + {cells['passed']} passed + {cells['abstained']} "
        f"abstained + {total(cells['aborted'])} aborted + {total(cells['unresolved'])} unresolved",
    )
    table.add_row(
        "commands",
        f"{commands['sent']} sent = {commands['fired']} fired + {commands['refused']} refused + "
        f"{commands['unacknowledged']} unacknowledged",
    )
    table.add_row("ledgers", "balanced" if summary["ledger"]["balanced"] else f"OUT OF BALANCE: {summary['ledger']}")
    table.add_row("classes", ", ".join(f"{k} {v}" for k, v in summary["classes"].items()))
    latency = summary["latency_ms"]
    if latency["n"]:
        table.add_row(
            f"latency from {latency['from']}",
            ", ".join(f"{name} {latency[name]:.1f} ms" for name in ("p50", "p99", "max")) + f", n = {latency['n']}",
        )
    met = summary["deadline"]["met_fraction"]
    hint = (
        ""
        if met is None or met >= MANY
        else ": this computer was too busy or too slow; what came too late went to waste"
    )
    table.add_row("decided in time", percent(met) + hint)
    sort, model = summary.get("sort"), summary.get("model")
    if sort is not None:
        table.add_row("purity, measured", percent(sort["purity"]) + interval(sort["purity_interval"]))
        table.add_row("purity, predicted", percent(sort["predicted_purity"]) + interval(sort["predicted_interval"]))
        table.add_row("recovery", percent(sort["recovery"]) + interval(sort["recovery_interval"]))
    if model is not None:
        rate = percent(model["consistency_rate"]) + interval(model["consistency_interval"])
        table.add_row("consistency rate", f"{rate}, n = {model['n']}")
    for reason in summary["disarmed"]:
        table.add_row("disarmed", reason)
    for warning in summary["warnings"]:
        table.add_row("note", warning)
    table.add_row("decisions", summary["decisions_sha256"][:16] + "…")
    screen.print(table)


def print_files(files: list[Path]) -> None:
    """Where the results lie."""
    for file in files:
        screen.print(f"  {file}", markup=False)
