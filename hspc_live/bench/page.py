"""A bench's folder of results: figures, metrics.json, and one page that holds it all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hspc_live.bench.draw import draw
from hspc_live.bench.machine import machine_words
from hspc_live.bench.words import TITLES, findings, table
from hspc_live.report.page import Panel, write_page


def write_bench(folder: Path, found: Mapping[str, Any]) -> list[Path]:
    """Write figures (PNG, SVG), metrics.json and report.html; returns their paths. Raises OutputError."""
    source = machine_words(found["machine"])
    figures = draw(found, folder, source)
    head, rows = table(found)
    versions = ", ".join(f"{name} {version}" for name, version in found["machine"]["versions"].items())
    panels = [
        Panel(
            "What was found", tuple(findings(found)), figures=tuple(path for path in figures if path.suffix == ".svg")
        ),
        Panel("Figures", (), head, tuple(rows)),
        Panel(
            "How it was measured",
            (
                f"{source}.",
                f"Versions: {versions}.",
                f"{found['made']}, in {found['took_s']:g} s; median of {found['asked']['repeats']} repeats with the "
                "least and the greatest, warm-up apart; what is compared took turns within every repeat.",
            ),
        ),
    ]
    return [*figures, *write_page(folder, f"Bench: {TITLES[found['bench']]}", source, panels, found)]
