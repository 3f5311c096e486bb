"""A bench's result in words and rows: what the terminal shows and what the page holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, assert_never

from hspc_live.bench.compare import Comparison
from hspc_live.bench.figures import number

Found = Mapping[str, Any]
Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
TITLES: Final = {
    "engine": "Engines",
    "segment": "Segmentation",
    "link": "Links between processes",
    "record": "Recording",
    "pipeline": "Pipeline",
}
_ENGINE_HEAD: Final = ("engine", "batch", "cells/s", "range", "p50 ms", "p99 ms", "same", "Δp", "× eager", "of limit")
_SEGMENT_HEAD: Final = ("picture", "objects", "ms", "range", "skimage", "×", "bare pass")
_LOAD_HEAD: Final = ("load", "offered", "in time", "p50 ms", "p99 ms", "p99.9 ms", "met", "dropped")
_RECORD: Final = (
    ("record", "recording", None),
    ("plain", "plain file", "of_plain"),
    ("filter", "HDF5's filter alone", "of_filter"),
    ("compress", "compression alone", "of_compress"),
)


def table(found: Found) -> Table:
    """Head and rows of the main table of a result."""
    match found["bench"]:
        case "engine":
            return _ENGINE_HEAD, [_engine_row(row) for row in found["engines"]]
        case "segment":
            return _SEGMENT_HEAD, [_segment_row(row) for row in found["segment"]]
        case "link":
            return ("frame", "by", "MB/s", "range", "of memcpy"), [
                (
                    " × ".join(map(str, row["frame"])),
                    way.replace("_", " "),
                    *_rate(row, way),
                    f"{row['of_memcpy'][way]:g}",
                )
                for row in found["pixels"]
                for way in row["MB_per_s"]
            ]
        case "record":
            return ("frames", "what", "MB/s", "range", "record is"), [
                (row["frames"], what, *_rate(row, way), "" if ratio is None else f"{row[ratio]:g} of it")
                for row in found["record"]
                for way, what, ratio in _RECORD
                if way in row["MB_per_s"]
            ]
        case "pipeline":
            return _LOAD_HEAD, [_load_row(row) for row in found["load"]]
        case other:
            raise ValueError(f"no bench is called {other}")


def narrow(wide: Table) -> Table:
    """A table without its ranges, for a terminal: the page and the JSON have them."""
    head, rows = wide
    kept = [place for place, name in enumerate(head) if name != "range"]
    return tuple(head[place] for place in kept), [tuple(row[place] for place in kept) for row in rows]


def findings(found: Found) -> Iterator[str]:
    """Sentences: what stands beside what."""
    match found["bench"]:
        case "engine":
            best = max(found["engines"], key=lambda row: row["cells_per_s"])
            yield (
                f"Quickest: {best['choice']} ({best['precision']}) at {best['bucket']} cells a batch, "
                f"{number(best['cells_per_s'])} cells/s, {best['of_eager']:g} × plain eager at this batch and "
                f"{best['of_limit']:g} of the arithmetic limit of {number(found['limit_cells_per_s'])} cells/s."
            )
            limit = found["limits"][0]
            yield (
                f"Limit: {number(found['flop_per_cell'] / 1e9)} GFLOP a cell at the {limit['precision']} matrix "
                f"rate of {number(limit['gflop_per_s'])} GFLOP/s ({limit['edge']} × {limit['edge']}, same run). "
                f"Scores of {found['crops']} are held against plain eager's: same first class, largest difference Δp."
            )
            yield from (f"{one['engine']} was not measured: {one['reason']}" for one in found["not_measured"])
        case "segment":
            yield (
                "CPU time of one core, ms a picture; scikit-image sees the same pictures in turn (×: how many times as "
                "fast ours is). A bare pass over the memory reads picture and background and writes their difference."
            )
        case "link":
            said = found["messages"]
            yield "Small messages: " + "; ".join(
                f"{name}: {number(rates['round_trips_per_s'])} round trips/s, {number(rates['messages_per_s'])} "
                "messages/s one way"
                for name, rates in said.items()
            )
        case "record":
            yield (
                "Record: frames into a recording, flushed twice a second. Plain: the same frames into a file as they "
                "are. Filter, compression: compressed and dropped; the filter fetches memory for every frame, too, as "
                "HDF5 has it. The recording compresses in a thread of its own. Nobody waits for the disk itself."
            )
        case "pipeline":
            yield from _pipeline(found)
        case other:
            raise ValueError(f"no bench is called {other}")


def _pipeline(found: Found) -> Iterator[str]:
    low, high = found["cells_per_s_range"]
    yield (
        f"As fast as frames are taken: {number(found['cells_per_s'])} cells/s ({number(low)} to {number(high)}), "
        f"{number(found['frames_per_s'])} frames/s; the engine alone {number(found['engine_cells_per_s'])} cells/s."
    )
    stages = ", ".join(f"{name.replace('_', ' ')} {us:g}" for name, us in found["us_per_cell"].items())
    yield (f"CPU time of each stage, µs a cell: {stages}; beyond the engine {found['us_per_cell_beyond_engine']:g}.")
    if found["load"]:
        lightest = found["load"][0]
        p99 = lightest["beyond_engine_ms"]["p99"]
        if p99 is not None:
            yield (
                f"Lightest load ({number(lightest['offered_cells_per_s'])} cells/s): "
                f"{lightest['beyond_engine_ms']['p50']:g} ms median and {p99:g} ms at 99 % from mid-exposure to "
                "verdict, beyond what the engine takes for one cell."
            )
        top = found["knee"]
        if top is None:
            yield "Knee: even the lightest load was not carried."
        else:
            beyond = top["limited_by"]
            yield f"Knee: {number(top['cells_per_s'])} cells/s; " + (
                f"{beyond}." if beyond is not None else "no load was too much, so it lies beyond."
            )
    memory = found["memory"]
    if memory is not None:
        yield (
            f"Memory over {memory['seconds']:g} s and {memory['cells']:,} cells: {memory['rss_first_mib']:g} MiB at "
            f"first, {memory['rss_last_mib']:g} MiB at last, slope {memory['slope_mib_per_min']:+g} MiB a minute."
        )
    elif found["asked"]["for_s"] is not None:
        yield "Memory: not measured (no /proc on this system, or too short a run)."


def comparison(compared: Comparison) -> Table:
    """Every figure of both results, those that changed first."""
    order = ("worse", "better", "same", "unknown")
    rows: list[tuple[str, ...]] = [
        (
            change.name,
            change.before.words(),
            change.after.words(),
            "–" if change.ratio is None else f"{change.ratio:.3g}",
            _verdict(change.verdict),
        )
        for change in sorted(compared.changes, key=lambda change: order.index(change.verdict))
    ]
    return ("figure", "before", "after", "ratio", ""), rows


def _verdict(verdict: Any) -> str:
    match verdict:
        case "better" | "worse":
            return str(verdict).upper()
        case "same":
            return "within the spread"
        case "unknown":
            return "one repeat: cannot be told"
        case _:
            assert_never(verdict)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.3g} %"


def _ms(value: float | None) -> str:
    return "–" if value is None else number(value)


def _range(low_high: list[float]) -> str:
    return "–".join(f"{value:,.0f}" if value >= 1000 else f"{value:.3g}" for value in low_high)


def _rate(row: Found, way: str) -> tuple[str, str]:
    return number(row["MB_per_s"][way]), _range(row["MB_per_s_range"][way])


def _engine_row(row: Found) -> tuple[str, ...]:
    name, precision = row["choice"], row["precision"]
    return (
        name if name.endswith(f"/{precision}") else f"{name} {precision}",
        str(row["bucket"]),
        number(row["cells_per_s"]),
        _range(row["cells_per_s_range"]),
        number(row["p50_ms"]),
        number(row["p99_ms"]),
        "–" if row["top1_agreement"] is None else f"{row['top1_agreement']:.3g}",
        "–" if row["max_dp"] is None else f"{row['max_dp']:.1g}",
        f"{row['of_eager']:g}",
        f"{row['of_limit']:.2g}",
    )


def _segment_row(row: Found) -> tuple[str, ...]:
    faster = row["times_as_fast_as_peer"]
    return (
        row["case"],
        f"{row['objects']:g}",
        number(row["ms"]),
        _range(row["ms_range"]),
        _ms(row["peer_ms"]),
        "–" if faster is None else f"{faster:g}",
        f"{row['memory_pass_ms']:.2g}",
    )


def _load_row(row: Found) -> tuple[str, ...]:
    return (
        f"{row['share']:g}",
        number(row["offered_cells_per_s"]),
        number(row["decided_cells_per_s"]),
        *(_ms(row["latency_ms"][name]) for name in ("p50", "p99", "p999")),
        _share(row["deadline_met_fraction"]),
        _share(row["dropped_fraction"]),
    )
