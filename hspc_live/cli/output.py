"""What commands print: one JSON object on stdout with `--json`, otherwise tables; progress always on stderr."""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from hspc_live.cli.tables import counted, facts, ledgers
from hspc_live.core.errors import HspcError

MANY = 0.9  # of the cells decided in time: below, the summary says what that means
UNREAD = 141  # exit code when whoever read our output went away, as a shell counts SIGPIPE: 128 + 13


class _Screen(Console):
    """Stdout: when its reader has gone (`| head`), there is nobody to work for."""

    def on_broken_pipe(self) -> None:
        unread()


class _Progress(Console):
    """Stderr: a run goes on when nobody reads its progress any more."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        _point_at_nothing(sys.stderr.fileno())


progress = _Progress(stderr=True, highlight=False, emoji=False, markup=False)  # paths and settings may hold [brackets]
screen = _Screen(highlight=False, emoji=False, markup=False)
emitted = False  # whether this process has printed its one JSON object


def emit(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    global emitted
    emitted = True
    try:
        json.dump(value, sys.stdout, indent=2, default=str, allow_nan=False)
        sys.stdout.write("\n")
        sys.stdout.flush()
    except BrokenPipeError:
        unread()


def error_json(error: HspcError) -> dict[str, Any]:
    """What the JSON of a command says that failed."""
    return {"error": str(error), "kind": type(error).__name__, "exit_code": error.exit_code, **(error.known or {})}


def unread() -> NoReturn:
    """End quietly: nobody reads stdout any more."""
    _point_at_nothing(sys.stdout.fileno())  # the interpreter's own flush at the end would fail again
    raise SystemExit(UNREAD)


def reader_gone() -> bool:
    """Whether the other end of stdout is closed. Where that cannot be asked, a pipe that broke was this one."""
    if sys.platform == "win32":
        return True
    poll = select.poll()
    poll.register(1, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _point_at_nothing(descriptor: int) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)


def listener(role: str, kind: str, text: str) -> None:
    """What processes say, for the person at the terminal."""
    style = {"armed": "green", "running": "green", "replaced": "yellow", "hung": "yellow", "warning": "yellow"}.get(
        kind, ""
    )
    style = "bold red" if kind in ("disarmed", "alarm", "arming-refused", "killed", "fault-plan", "fault") else style
    said = text if text.startswith(kind) else f"{kind}: {text}" if text else kind
    progress.print(f"{role}: {said}", style=style, markup=False)


def percent(value: float | None, digits: int = 1) -> str:
    """A share in per cent, or a dash."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def interval(value: Any) -> str:
    """An interval of shares in per cent, or nothing."""
    return "" if value is None else f" ({percent(value[0])} to {percent(value[1])})"


def print_summary(summary: Mapping[str, Any], title: str) -> None:
    """A run's summary as two tables: what came of it, and its books."""
    screen.print(facts(_findings(summary), title))
    screen.print(ledgers(summary, "Ledgers"))


def _findings(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    sort, model = summary.get("sort"), summary.get("model")
    if sort is not None:
        empty = ": nothing was collected" if sort["purity"] is None else ""
        yield "purity, measured", percent(sort["purity"]) + interval(sort["purity_interval"]) + empty
        yield "purity, predicted", percent(sort["predicted_purity"]) + interval(sort["predicted_interval"])
        yield "recovery", percent(sort["recovery"]) + interval(sort["recovery_interval"])
    if model is not None and model["n"]:
        rate = percent(model["consistency_rate"]) + interval(model["consistency_interval"])
        yield "consistency rate", f"{rate}, n = {model['n']}"
    yield "cells by class", ", ".join(f"{name} {count}" for name, count in summary["classes"].items())
    if summary.get("abstained"):
        yield "abstained on", counted(summary["abstained"])
    for made in (summary.get("gates") or {}).get("promises", ()):
        yield f"promised, {made['outlet']}", promised(made)
    yield from latency_rows(summary["latency_ms"])
    met = summary["deadline"]["met_fraction"]
    slow = met is not None and met < MANY
    hint = ": this computer was too busy or too slow; what came too late went to waste" if slow else ""
    yield "decided in time", percent(met) + hint
    books = summary["ledger"]
    yield "ledgers", "balanced" if books["balanced"] else "OUT OF BALANCE: " + "; ".join(books["violations"])
    unrecorded = (summary.get("recording") or {}).get("unrecorded", {})
    if any(unrecorded.values()):
        yield (
            "not recorded",
            f"{counted({what: n for what, n in unrecorded.items() if n})}: a replay will not decide exactly the same",
        )
    yield from (("disarmed", reason) for reason in summary["disarmed"])
    if faults := (summary.get("sorter") or {}).get("faults"):
        yield "sorter's wire", counted(faults)
    if refused := summary.get("refused"):
        yield "refused messages", f"{counted(refused)}: somebody else spoke at this run's sockets"
    yield from (("note", warning) for warning in summary["warnings"])
    yield "decisions", f"{summary['decisions_sha256'][:16]}…"


def promised(made: Mapping[str, Any]) -> str:
    """A promise of purity in a line (`gate_words.promises`)."""
    kept = made["kept"]
    return (
        f"{100 * made['purity']:.3g} % {made['class_name']} among the wanted cells, with "
        f"{100 * made['confidence']:.3g} % confidence: score from {made['threshold']:.4f}, keeping "
        f"{percent(kept['rate'])}{interval((kept['low'], kept['high']))} of this class"
    )


def latency_rows(latency: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is known of the latency, if anything is: from a cell's last picture to its verdict."""
    if latency["n"]:
        start = latency.get("from", "mid-exposure")
        yield (
            "latency",
            f"median {latency['p50']:.1f} ms, 99 % {latency['p99']:.1f} ms, longest {latency['max']:.1f} ms, "
            f"from {start} of a cell's last picture to its verdict (n = {latency['n']})",
        )


def print_files(files: list[Path]) -> None:
    """Where the results lie."""
    for file in files:
        screen.print(f"  {file}", markup=False)
