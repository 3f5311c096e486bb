"""One look for all pictures: colours that colour-blind people can tell apart, words for codes, scale bars, saving.

Figures are 13.66 inches wide, so on a screen of 1366 pixels a point is 1.4 pixels, and nothing is set smaller than
8 points. No state of pyplot is touched: pictures may be drawn in any thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch
from matplotlib.transforms import blended_transform_factory
from numpy.typing import NDArray

from hspc_live.core.values import CellOutcome, CellRecord, Reject

WIDTH_IN: Final = 13.66
DPI: Final = 120
SOFTWARE: Final = "HSPC Live"  # what our PNG files say that they were made by
SMALL, NORMAL, LARGE = 9.0, 10.5, 13.0
INK: Final = "#222222"
GREY: Final = "#8C8C8C"
PALE: Final = "#D0D0D0"

# Okabe & Ito (2008), "Color universal design"
FIXED: Final = {"LT-HSC": "#E69F00", "ST-HSC": "#56B4E9", "MPP": "#009E73"}
FREE: Final = ("#CC79A7", "#D55E00", "#0072B2", "#F0E442")

REJECT_WORDS: Final = {
    Reject.ACCEPTED: "accepted",
    Reject.BORDER: "touches the border",
    Reject.DEBRIS: "debris: too small",
    Reject.CLUSTER: "cluster",
    Reject.NOT_UNIQUE: "too close to another cell",
    Reject.SATURATED: "saturated",
    Reject.BLURRED: "out of focus",
    Reject.UNCROPPABLE: "too near the border",
}

REASON_WORDS: Final = {
    "few_views": "seen too seldom",
    "low_score": "not sure enough",
    "stranger": "taken for a stranger",
    "no_gate": "no gate wants it",
    "coincidence": "a neighbour would come along",
    "late": "too late",
    "refractory": "sorter still busy",
    "arrival_uncertain": "arrival uncertain",
    "crowded": "too crowded to be sure",
    "limit": "outlet is full",
    "disarmed": "sorter not armed",
    "nan_scores": "unusable scores",
    "run_ended": "the run ended",
}


def class_colours(classes: Sequence[str]) -> dict[str, str]:
    """A colour for each class: its own for the blood stem cells, by order for others; never the same one twice."""
    free = [*FREE, *(colour for name, colour in FIXED.items() if name not in classes)]
    unknown = [name for name in classes if name not in FIXED]
    more = colormaps["viridis"](np.linspace(0.05, 0.95, max(0, len(unknown) - len(free))))
    free += [to_hex(colour) for colour in more]
    by_order = dict(zip(unknown, free, strict=False))
    return {name: FIXED.get(name) or by_order[name] for name in classes}


def lighter(colour: str) -> str:
    """The colour half way to white: for words on a dark ground."""
    red, green, blue = to_rgb(colour)
    return to_hex(((1 + red) / 2, (1 + green) / 2, (1 + blue) / 2))


def outcome_words(record: CellRecord) -> str:
    """What became of a cell, for a person."""
    reason = REASON_WORDS.get(record.reason, record.reason.replace("_", " "))
    match record.outcome:
        case CellOutcome.SORTED:
            return f"sorted into {record.outlet}"
        case CellOutcome.PASSED:
            return "passed: not wanted"
        case CellOutcome.ABSTAINED:
            return f"abstained: {reason}"
        case CellOutcome.ABORTED:
            return f"not sorted: {reason}"
        case _:
            return f"no verdict: {reason}"


def new_figure(height_in: float) -> Figure:
    """An empty white figure with a canvas of its own."""
    figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path, software: str = SOFTWARE) -> Path:
    """Write the figure as PNG, which says by what `software` it was made. Raises OSError where it cannot be written."""
    # a low compression level: twice as fast, and a tenth larger
    figure.savefig(path, dpi=DPI, metadata={"Software": software}, pil_kwargs={"compress_level": 3})
    return path


def heading(figure: Figure, title: str, source: str) -> None:
    """Title and, in grey beneath it, whose data this is; both at the top left, a fixed distance from the top."""
    height = figure.get_figheight()
    figure.text(0.02, 1 - 0.14 / height, title, fontsize=LARGE, fontweight="bold", color=INK, va="top")
    figure.text(0.02, 1 - 0.42 / height, source, fontsize=NORMAL, color="#555555", va="top")


def plain(axes: Axes) -> None:
    """Axes with two spines, thin grid and readable ticks."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=NORMAL, colors=INK)
    axes.xaxis.label.set_fontsize(NORMAL + 0.5)
    axes.yaxis.label.set_fontsize(NORMAL + 0.5)
    axes.set_axisbelow(True)


def per_cent(share: float, digits: int = 0) -> str:
    """A share as text, e.g. 0.876 as "88 %"."""
    return f"{100 * share:.{digits}f} %"


def nice_length(span_um: float, share: float = 0.15) -> float:
    """The length for a scale bar: 1, 2 or 5 times a power of ten, the largest that is at most `share` of `span_um`."""
    wanted = max(span_um * share, 1e-6)
    decade = 10.0 ** np.floor(np.log10(wanted))
    return float(max(step * decade for step in (1.0, 2.0, 5.0) if step * decade <= wanted * (1 + 1e-9)))


def scale_bar(axes: Axes, x0_px: float, y: float, um_per_px: float, length_um: float) -> None:
    """A scale bar below an image; `x0_px` in its pixels, `y` as a share of its height (below 0 is outside)."""
    place = blended_transform_factory(axes.transData, axes.transAxes)
    length = length_um / um_per_px
    axes.plot([x0_px, x0_px + length], [y, y], color=INK, lw=3.5, transform=place, clip_on=False, solid_capstyle="butt")
    axes.text(
        x0_px + length * 1.0, y, f"  {length_um:g} µm", transform=place, ha="left", va="center", fontsize=NORMAL,
        color=INK, clip_on=False,
    )  # fmt: skip


def flow_arrow(axes: Axes, y: float) -> None:
    """The direction of flow (+x), below the right end of an image; `y` as `scale_bar` has it."""
    axes.text(0.925, y, "flow", transform=axes.transAxes, ha="right", va="center", fontsize=NORMAL, color=INK)
    arrow = FancyArrowPatch(
        (0.93, y), (1.0, y), transform=axes.transAxes, arrowstyle="-|>", mutation_scale=18, lw=2, color=INK,
        clip_on=False,
    )  # fmt: skip
    axes.add_patch(arrow)


def class_key(colours: dict[str, str]) -> list[Line2D]:
    """Legend lines of the classes."""
    return [Line2D([], [], color=colour, lw=3, label=name) for name, colour in colours.items()]


def contrast(pixels: NDArray[Any], low: float = 0.02, high: float = 99.98) -> tuple[float, float]:
    """Grey levels to show as black and white: percentiles, never closer than 8 levels, so that noise stays dim."""
    black, white = (float(v) for v in np.percentile(pixels, (low, high)))
    middle, half = (black + white) / 2, max((white - black) / 2, 4.0)
    return middle - half, middle + half
