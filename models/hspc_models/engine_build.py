"""Building engines on this machine, and finding those that were: what each is built for, how it is judged and timed.

An engine is built, measured against plain float32 torch on held-out crops, and kept only if it passes (`parity`).
"""

from __future__ import annotations

import importlib.metadata
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Literal, assert_never

import torch

from hspc_live.core.errors import ModelError
from hspc_live.core.protocols import Engine
from hspc_live.core.values import Pixels
from hspc_live.settings.schema import CudaGraph, OpenVino, TensorRt
from hspc_models.card import Card, find_model, load_network
from hspc_models.engine_cache import EngineKey, Entry, graph_of, store
from hspc_models.engine_crops import JUDGE, engine_crops
from hspc_models.engines import cuda_graph, openvino_cpu, tensorrt
from hspc_models.engines.torch_eager import TorchEagerEngine
from hspc_models.network import CellNet
from hspc_models.parity import THRESHOLDS, Parity, measure
from hspc_models.proof import FILE, proof_of

BuiltEngine = OpenVino | TensorRt | CudaGraph
Say = Callable[[str], None]

_TIMED_BUCKET = 32
_ROUNDS = 15


@dataclass(frozen=True, slots=True)
class Built:
    """What came of building: the cache's entry, None where the engine failed its parity check, and the measurements."""

    entry: Entry | None
    parity: Parity
    cells_per_s: float
    eager_cells_per_s: float

    @property
    def times_eager(self) -> float:
        """How much faster than plain torch, in the same run."""
        return self.cells_per_s / self.eager_cells_per_s


def key_of(settings: BuiltEngine, card: Card) -> EngineKey:
    """What `settings` would be built for here. Raises ModelError where the engine's libraries or device are absent."""
    packages: tuple[str, ...]
    precision: str
    device, capability, driver = _processor(), "", ""
    match settings:
        case OpenVino():
            openvino_cpu.import_openvino()
            packages, precision = ("openvino", *(("nncf",) if settings.precision == "int8" else ())), settings.precision
        case TensorRt():
            tensorrt.import_tensorrt()
            packages, precision = ("torch-tensorrt", "tensorrt", "torch"), settings.precision
            device, capability, driver = _gpu()
        case CudaGraph():
            packages, precision = ("torch",), "fp16"
            device, capability, driver = _gpu()
        case _:
            assert_never(settings)
    return EngineKey(
        engine=settings.kind,
        precision=precision,
        weights_sha256=card.weights.sha256,
        classes=card.classes,
        crop_px=card.crop_px,
        um_per_px=card.um_per_px,
        graph=graph_of(card),
        device=device,
        compute_capability=capability,
        driver=driver,
        versions=tuple((name, _version(name)) for name in ("hspc-live", *packages)),
        buckets=settings.buckets,
    )


def open_built(
    settings: BuiltEngine, card: Card, network: CellNet | None, files: dict[str, bytes], build: str
) -> Engine:
    """The engine made of `files`. `network` is needed where nothing but the weights is kept. Raises ModelError."""
    match settings:
        case OpenVino():
            return openvino_cpu.OpenVinoEngine(
                card, files, settings.precision, build, settings.threads, settings.buckets
            )
        case TensorRt():
            return tensorrt.TensorRtEngine(card, files, settings.precision, build, settings.buckets)
        case CudaGraph():
            assert network is not None
            return cuda_graph.CudaGraphEngine(card, network, settings.buckets)
        case _:
            assert_never(settings)


def build_engine(
    settings: BuiltEngine, calibrate: Path | None = None, say: Say = lambda _: None, judge: int = JUDGE
) -> Built:
    """Build, judge and time; keep it if it passes. Raises ModelError where it cannot be built at all."""
    card, network = load_network(find_model(settings.model))
    key = key_of(settings, card)
    say(f"making crops to judge by, for model {card.name} …")
    crops = engine_crops(card, calibrate, judge)
    say(f"building {settings.kind} in {key.precision} …")
    with tempfile.TemporaryDirectory(prefix="hspc-engine-") as scratch:
        files = _files(settings, card, network, crops.calibrate, Path(scratch))
    eager_network = load_network(find_model(settings.model))[1]  # building may have changed the other's precision
    device: Literal["cpu", "cuda"] = "cpu" if isinstance(settings, OpenVino) else "cuda"
    threads = settings.threads if isinstance(settings, OpenVino) else torch.get_num_threads()
    eager = TorchEagerEngine(card, eager_network, device, threads, settings.buckets)
    engine = open_built(settings, card, network, files, key.sha256)
    try:
        say(f"comparing it with plain torch on {len(crops.judge)} crops …")
        reference = eager.infer(crops.judge)
        thresholds = card.cell_confusion.thresholds if card.cell_confusion is not None else THRESHOLDS
        parity = measure(engine, crops.judge, reference, thresholds=thresholds)
        rates = _rates(engine, eager, crops.judge)
        proof = proof_of(engine, crops.judge, reference)
        p99_ms = engine.warm_up() if parity.passed else {}
    finally:
        engine.close()
        eager.close()
    if not parity.passed:
        return Built(None, parity, *rates)
    about: dict[str, Any] = {
        "parity": parity.to_json(),
        "cells_per_s": rates[0],
        "eager_cells_per_s": rates[1],
        "p99_ms": {str(bucket): ms for bucket, ms in p99_ms.items()},
        "crops": crops.source,
        "model": card.name,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return Built(store(key, {**files, FILE: proof.to_bytes()}, about), parity, *rates)


def _files(settings: BuiltEngine, card: Card, network: CellNet, crops: Pixels, scratch: Path) -> dict[str, bytes]:
    match settings:
        case OpenVino(precision=precision, buckets=buckets):
            return openvino_cpu.build_openvino(card, network, precision, buckets, crops, scratch)
        case TensorRt(precision=precision, buckets=buckets):
            return tensorrt.build_tensorrt(card, network, precision, buckets)
        case CudaGraph():
            return {}
        case _:
            assert_never(settings)


def _rates(engine: Engine, eager: Engine, crops: Pixels) -> tuple[float, float]:
    """Cells a second of both at a bucket of 32 or the largest, in turns; medians."""
    bucket = min((b for b in engine.buckets if b >= _TIMED_BUCKET), default=engine.buckets[-1])
    batch = crops[:bucket]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_ROUNDS):
        for one, taken in zip((engine, eager), times, strict=True):
            began = time.perf_counter()
            one.infer(batch)
            taken.append(time.perf_counter() - began)
    return len(batch) / median(times[0]), len(batch) / median(times[1])


def _processor() -> str:
    """The processor's name and what it can do, as far as the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        found = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        wide = [
            flag
            for flag in ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
            if flag in found["flags"].split()
        ]
        return f"{found['model name']} ({', '.join(wide)})"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


def _gpu() -> tuple[str, str, str]:
    """Name, compute capability, and driver or CUDA version of the GPU. Raises ModelError where there is none."""
    if not torch.cuda.is_available():
        raise ModelError("torch finds no CUDA device here")
    major, minor = torch.cuda.get_device_capability()
    return torch.cuda.get_device_name(), f"{major}.{minor}", f"{_driver()}, CUDA {torch.version.cuda}"


def _driver() -> str:
    try:
        first = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8").splitlines()[0]
    except (OSError, IndexError):
        return "driver unknown"
    return " ".join(first.split())


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
