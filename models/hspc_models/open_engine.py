"""From the `engine` section of the settings to a running engine. The only place that knows all engines."""

from __future__ import annotations

from typing import assert_never

from hspc_live.core.protocols import Engine
from hspc_live.settings.schema import NullEngine, TorchEager
from hspc_models.card import find_model, load_network
from hspc_models.engines.null import ImmediateEngine


def open_engine(settings: TorchEager | NullEngine) -> Engine:
    """Build the engine that `settings` names, not yet warmed up. Raises ModelError."""
    match settings:
        case TorchEager():
            from hspc_models.engines.torch_eager import TorchEagerEngine  # torch is imported only where it works

            card, network = load_network(find_model(settings.model))
            return TorchEagerEngine(card, network, settings.device, settings.threads, settings.buckets)
        case NullEngine():
            return ImmediateEngine(settings.classes)
        case _:
            assert_never(settings)
