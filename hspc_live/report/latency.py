"""From mid-exposure to the decision: how long it took, against the time there was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from hspc_live.core.clock import NS_PER_MS, NS_PER_S
from hspc_live.core.values import CellRecord
from hspc_live.report import style
from hspc_live.report.evidence import Evidence
from hspc_live.settings.sort import SortSettings
from hspc_live.stages.timing import Arrival, JunctionTiming


@dataclass(frozen=True, slots=True, eq=False)
class Latencies:
    """Decided cells, in the order of their last look: `at_ns` (mid-exposure), `latency_ms`, and `allowed_ms`.

    `allowed_ms` is the latency at which a decision would have come too late for the sorter; NaN where no arrival was
    known. `undecided` counts cells that never came to a decision.
    """

    at_ns: NDArray[np.int64]
    latency_ms: NDArray[np.float64]
    allowed_ms: NDArray[np.float64]
    undecided: int


def latencies(records: Sequence[CellRecord], sort: SortSettings | None) -> Latencies:
    """Latency of every decided cell, and by when it had to be decided by the settings' timing rules."""
    timing = None if sort is None else JunctionTiming(sort.timing, sort.track, sort.close.decision_line_um)
    decided = sorted((r for r in records if r.latency_ns is not None), key=lambda r: r.last_capture_ns)
    return Latencies(
        at_ns=np.array([r.last_capture_ns for r in decided], np.int64),
        latency_ms=np.array([(r.latency_ns or 0) / NS_PER_MS for r in decided], np.float64),
        allowed_ms=np.array([_allowed_ms(r, timing) for r in decided], np.float64),
        undecided=len(records) - len(decided),
    )


def _allowed_ms(record: CellRecord, timing: JunctionTiming | None) -> float:
    if timing is None or record.arrival_ns is None:
        return float("nan")
    latest_ns = timing.latest_ns(Arrival(record.arrival_ns, record.arrival_sd_ns or 0))
    return (latest_ns - record.last_capture_ns) / NS_PER_MS


def _met_words(evidence: Evidence, data: Latencies) -> str:
    """How many cells were decided in time: by the run's own books where they are at hand."""
    books = evidence.summary.get("deadline", {})
    if "met" in books and "missed" in books:
        return f"met by {books['met']} of {books['met'] + books['missed']} cells"
    known = np.isfinite(data.allowed_ms)
    met = np.count_nonzero(data.latency_ms[known] <= data.allowed_ms[known])
    return f"met by {met} of {np.count_nonzero(known)} decided cells"


def draw_latency(evidence: Evidence, folder: Path) -> list[Path]:
    """Write `latency.png`; nothing where no cell was decided or times were virtual."""
    sort = None if evidence.settings is None else evidence.settings.sort
    data = latencies(evidence.records, sort)
    n = len(data.latency_ms)
    if n == 0 or not evidence.measured:
        return []
    p50, p99 = (float(v) for v in np.percentile(data.latency_ms, (50, 99)))
    allowed = data.allowed_ms[np.isfinite(data.allowed_ms)]
    figure = style.new_figure(5.2)
    undecided = f"; {data.undecided} cells were never decided" if data.undecided else ""
    style.heading(
        figure, f"Decision latency: median {p50:.1f} ms, 99 % within {p99:.1f} ms (n = {n} cells{undecided})",
        evidence.source,
    )  # fmt: skip
    grid = {"left": 0.055, "right": 0.985, "top": 0.78, "bottom": 0.13, "wspace": 0.17}
    left, right = figure.subplots(1, 2, gridspec_kw=grid)
    top = max(float(data.latency_ms.max()), p99) * 1.08
    if len(allowed):
        top = max(top, float(np.percentile(allowed, 5)) * 1.12)
    first = max(float(data.latency_ms.min()) * 0.8, 0.05)
    # what is quick and the deadline lie decades apart: only a logarithmic axis shows both
    left.hist(data.latency_ms, np.geomspace(first, top, 45).tolist(), color="#56B4E9", ec="white", lw=0.4)
    left.set_xscale("log")
    left.set(xlabel="mid-exposure of the last look → decision (ms, logarithmic)", ylabel="cells", xlim=(first, top))
    for value, dash, label in ((p50, "-", f"p50 {p50:.1f} ms"), (p99, "--", f"p99 {p99:.1f} ms")):
        left.axvline(value, color=style.INK, ls=dash, lw=1.6, label=label)
    right.scatter((data.at_ns - evidence.begin_ns) / NS_PER_S, data.latency_ms, s=16, color="#0072B2", alpha=0.7, lw=0)
    right.set_yscale("log")
    right.set(xlabel="time of the last look (s after the first frame)", ylabel="latency (ms, logarithmic)")
    right.set_ylim(first, top)
    right.axhline(p50, color=style.INK, lw=1.6)
    right.axhline(p99, color=style.INK, lw=1.6, ls="--")
    if len(allowed):
        tight, usual = (float(v) for v in np.percentile(allowed, (0, 50)))
        label = f"deadline: {usual:.0f} ms (median cell), {tight:.0f} ms (tightest); {_met_words(evidence, data)}"
        left.axvspan(tight, top * 2, color="#D55E00", alpha=0.13, lw=0)
        left.axvline(usual, color="#D55E00", lw=2, label=label)
        right.axhspan(tight, top * 2, color="#D55E00", alpha=0.13, lw=0)
        right.axhline(usual, color="#D55E00", lw=2)
    handles, names = left.get_legend_handles_labels()
    figure.legend(
        handles, names, frameon=False, fontsize=style.NORMAL, ncols=3, loc="upper left",
        bbox_to_anchor=(0.05, 1 - 0.66 / figure.get_figheight()),
    )  # fmt: skip
    for axes, scale in ((left, left.xaxis), (right, right.yaxis)):
        style.plain(axes)
        axes.grid(alpha=0.25)
        scale.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        scale.set_major_formatter(StrMethodFormatter("{x:g}"))
        scale.set_minor_formatter(NullFormatter())
    left.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    return [style.save(figure, folder / "latency.png")]
