"""Two results of the same bench side by side: what changed by more than the repeats of either differ.

A figure has changed where the two ranges (least to greatest of the repeats) do not overlap. A single repeat has no
range, so of such a figure it cannot be told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hspc_live.bench.figures import FORMAT, Figure
from hspc_live.core.errors import SettingsError

Verdict = Literal["better", "worse", "same", "unknown"]
METRICS = "metrics.json"


@dataclass(frozen=True, slots=True)
class Change:
    """One figure in both results; `ratio` is the second's median over the first's (None where that is 0)."""

    name: str
    before: Figure
    after: Figure
    ratio: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Comparison:
    """`changes` of what both measured; names that only one has; what makes them hard to compare, in words."""

    bench: str
    changes: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    warnings: tuple[str, ...]


def read_bench(path: Path) -> dict[str, Any]:
    """The JSON of a bench, from its file or from its folder of results. Raises SettingsError if it is none."""
    file = path / METRICS if path.is_dir() else path
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{file}: is no JSON; give what `hspc-live bench … --json` printed") from error
    if not isinstance(found, dict) or not {"bench", "figures", "machine", "format"} <= found.keys():
        raise SettingsError(f"{file}: is no result of a bench; give what `hspc-live bench … --json` printed")
    if found["format"] != FORMAT:
        raise SettingsError(f"{file}: is of format {found['format']}, this program reads {FORMAT}; measure again")
    return found


def compare(before: Path, after: Path) -> Comparison:
    """Hold `after` against `before`. Raises SettingsError where they are not results of the same bench."""
    first, second = read_bench(before), read_bench(after)
    if first["bench"] != second["bench"]:
        raise SettingsError(
            f"{before} is of `bench {first['bench']}`, {after} of `bench {second['bench']}`: only results of the same "
            "bench can be compared"
        )
    ours, theirs = _figures(first, before), _figures(second, after)
    return Comparison(
        first["bench"],
        tuple(_change(name, ours[name], theirs[name]) for name in ours if name in theirs),
        tuple(name for name in ours if name not in theirs),
        tuple(name for name in theirs if name not in ours),
        tuple(_warnings(first, second)),
    )


def _figures(found: dict[str, Any], path: Path) -> dict[str, Figure]:
    try:
        return {name: Figure(**figure) for name, figure in found["figures"].items()}
    except (TypeError, AttributeError) as error:
        raise SettingsError(f"{path}: its figures are not those of a bench; measure again") from error


def _change(name: str, before: Figure, after: Figure) -> Change:
    ratio = after.median / before.median if before.median else None
    return Change(name, before, after, ratio, _verdict(before, after))


def _verdict(before: Figure, after: Figure) -> Verdict:
    if before.n < 2 or after.n < 2:
        return "unknown"
    if after.min > before.max:
        return "better" if after.better == "higher" else "worse"
    if after.max < before.min:
        return "worse" if after.better == "higher" else "better"
    return "same"


def _warnings(first: dict[str, Any], second: dict[str, Any]) -> Iterator[str]:
    """Where the two were not measured alike."""
    ours, theirs = first["machine"], second["machine"]
    for key in ("cpu", "cores", "gpu", "system", "python"):
        if ours.get(key) != theirs.get(key):
            yield f"different machines: {key} {_said(ours.get(key))} against {_said(theirs.get(key))}"
    old, new = ours.get("versions", {}), theirs.get("versions", {})
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield f"different versions: {name} {_said(old.get(name))} against {_said(new.get(name))}"
    mine, yours = first.get("asked", {}), second.get("asked", {})
    for key in sorted(mine.keys() | yours.keys()):
        if mine.get(key) != yours.get(key):
            yield f"asked differently: {key} {_said(mine.get(key))} against {_said(yours.get(key))}"


def _said(value: Any) -> str:
    match value:
        case None:
            return "none"
        case dict():
            return str(value.get("name", value))
        case list():
            return ", ".join(map(str, value))
        case _:
            return str(value)
