"""One HTML page that holds a whole report and opens without a network: words, tables, and the figures themselves."""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment

from hspc_live.core.errors import OutputError

PAGE: Final = "report.html"
METRICS: Final = "metrics.json"
_KINDS: Final = {".svg": "image/svg+xml", ".png": "image/png"}

# escaped throughout: class names and file names come from people's data
_TEMPLATE: Final = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; }
h2 { font-size: 1.2rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
.source { color: #555; margin-top: .2rem; }
table { border-collapse: collapse; margin: .8rem 0; display: block; overflow-x: auto; }
th, td { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { border-bottom: 2px solid #888; }
img { max-width: 100%; }
details pre { overflow-x: auto; background: #f6f6f6; padding: .8rem; font-size: .8rem; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p class="source">{{ source }}</p>
{% for panel in panels %}
<section>
<h2>{{ panel.title }}</h2>
{% for paragraph in panel.text %}
<p>{{ paragraph }}</p>
{% endfor %}
{% if panel.rows %}
<table>
<tr>{% for head in panel.head %}<th>{{ head }}</th>{% endfor %}</tr>
{% for row in panel.rows %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</table>
{% endif %}
{% for name, data in panel.pictures %}
<img alt="{{ name }}" src="{{ data }}">
{% endfor %}
</section>
{% endfor %}
<details><summary>All figures as JSON ({{ metrics_file }})</summary><pre>{{ metrics }}</pre></details>
</body>
</html>
""")


@dataclass(frozen=True, slots=True)
class Panel:
    """One part of a page: a heading, paragraphs, a table of texts, figures (SVG or PNG files, best one a figure)."""

    title: str
    text: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    figures: tuple[Path, ...] = ()

    @property
    def pictures(self) -> list[tuple[str, str]]:
        """Name and data URI of every figure. Raises OSError for one that cannot be read."""
        return [
            (path.stem, f"data:{_KINDS[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}")
            for path in self.figures
        ]


def write_page(
    folder: Path, title: str, source: str, panels: Sequence[Panel], metrics: Mapping[str, Any]
) -> list[Path]:
    """Write `metrics.json` and `report.html` into `folder`; returns both.

    `source` says whose data it is and how much of it. Raises OutputError where they cannot be written.
    """
    text = metrics_text(metrics)
    html = _TEMPLATE.render(title=title, source=source, panels=panels, metrics=text, metrics_file=METRICS)
    paths = [folder / METRICS, folder / PAGE]
    try:
        for path, content in zip(paths, (text, html), strict=True):
            partial = path.with_name(path.name + ".partial")  # a kill leaves a whole file or none
            partial.write_text(content, encoding="utf-8")
            os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"{folder}: the report cannot be written: {error.strerror or error}") from error
    return paths


def metrics_text(metrics: Mapping[str, Any]) -> str:
    """JSON, indented; what is not a number becomes null, because NaN is no JSON."""
    return json.dumps(_finite(metrics), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    match value:
        case Mapping():
            return {str(key): _finite(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value
