"""From the `engine` section of the settings to a running engine. The only place that knows all engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from hspc_live.core.errors import ModelError
from hspc_live.core.protocols import Engine
from hspc_live.settings import schema
from hspc_live.settings.schema import AutoEngine, CudaGraph, NullEngine, OpenVino, TensorRt, TorchEager
from hspc_models.card import Card, find_model, load_card, load_network
from hspc_models.engines.null import ImmediateEngine

if TYPE_CHECKING:  # torch is imported only where it works
    from hspc_models.engine_build import BuiltEngine
    from hspc_models.engine_cache import Entry
    from hspc_models.proof import Proof

BUILD = "hspc-live engine build"
NOT_NOW = (ModelError, MemoryError, RuntimeError)
"""What a runtime raises that has no memory, no driver or no kernel for an engine: a reason for plain torch."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An engine, and what it is held to; None for those that nothing is built for."""

    engine: Engine
    proof: Proof | None = None


def open_engine(settings: schema.Engine) -> Engine:
    """Build the engine that `settings` names, not yet warmed up. Raises ModelError."""
    return open_proven(settings).engine


def open_proven(settings: schema.Engine) -> Opened:
    """As `open_engine`, with its proof. `auto` opens what `ready_engine` would choose. Raises ModelError."""
    match settings:
        case TorchEager():
            from hspc_models.engines.torch_eager import TorchEagerEngine

            card, network = load_network(find_model(settings.model))
            return Opened(TorchEagerEngine(card, network, settings.device, settings.threads, settings.buckets))
        case OpenVino() | TensorRt() | CudaGraph():
            return _open_built(settings)
        case AutoEngine():
            return open_proven(ready_engine(settings, lambda _: None))
        case NullEngine():
            return Opened(ImmediateEngine(settings.classes))
        case _:
            assert_never(settings)


def ready_engine(settings: schema.Engine, say: Callable[[str], None]) -> schema.Engine:
    """The engine that a run will use, in settings that name it and its build. `say` hears what was chosen and why.

    `auto` chooses among the engines that were built here and passed; where there is none it builds one only if
    `build` says so. One that was asked for by name and is not there, or was built for something else, is built now.
    Where that fails, plain torch takes its place.
    """
    match settings:
        case TorchEager() | NullEngine():
            return settings
        case AutoEngine():
            return _fastest(settings, say)
        case OpenVino() | TensorRt() | CudaGraph():
            return _made_ready(settings, say)
        case _:
            assert_never(settings)


def candidates(settings: schema.ModelEngine, threads: int) -> tuple[BuiltEngine, ...]:
    """Every engine that could be built for the model of `settings`."""
    common = {"model": settings.model, "buckets": settings.buckets}
    return (
        TensorRt(kind="tensorrt", **common),
        CudaGraph(kind="cuda-graph", **common),
        OpenVino(kind="openvino", precision="int8", threads=threads, **common),
        OpenVino(kind="openvino", precision="fp32", threads=threads, **common),
    )


def entry_of(settings: BuiltEngine, card: Card) -> Entry:
    """What was built for `settings` here. Raises ModelError that says why there is nothing, and what to do."""
    from hspc_models.engine_build import key_of
    from hspc_models.engine_cache import differences, find

    key = key_of(settings, card)
    entry = find(key)
    if entry is None:
        unlike = "; ".join(differences(key))
        raise ModelError(
            f"no {settings.kind} engine in {key.precision} has been built here for model {card.name}"
            + (f" ({unlike})" if unlike else "")
            + f": `{BUILD} {settings.model}`"
        )
    return entry


def _open_built(settings: BuiltEngine) -> Opened:
    from hspc_models.engine_build import open_built
    from hspc_models.proof import FILE, read_proof

    folder = find_model(settings.model)
    card = load_card(folder)
    entry = entry_of(settings, card)
    files = entry.read()
    network = load_network(folder)[1] if isinstance(settings, CudaGraph) else None
    return Opened(open_built(settings, card, network, files, entry.build), read_proof(files[FILE]))


