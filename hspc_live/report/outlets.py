"""What the sorter really collected, by true kind, and how that compares with what was predicted before the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from hspc_live.report import style
from hspc_live.report.evidence import Evidence
from hspc_live.twin.score import Filmed, score_sort

OTHERS = "#9A9A9A"
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++")


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its 95 % interval, for one line of the chart; `share` None: nothing to count."""

    name: str
    share: float | None
    interval: tuple[float, float] | None
    note: str
    measured: bool = True


def measure(evidence: Evidence) -> dict[str, Any] | None:
    """`twin.score.score_sort` of the run; None where truth, diary, settings or frames are missing."""
    settings, times = evidence.settings, evidence.results["captured_ns"]
    if evidence.truth is None or evidence.diary is None or settings is None or not len(times):
        return None
    info = evidence.recording.info
    filmed = Filmed(int(times.min()), int(times.max()), info.width_px * info.um_per_px)
    return score_sort(evidence.diary, evidence.truth, settings.sort.outlets, filmed)


def rates(outlet: Mapping[str, Any], predicted: Mapping[str, Any]) -> list[Rate]:
    """The lines of one outlet: purity as measured and as predicted (if it was), recovery, yield."""
    lines = [
        Rate(
            "purity", outlet["purity"], outlet["purity_interval"],
            f"{outlet['wanted']} of {outlet['collected']} objects collected",
        )
    ]  # fmt: skip
    if predicted.get("predicted_purity") is not None:
        interval = predicted.get("predicted_interval")
        lines.append(
            Rate(
                "purity, predicted", predicted["predicted_purity"], None if interval is None else tuple(interval),
                "before the run", measured=False,
            )
        )  # fmt: skip
    return [
        *lines,
        Rate(
            "recovery", outlet["recovery"], outlet["recovery_interval"],
            f"{outlet['recovered']} of {outlet['wanted_passed']} wanted cells that could be sorted",
        ),
        Rate(
            "yield", outlet["yield"], outlet["yield_interval"],
            f"{outlet['right_pulses']} of {outlet['pulses']} pulses caught a wanted cell",
        ),
    ]  # fmt: skip


def predicted_for(summary: Mapping[str, Any], outlet: str, only: bool) -> Mapping[str, Any]:
    """What the run's summary predicted for an outlet; the whole sort's prediction is that of its only outlet."""
    sort = summary.get("sort") or {}
    own: Mapping[str, Any] = (sort.get("outlets") or {}).get(outlet, {})
    return own if "predicted_purity" in own or not only else sort


def draw_outlets(evidence: Evidence, folder: Path) -> list[Path]:
    """Write `sort.png`; nothing where no sorter was simulated, or nothing is known of what it should have taken."""
    found = measure(evidence)
    if found is None or not found["outlets"]:
        return []
    outlets: dict[str, dict[str, Any]] = found["outlets"]
    lines = {
        name: rates(outlet, predicted_for(evidence.summary, name, len(outlets) == 1))
        for name, outlet in outlets.items()
    }
    tall_in = 2.0 + sum(0.42 * len(of) + 0.35 for of in lines.values())
    figure = style.new_figure(max(tall_in, 4.0))
    style.heading(figure, _title(found), evidence.source)
    tall_in = figure.get_figheight()
    grid = {"left": 0.07, "right": 0.965, "top": 1 - 1.12 / tall_in, "bottom": 0.62 / tall_in, "wspace": 0.38}
    left, right = figure.subplots(1, 2, gridspec_kw={**grid, "width_ratios": [1, 1.05]})
    _draw_collected(left, outlets, evidence.classes)
    _draw_rates(right, lines)
    return [style.save(figure, folder / "sort.png")]


def _title(found: Mapping[str, Any]) -> str:
    if found["purity"] is None:
        return f"Sorted: nothing collected ({found['pulses']} pulses)"
    purity, low, high = (style.per_cent(share) for share in (found["purity"], *found["purity_interval"]))
    return f"Sorted: purity {purity} (95 % interval {low} – {high}, n = {found['collected']} objects collected)"


def _draw_collected(axes: Axes, outlets: Mapping[str, Mapping[str, Any]], classes: Sequence[str]) -> None:
    """One bar an outlet, in pieces by true kind."""
    colours = style.class_colours(classes)
    kinds = {kind for outlet in outlets.values() for kind in outlet["collected_by_kind"]}
    strangers = sorted(kinds - set(classes))
    names = list(outlets)
    ends = [0] * len(names)
    for kind in [*(name for name in classes if name in kinds), *strangers]:
        counts = [outlets[name]["collected_by_kind"].get(kind, 0) for name in names]
        hatch = HATCHES[strangers.index(kind) % len(HATCHES)] if kind in strangers else ""
        bars = axes.barh(
            range(len(names)), counts, left=ends, height=0.5, color=colours.get(kind, OTHERS), ec="white", lw=1.2,
            hatch=hatch, label=f"{kind} ({sum(counts)})",
        )  # fmt: skip
        widest = max(sum(outlet["collected_by_kind"].values()) for outlet in outlets.values())
        axes.bar_label(
            bars, [str(n) if n > 0.05 * widest else "" for n in counts], label_type="center", fontsize=style.NORMAL,
            color="black",
        )  # fmt: skip
        ends = [end + n for end, n in zip(ends, counts, strict=True)]
    axes.set_yticks(range(len(names)), [f"{name}\noutlet" for name in names])
    axes.set_ylim(len(names) - 0.3, -0.7)
    axes.set_xlabel("objects collected, by what they really were")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    if kinds:
        axes.legend(
            frameon=False, fontsize=style.NORMAL, ncols=4, loc="lower left", bbox_to_anchor=(0, 1.0), handlelength=1.2,
            columnspacing=1.2,
        )  # fmt: skip
    else:
        axes.text(0.5, 0.5, "nothing was collected", transform=axes.transAxes, ha="center", fontsize=style.NORMAL)
        axes.set_xlim(0, 1)
    style.plain(axes)
    axes.grid(axis="x", alpha=0.25)


def _draw_rates(axes: Axes, lines: Mapping[str, Sequence[Rate]]) -> None:
    """Every share as a point with its interval; what was predicted is hollow."""
    y, ticks, names = 0.0, [], []
    for outlet, of in lines.items():
        for rate in of:
            colour = "#0072B2" if rate.measured else "#D55E00"
            if rate.share is not None:
                low, high = rate.interval or (rate.share, rate.share)
                axes.plot([low, high], [y, y], color=colour, lw=3, solid_capstyle="butt", alpha=0.75)
                axes.plot(rate.share, y, "o", ms=9, color=colour, mfc=colour if rate.measured else "white", mew=2)
            said = "none" if rate.share is None else style.per_cent(rate.share)
            axes.text(
                0.012, y - 0.34, f"{said}: {rate.note}", fontsize=style.SMALL, color="#444444", ha="left", va="center"
            )
            ticks.append(y)
            names.append(rate.name if len(lines) == 1 else f"{outlet}: {rate.name}")
            y += 1.0
        y += 0.6
    axes.set_yticks(ticks, names)
    axes.set_ylim(y - 1.1, -0.75)
    axes.set_xlim(0, 1.005)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel("share, with 95 % interval (hollow: predicted before the run)")
    style.plain(axes)
    axes.grid(axis="x", alpha=0.25)
