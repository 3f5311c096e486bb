"""bench engine: cells a second and milliseconds a batch of every engine, beside plain eager and the arithmetic limit.

Host crops in, host scores out. The engines take turns within every repeat, so that what else runs on the machine slows
all alike. Scores are held against plain eager's on the same crops.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from hspc_live.bench.engine_choice import PEER, Asked, Choice, choices
from hspc_live.bench.figures import Began, Figure, Say, digits, result
from hspc_live.bench.limit import FLOP_PER_CELL, Limit, limits
from hspc_live.core.errors import HspcError, SettingsError
from hspc_live.core.protocols import Engine
from hspc_live.core.values import Pixels
from hspc_live.settings.twin import TwinFlowSettings
from hspc_live.twin.samples import sample_crops
from hspc_models.card import find_model, load_card
from hspc_models.open_engine import open_engine

SEED = 20_240_907  # of the crops; trainings on the twin have others
LEAST_RUNS = 3


@dataclass(frozen=True, slots=True)
class EngineOrder:
    """What to measure. `engines` None is every kind that there is; one that cannot be built is then listed as such."""

    asked: Asked
    engines: tuple[str, ...] | None = None
    repeats: int = 5
    crops: int = 256
    seconds: float = 0.5

    def __post_init__(self) -> None:
        if not self.asked.buckets or min(self.asked.buckets) < 1:
            raise SettingsError(f"--buckets: batch sizes are at least 1, not {', '.join(map(str, self.asked.buckets))}")


@dataclass(slots=True)
class _Running:
    """An open engine, and what has been measured of it: a rate a repeat and all times in ms, by bucket."""

    name: str
    engine: Engine
    rates: dict[int, list[float]] = field(default_factory=dict)
    times_ms: dict[int, list[float]] = field(default_factory=dict)
    warm_s: float = 0.0


def measure_engines(order: EngineOrder, say: Say, opener: Callable[[Any], Engine] = open_engine) -> dict[str, Any]:
    """The whole bench as JSON. Raises SettingsError, ModelError where an engine that was named cannot be built."""
    began = Began.now()
    chosen = choices(order.engines, order.asked)
    buckets = tuple(sorted(set(order.asked.buckets)))
    with contextlib.ExitStack() as open_ones:
        running, missing = _open(chosen, order, open_ones, say, opener)
        peer = running[0].engine
        card = load_card(find_model(order.asked.model))
        crops = sample_crops(TwinFlowSettings(), max(order.crops, buckets[-1]), SEED, geometry=card.geometry).crops
        say(f"scores of {len(crops)} crops in every bucket …")
        agreement = {one.name: _agreements(one.engine, peer, crops, buckets) for one in running}
        device = "cuda" if torch.cuda.is_available() and order.asked.device != "cpu" else "cpu"
        bounds = limits(device)
        rates: dict[str, list[float]] = {bound.precision: [] for bound in bounds}
        for repeat in range(order.repeats):
            say(f"repeat {repeat + 1} of {order.repeats} …")
            for bound in bounds:
                rates[bound.precision].append(bound.flop_per_s(order.seconds))
            for one in running:
                _time(one, crops, buckets, order.seconds)
        rows = [row for one in running for row in _rows(one, agreement[one.name], buckets)]
    flop = FLOP_PER_CELL * (card.crop_px / 64) ** 2 * card.symmetries
    return _result(order, rows, bounds, rates, missing, began, len(crops), flop)


def _open(
    chosen: Sequence[Choice],
    order: EngineOrder,
    open_ones: contextlib.ExitStack,
    say: Say,
    opener: Callable[[Any], Engine],
) -> tuple[list[_Running], list[dict[str, str]]]:
    running: list[_Running] = []
    missing: list[dict[str, str]] = []
    for choice in chosen:
        try:
            engine = opener(choice.settings)
        except HspcError as error:
            if choice.name == PEER or (order.engines is not None and _named(choice.name, order.engines)):
                raise
            say(f"{choice.name}: {error}")
            missing.append({"engine": choice.name, "reason": str(error)})
            continue
        open_ones.callback(engine.close)
        say(f"{choice.name}: {engine.name}, warming up …")
        one = _Running(choice.name, engine)
        begun = time.perf_counter()
        engine.warm_up()
        one.warm_s = time.perf_counter() - begun
        running.append(one)
    return running, missing


def _named(name: str, names: Sequence[str]) -> bool:
    return name in names or name.partition("/")[0] in names


def _time(one: _Running, crops: Pixels, buckets: Sequence[int], seconds: float) -> None:
    """One repeat: every bucket for `seconds`, after one run that does not count."""
    for bucket in buckets:
        batch = cast("Pixels", np.ascontiguousarray(crops[:bucket]))
        one.engine.infer(batch)
        times_ms: list[float] = []
        began = time.perf_counter()
        while len(times_ms) < LEAST_RUNS or time.perf_counter() - began < seconds:
            started = time.perf_counter()
            one.engine.infer(batch)
            times_ms.append((time.perf_counter() - started) * 1e3)
        one.rates.setdefault(bucket, []).append(1e3 * bucket * len(times_ms) / sum(times_ms))
        one.times_ms.setdefault(bucket, []).extend(times_ms)


def _agreements(engine: Engine, peer: Engine, crops: Pixels, buckets: Sequence[int]) -> dict[int, dict[str, Any]]:
    """By bucket: the share of crops with the same first class as plain eager, and the largest difference of a score."""
    if engine.classes != peer.classes:
        return {bucket: {"top1_agreement": None, "max_dp": None, "nan": 0} for bucket in buckets}
    reference = _scores(peer, crops, max(buckets))
    found = {}
    for bucket in buckets:
        scores = _scores(engine, crops, bucket)
        bad = ~np.isfinite(scores).all(axis=1)
        same = (scores.argmax(axis=1) == reference.argmax(axis=1)) & ~bad
        difference = np.abs(scores - reference)[~bad]
        found[bucket] = {
            "top1_agreement": digits(float(same.mean())),
            "max_dp": digits(float(difference.max()), 3) if difference.size else None,
            "nan": int(bad.sum()),
        }
    return found


def _scores(engine: Engine, crops: Pixels, bucket: int) -> NDArray[np.float32]:
    return np.concatenate([engine.infer(crops[at : at + bucket]) for at in range(0, len(crops), bucket)])


def _rows(one: _Running, agreement: Mapping[int, Mapping[str, Any]], buckets: Sequence[int]) -> list[dict[str, Any]]:
    rows = []
    for bucket in buckets:
        rate = Figure.of(one.rates[bucket], "cells/s")
        p50, p99 = (digits(float(v)) for v in np.percentile(one.times_ms[bucket], (50, 99)))
        rows.append(
            {
                "engine": one.engine.name,
                "choice": one.name,
                "precision": one.engine.precision,
                "bucket": bucket,
                "cells_per_s": rate.median,
                "cells_per_s_range": rate.range,
                "p50_ms": p50,
                "p99_ms": p99,
                "runs": len(one.times_ms[bucket]),
                **agreement[bucket],
                "warm_up_s": digits(one.warm_s, 3),
                "_rate": rate,
            }
        )
    return rows


def _result(
    order: EngineOrder,
    rows: list[dict[str, Any]],
    bounds: Sequence[Limit],
    rates: Mapping[str, Sequence[float]],
    missing: list[dict[str, str]],
    began: Began,
    crops: int,
    flop_per_cell: float,
) -> dict[str, Any]:
    figures: dict[str, Figure] = {}
    matrix = []
    for bound in bounds:
        rate = Figure.of([flops / 1e9 for flops in rates[bound.precision]], "GFLOP/s")
        figures[f"matrix product {bound.device} {bound.precision}"] = rate
        matrix.append(
            {
                "device": bound.device,
                "precision": bound.precision,
                "edge": bound.edge,
                "gflop_per_s": rate.median,
                "gflop_per_s_range": rate.range,
                "cells_per_s": digits(rate.median * 1e9 / flop_per_cell),
            }
        )
    limit = matrix[0]["cells_per_s"]
    eager = {row["bucket"]: row["cells_per_s"] for row in rows if row["choice"] == PEER}
    for row in rows:
        row["of_eager"] = digits(row["cells_per_s"] / eager[row["bucket"]], 3)
        row["of_limit"] = digits(row["cells_per_s"] / limit, 3)
        figures[f"{row['choice']} bucket {row['bucket']}"] = row.pop("_rate")
    asked = {
        "engines": None if order.engines is None else list(order.engines),
        "buckets": sorted(set(order.asked.buckets)),
        "model": order.asked.model,
        "device": order.asked.device,
        "threads": order.asked.threads,
        "repeats": order.repeats,
        "seconds": order.seconds,
        "crops": crops,
    }
    details = {
        "engines": rows,
        "not_measured": missing,
        "limit_cells_per_s": limit,
        "limits": matrix,
        "flop_per_cell": flop_per_cell,
        "torch_threads": torch.get_num_threads(),
        "crops": f"{crops} cells of the digital twin, seed {SEED}",
    }
    return result("engine", asked, figures, details, began)