def _fastest(settings: AutoEngine, say: Callable[[str], None]) -> schema.Engine:
    card = load_card(find_model(settings.model))
    built, reasons = _built_here(settings, card)
    if not built and settings.build:
        reasons = []
        for candidate in _worth_building(settings):
            try:
                _build(candidate, say)
            except ModelError as error:
                reasons.append(f"{candidate.kind}: {error}")
        built = _built_here(settings, card)[0]
    for times, candidate, entry in sorted(built, key=lambda one: one[0], reverse=True):
        if times > 1 and (reason := _fails_now(candidate)) is None:
            say(_chosen(candidate, entry))
            return _named(candidate, entry)
        reasons.append(
            f"{candidate.kind} in {entry.key.precision}: " + ("slower than plain torch" if times <= 1 else f"{reason}")
        )
    plain = TorchEager(model=settings.model, buckets=settings.buckets, threads=settings.threads)
    say("engine auto: plain torch, as there is no faster one: " + "; ".join(reasons))
    return plain


def _built_here(settings: AutoEngine, card: Card) -> tuple[list[tuple[float, BuiltEngine, Entry]], list[str]]:
    """Each engine there is, with how many times as fast as plain torch it was; and why the others are not there."""
    built: list[tuple[float, BuiltEngine, Entry]] = []
    reasons: list[str] = []
    for candidate in candidates(settings, settings.threads):
        try:
            entry = entry_of(candidate, card)
        except ModelError as error:
            reasons.append(str(error))
            continue
        built.append((entry.about["cells_per_s"] / entry.about["eager_cells_per_s"], candidate, entry))
    return built, reasons


def _worth_building(settings: AutoEngine) -> list[BuiltEngine]:
    """Those of the GPU where there is one, else INT8: single precision gains too little for a minute's work."""
    import torch

    on_gpu = torch.cuda.is_available()
    return [
        candidate
        for candidate in candidates(settings, settings.threads)
        if isinstance(candidate, OpenVino) != on_gpu and getattr(candidate, "precision", "") != "fp32"
    ]


def _made_ready(settings: BuiltEngine, say: Callable[[str], None]) -> schema.Engine:
    card = load_card(find_model(settings.model))
    try:
        try:
            entry = entry_of(settings, card)
            entry.read()
        except ModelError as error:
            say(str(error))
            entry = _build(settings, say)
        if (reason := _fails_now(settings)) is not None:
            raise ModelError(f"it does not score as it did when it was built: {reason}")
    except ModelError as error:
        threads = settings.threads if isinstance(settings, OpenVino) else 2
        say(f"engine {settings.kind} cannot be used, plain torch takes its place: {error}")
        return TorchEager(model=settings.model, buckets=settings.buckets, threads=threads)
    if not isinstance(settings, CudaGraph) and settings.build not in ("", entry.build):
        say(
            f"engine {settings.kind}: build {entry.build[:8]} is not the {settings.build[:8]} of these settings, so a "
            "verdict may differ where a score is close to a gate"
        )
    say(_chosen(settings, entry))
    return _named(settings, entry)


def _build(settings: BuiltEngine, say: Callable[[str], None]) -> Entry:
    from hspc_models.engine_build import build_engine

    say(f"engine: none was built on this machine for these settings: {settings.kind} is built now, once (a minute)")
    try:
        built = build_engine(settings, say=say)
    except (MemoryError, RuntimeError) as error:
        raise ModelError(f"it could not be built: {_told(error)}") from error
    if built.entry is None:
        raise ModelError(f"it fails its parity check: {'; '.join(built.parity.failures)}")
    return built.entry


def _fails_now(settings: BuiltEngine) -> str | None:
    """Why the engine, opened now, must not be used."""
    try:
        opened = _open_built(settings)
    except NOT_NOW as error:
        return _told(error)
    try:
        assert opened.proof is not None
        return opened.proof.check(opened.engine)[1]
    except NOT_NOW as error:
        return _told(error)
    finally:
        opened.engine.close()


def _told(error: Exception) -> str:
    """What it says; of a runtime's error the first line, as call stacks follow."""
    if isinstance(error, ModelError):
        return str(error)
    said = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _chosen(settings: BuiltEngine, entry: Entry) -> str:
    times = entry.about["cells_per_s"] / entry.about["eager_cells_per_s"]
    agreement = 100 * entry.about["parity"]["top1_agreement"]
    return (
        f"engine: {settings.kind} in {entry.key.precision}, {times:.1f} times plain torch when it was built, "
        f"top-1 agreement {agreement:.2f} %"
    )


def _named(settings: BuiltEngine, entry: Entry) -> BuiltEngine:
    """`settings` that name the build: it stands in the pipeline's identity, and a recording keeps it."""
    if isinstance(settings, CudaGraph):
        return settings
    return settings.model_copy(update={"build": entry.build})
