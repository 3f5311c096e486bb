"""Which engines a bench measures: every kind that the settings know, each in every precision that it offers.

Nothing here names an engine but the two that are special: `torch`, the plain peer that all are held against, and those
that are no engine of their own. A kind that is added to the settings is measured from then on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from hspc_live.core.errors import SettingsError
from hspc_live.settings import schema
from hspc_live.settings.base import Section

PEER: Final = "torch"
NO_ENGINES: Final = frozenset({"null", "auto"})
"""Kinds left out unless asked for: one does nothing, the other is one of the rest."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What all engines get, as far as they have such a setting; `threads` None leaves each its own default."""

    model: str
    device: str
    threads: int | None
    buckets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One engine to measure: its name as typed or listed (`kind` or `kind/precision`), and its settings."""

    name: str
    settings: Any


def kinds() -> dict[str, type[Section]]:
    """The engines that settings can name."""
    union = get_args(schema.Engine)[0]
    members = cast("tuple[type[Section], ...]", get_args(union) or (union,))
    return {get_args(member.model_fields["kind"].annotation)[0]: member for member in members}


def choices(names: Sequence[str] | None, asked: Asked) -> list[Choice]:
    """The engines called `names`, or all; `torch` first, as the peer. Raises SettingsError for one that is unknown."""
    known = kinds()
    wanted = list(names) if names is not None else [kind for kind in known if kind not in NO_ENGINES]
    chosen = [choice for name in dict.fromkeys(wanted) for choice in _expand(name, asked, known)]
    if not any(choice.name == PEER for choice in chosen):
        chosen += _expand(PEER, asked, known)
    return sorted(chosen, key=lambda choice: choice.name != PEER)


def _expand(name: str, asked: Asked, known: dict[str, type[Section]]) -> Iterator[Choice]:
    kind, _, precision = name.partition("/")
    section = known.get(kind)
    if section is None:
        raise SettingsError(f"--engines: there is no engine {kind!r}; known are {', '.join(known)}")
    offered = _precisions(section)
    if precision and precision not in offered:
        has = ", ".join(f"{kind}/{one}" for one in offered) or f"only {kind}"
        raise SettingsError(f"--engines: {kind} has no precision {precision!r}; known: {has}")
    if precision or not offered:
        yield Choice(name, _settings(kind, precision, asked, section))
        return
    for one in offered:
        yield Choice(f"{kind}/{one}", _settings(kind, one, asked, section))


def _precisions(section: type[Section]) -> tuple[str, ...]:
    """What its `precision` may be, "auto" left out; nothing where it has no such setting."""
    field = section.model_fields.get("precision")
    if field is None or get_origin(field.annotation) is not Literal:
        return ()
    return tuple(str(value) for value in get_args(field.annotation) if value != "auto")


def _settings(kind: str, precision: str, asked: Asked, section: type[Section]) -> Any:
    given: dict[str, Any] = {
        "model": asked.model,
        "device": asked.device,
        "threads": asked.threads,
        "buckets": asked.buckets,
        "precision": precision or None,
    }
    fields = {key: value for key, value in given.items() if key in section.model_fields and value is not None}
    if (
        kind != PEER
        and "buckets" in fields
        and set(asked.buckets) <= set(section.model_fields["buckets"].default or ())
    ):
        del fields["buckets"]  # sizes that it has anyway: what was built for its own buckets need not be built anew
    try:
        return TypeAdapter(schema.Engine).validate_python({"kind": kind, **fields})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SettingsError(f"the settings of engine {kind} do not fit: {where}: {first['msg']}") from error


def engine_overrides(name: str) -> list[str]:
    """Settings that make `name` (`kind` or `kind/precision`) a run's engine. Raises SettingsError if it is unknown."""
    known = kinds()
    kind, _, precision = name.partition("/")
    if kind not in known:
        raise SettingsError(f"--engine: there is no engine {kind!r}; known are {', '.join(known)}")
    if precision and precision not in _precisions(known[kind]):
        raise SettingsError(f"--engine: {kind} has no precision {precision!r}")
    model = ["engine.model=twin-lsm"] if "model" in known[kind].model_fields else []
    return [f"engine.kind={kind}", *model, *([f"engine.precision={precision}"] if precision else [])]
