"""Figures of bench results: what was measured, with its spread, beside the peer or the limit of the same run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import FuncFormatter

from hspc_live.bench.figures import number
from hspc_live.report import style
from hspc_live.report.saving import save_both

OURS, PEER, LIMIT = style.FREE[2], style.GREY, style.FREE[1]
_COLOURS: Final = (*style.FIXED.values(), *style.FREE)
_PLAIN: Final = FuncFormatter(lambda value, _: number(value))


def draw(found: Mapping[str, Any], folder: Path, source: str) -> list[Path]:
    """The figures of one result, PNG and SVG each. Raises OutputError where they cannot be written."""
    match found["bench"]:
        case "engine":
            return save_both(_engine(found, source), folder, "engine")
        case "segment":
            return save_both(_segment(found, source), folder, "segment")
        case "link":
            return save_both(_rates(found["pixels"], "frame", "Pixels to another process", source), folder, "link")
        case "record":
            return save_both(_rates(found["record"], "frames", "Pictures into a recording", source), folder, "record")
        case "pipeline" if found["load"]:
            return save_both(_pipeline(found, source), folder, "pipeline")
        case _:
            return []


def _new(title: str, source: str, height_in: float = 5.6) -> tuple[Picture, Axes]:
    figure = style.new_figure(height_in)
    style.heading(figure, title, source)
    axes = figure.add_axes((0.09, 0.13, 0.6, 0.68))
    style.plain(axes)
    return figure, axes


def _legend(axes: Axes) -> None:
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False, fontsize=style.NORMAL)


def _engine(found: Mapping[str, Any], source: str) -> Picture:
    figure, axes = _new("Engines: cells a second by batch size", source)
    names = list(dict.fromkeys(row["choice"] for row in found["engines"]))
    for number_, name in enumerate(names):
        rows = [row for row in found["engines"] if row["choice"] == name]
        rates = [row["cells_per_s"] for row in rows]
        spread = [
            [rate - row["cells_per_s_range"][0] for rate, row in zip(rates, rows, strict=True)],
            [row["cells_per_s_range"][1] - rate for rate, row in zip(rates, rows, strict=True)],
        ]
        axes.errorbar(
            [row["bucket"] for row in rows], rates, spread, marker="o", capsize=3,
            color=_COLOURS[number_ % len(_COLOURS)], label=f"{name} ({rows[0]['precision']})",
        )  # fmt: skip
    for limit in found["limits"]:
        first = limit is found["limits"][0]
        axes.axhline(
            limit["cells_per_s"], color=LIMIT, ls="-" if first else ":", lw=1.2,
            label=f"arithmetic limit, {limit['precision']} matrix product",
        )  # fmt: skip
    axes.set(xlabel="cells in a batch", ylabel="cells a second", xscale="log", yscale="log")
    axes.set_xticks(buckets := sorted({row["bucket"] for row in found["engines"]}), [str(one) for one in buckets])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(_PLAIN)
    _legend(axes)
    return figure


def _segment(found: Mapping[str, Any], source: str) -> Picture:
    rows = found["segment"]
    figure, axes = _new("Segmentation: milliseconds a picture, one core", source, 0.45 * len(rows) + 2.4)
    axes.set_position((0.27, 0.18, 0.5, 0.64))
    for place, row in enumerate(rows):
        axes.plot([row["memory_pass_ms"]], [place], "|", ms=14, color=LIMIT, label="_" * place + "bare memory pass")
        axes.plot([row["ms"]], [place], "o", color=OURS, label="_" * place + "ours")
        if row["peer_ms"] is not None:
            axes.plot([row["peer_ms"]], [place], "s", color=PEER, label="_" * place + "scikit-image")
    axes.set_yticks(range(len(rows)), [row["case"] for row in rows])
    axes.invert_yaxis()
    axes.set(xlabel="ms", xscale="log")
    axes.xaxis.set_major_formatter(_PLAIN)
    _legend(axes)
    return figure


def _rates(rows: Sequence[Mapping[str, Any]], key: str, title: str, source: str) -> Picture:
    """Bars of MB/s by way, a group a kind of frame."""
    figure, axes = _new(title, source)
    ways = list(rows[0]["MB_per_s"])
    width = 0.8 / len(ways)
    for place, way in enumerate(ways):
        rates = [row["MB_per_s"][way] for row in rows]
        spread = [
            [rate - row["MB_per_s_range"][way][0] for rate, row in zip(rates, rows, strict=True)],
            [row["MB_per_s_range"][way][1] - rate for rate, row in zip(rates, rows, strict=True)],
        ]
        at = [group + (place - (len(ways) - 1) / 2) * width for group in range(len(rows))]
        axes.bar(at, rates, width * 0.9, yerr=spread, capsize=3, color=_COLOURS[place], label=way.replace("_", " "))
    axes.set_xticks(range(len(rows)), [_named(row[key]) for row in rows])
    axes.set(ylabel="MB/s", yscale="log")
    axes.yaxis.set_major_formatter(_PLAIN)
    _legend(axes)
    return figure


def _named(value: Any) -> str:
    return " × ".join(map(str, value)) if isinstance(value, list) else str(value)


def _pipeline(found: Mapping[str, Any], source: str) -> Picture:
    """Latency by load above, what was dropped or late below; the knee is marked in both."""
    figure = style.new_figure(7.6)
    style.heading(figure, "Pipeline: how long a cell waits for its verdict, by load", source)
    upper, lower = figure.add_axes((0.09, 0.42, 0.6, 0.44)), figure.add_axes((0.09, 0.09, 0.6, 0.25))
    offered = [one["offered_cells_per_s"] for one in found["load"]]
    for name, words, colour in (
        ("p50", "median", style.FREE[2]), ("p99", "99 %", style.FREE[0]), ("p999", "99.9 %", style.FREE[1]),
    ):  # fmt: skip
        seen = [(x, one["latency_ms"][name]) for x, one in zip(offered, found["load"], strict=True)]
        known = [(x, ms) for x, ms in seen if ms]
        upper.plot([x for x, _ in known], [ms for _, ms in known], "o-", color=colour, label=words)
    upper.set(ylabel="latency, ms", yscale="log")
    upper.yaxis.set_major_formatter(_PLAIN)
    met = [(x, one["deadline_met_fraction"]) for x, one in zip(offered, found["load"], strict=True)]
    lower.plot(
        [x for x, share in met if share is not None], [100 * share for _, share in met if share is not None],
        "o-", color=style.FIXED["MPP"], label="cells decided in time",
    )  # fmt: skip
    lower.plot(
        offered, [100 * one["dropped_fraction"] for one in found["load"]], "s-", color=style.FREE[1],
        label="frames dropped",
    )  # fmt: skip
    lower.set(xlabel="cells a second, offered", ylabel="per cent", ylim=(-3, 103))
    for axes in (upper, lower):
        style.plain(axes)
        if found["knee"] is not None:
            at = found["knee"]["cells_per_s"]
            axes.axvline(at, color=style.INK, ls=":", lw=1.2, label=f"knee, {number(at)} cells/s")
        _legend(axes)
    return figure
