"""What `dataset inspect` leaves: a contact sheet, the share of cells with their signal, one page with all numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hspc_live.core.values import Pixels
from hspc_live.report import style
from hspc_live.report.contact_sheet import draw_contact_sheet
from hspc_live.report.page import Panel, write_page
from hspc_live.report.rate_marks import MARKERS, dot, foot, shares, short
from hspc_live.report.saving import save_both

Metrics = Mapping[str, Any]

_MANY = 60
"""Groups in the page's table; metrics.json has all."""


def write_dataset(
    folder: Path, metrics: Metrics, images: Pixels, rows_of: Mapping[str, Sequence[int]], counts: Mapping[str, int],
    source: str,
) -> list[Path]:  # fmt: skip
    """Write the figures, metrics.json and report.html of a summary of crops (n, S, S); returns all.

    `rows_of`: the crops to show of each class; `counts`: crops by class. Raises OutputError.
    """
    shown = {name: counts[name] for name in rows_of}
    files = draw_contact_sheet(images, rows_of, shown, metrics["um_per_px"], folder, source)
    panels = [
        Panel(
            "The crops", tuple(_facts(metrics)), ("group", *counts, "all"), tuple(_table(metrics, counts)), (files[0],)
        )
    ]
    if any(metrics["fluorescence"].values()):
        drawn = save_both(signal_figure(metrics, source), folder, "signal")
        files += drawn
        head = ("channel", "class", "measured", "with signal (95 % interval)", "from, counts")
        panels.append(Panel("Fluorescence", tuple(_expected(metrics)), head, tuple(_signals(metrics)), (drawn[1],)))
    if metrics["warnings"]:
        panels.append(Panel("Warnings", tuple(metrics["warnings"])))
    if metrics["notes"]:
        panels.append(Panel("Notes", tuple(metrics["notes"])))
    title = f"{metrics['n']:,} labelled crops"
    return [*files, *write_page(folder, title, f"{source}; {metrics['provenance']}", panels, metrics)]


def signal_figure(metrics: Metrics, source: str) -> Figure:
    """Of each class, the share of measured cells that are brighter than the threshold of each channel."""
    figure = style.new_figure(4.4)
    style.heading(figure, "How many cells of each class have a signal", source)
    axes = figure.add_axes((0.07, 0.2, 0.6, 0.6))
    channels = {channel: found for channel, found in metrics["fluorescence"].items() if found}
    names = list(dict.fromkeys(name for found in channels.values() for name in found))
    colours = style.class_colours(list(channels))
    for step, (channel, found) in enumerate(channels.items()):
        for name, one in found.items():
            x = names.index(name) + (step - (len(channels) - 1) / 2) * 0.6 / len(channels)
            dot(axes, x, one["share"], one, colours[channel], MARKERS[step % len(MARKERS)])
        label = f"{short(channel)}: above {next(iter(found.values()))['threshold']:.4g} counts"
        axes.plot([], [], MARKERS[step % len(MARKERS)], color=colours[channel], mec=style.INK, mew=0.6, label=label)
    if (expected := metrics["expected_signal"]) is not None:
        axes.axhline(expected["paper"], color=style.GREY, lw=1, ls="--", label="the paper's 96 % of expected cells")
    shares(axes, "share of measured cells")
    axes.set_xlim(-0.5, len(names) - 0.5)
    measured = {
        name: "/".join(str(found[name]["measured"]) for found in channels.values() if name in found) for name in names
    }
    most = max(8, 54 // len(names))
    axes.set_xticks(np.arange(len(names)), [f"{short(name, most)}\nn = {measured[name]}" for name in names])
    axes.legend(frameon=False, fontsize=style.NORMAL, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    foot(figure, "Bars: Wilson's 95 % intervals. n: cells measured, by channel.")
    return figure


def _facts(metrics: Metrics) -> Iterator[str]:
    light, copies = metrics["intensity"], metrics["duplicates"]
    scale = "unknown scale" if metrics["um_per_px"] is None else f"{metrics['um_per_px']:g} µm a pixel"
    yield f"Crops of {metrics['crop_px']} × {metrics['crop_px']} pixels, {metrics['dtype']}, {scale}."
    yield (
        f"Grey values {light['low']} to {light['high']}; {light['flat']} crops without any contrast, "
        f"{light['clipped_bright']} clipped at the bright end, {light['clipped_dark']} at the dark end."
    )
    yield (
        f"Copies: {copies['exact_copies']} pixel by pixel, {copies['near_sets']} pictures that occur shifted, turned, "
        f"mirrored or brightened; {copies['different_pictures']} different pictures. {copies['across_classes']} occur "
        f"with different classes, {copies['across_groups']} in several groups."
    )


def _table(metrics: Metrics, counts: Mapping[str, int]) -> Iterator[tuple[str, ...]]:
    groups = metrics["groups"]
    for name, has in list(groups.items())[:_MANY]:
        yield name, *(str(has.get(kind, 0)) for kind in counts), str(sum(has.values()))
    if len(groups) > _MANY:
        yield f"… of {len(groups)} groups", *("" for _ in counts), ""
    yield "all", *map(str, counts.values()), str(metrics["n"])


def _expected(metrics: Metrics) -> Iterator[str]:
    if (one := metrics["expected_signal"]) is not None:
        yield (
            f"Cells with the signal that their class should have: {style.per_cent(one['share'], 1)} (95 % interval "
            f"{style.per_cent(one['low'], 1)} to {style.per_cent(one['high'], 1)}), n = {one['n']}; the paper: more "
            f"than {style.per_cent(one['paper'])}."
        )


def _signals(metrics: Metrics) -> Iterator[tuple[str, ...]]:
    for channel, found in metrics["fluorescence"].items():
        for name, one in found.items():
            share = f"{style.per_cent(one['share'], 1)} ({style.per_cent(one['low'], 1)} to "
            share += f"{style.per_cent(one['high'], 1)})"
            yield channel, name, str(one["measured"]), share, f"{one['threshold']:.4g}"
