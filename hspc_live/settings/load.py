"""Settings of a run, put together from file < environment < command line, and checked as a whole.

A mistake costs a person a run, so every problem is found before anything starts, all of them are listed at once, and
each line says where the mistake stands: file and line, environment variable or command line, then key path and mend.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from hspc_live.core.errors import SettingsError
from hspc_live.settings.base import Section
from hspc_live.settings.chamber_consistency import chamber_contradictions
from hspc_live.settings.chamber_run import ChamberRunSettings
from hspc_live.settings.consistency import contradictions
from hspc_live.settings.document import Document, KeyPath, dotted, parse, parse_value, read
from hspc_live.settings.explain import explain
from hspc_live.settings.schema import RunSettings
from hspc_live.settings.sort import Outlet, OutletsSection

PREFIX = "HSPC_LIVE__"

AnySection = TypeVar("AnySection", bound=Section)
AnyRun = RunSettings | ChamberRunSettings

# Keys that name a file or folder: in a settings file they are relative to that file, not to where one happens to be.
PATH_KEYS: tuple[tuple[str, ...], ...] = (
    ("camera", "path"),
    ("camera", "core", "config"),
    ("camera", "core", "adapters"),
    ("record", "path"),
    ("engine", "model"),
    ("door", "keys", "secret"),
    ("door", "keys", "allow"),
    ("sorter", "keys", "secret"),
    ("sorter", "keys", "allow"),
)


def load_run(path: Path | str, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> AnyRun:
    """Settings from a YAML file, the environment and the command line; what comes later wins. `mode` tells what run.

    `overrides` are `key.path=value` (list items by number: `sort.outlets.0.mode=recovery`); `environ` defaults to the
    process's own, of which variables like `HSPC_LIVE__SORT__TIMING__JUNCTION_UM` are read. Relative paths in the file
    are relative to its folder, those of the environment or command line to the current folder. Raises SettingsError
    listing every problem, a line each.
    """
    file = Path(path).expanduser()
    return _build(read(file), file.absolute().parent, overrides, os.environ if environ is None else environ)


def load(path: Path | str, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> RunSettings:
    """The settings of a flow run, as `load_run` reads them. Raises SettingsError for those of a chamber, too."""
    return _flow(load_run(path, overrides, environ), str(path))


def load_chamber(path: Path | str, overrides: Sequence[str] = ()) -> ChamberRunSettings:
    """The settings of a chamber run, as `load_run` reads them. Raises SettingsError for those of a flow, too."""
    # looked at first: what a command sets of a chamber would only be an unknown key of a flow
    if "mode" in read(Path(path).expanduser()).values or any(text.startswith("mode=") for text in overrides):
        settings = load_run(path, overrides)
        if isinstance(settings, ChamberRunSettings):
            return settings
    raise SettingsError(f"{path}: these are the settings of a flow: give a rig with a stage (`mode: chamber`)")


def load_run_text(text: str, source: str, overrides: Sequence[str] = ()) -> AnyRun:
    """Settings from YAML or JSON text, e.g. those kept in a recording, named `source` in errors.

    The environment is left out on purpose: recorded settings mean what they meant then.
    """
    return _build(parse(text, source), None, overrides, {})


def load_text(text: str, source: str, overrides: Sequence[str] = ()) -> RunSettings:
    """The settings of a flow run, as `load_run_text` reads them. Raises SettingsError for those of a chamber, too."""
    return _flow(load_run_text(text, source, overrides), source)


def load_section(path: Path | str, section: type[AnySection], overrides: Sequence[str] = ()) -> AnySection:
    """A YAML file of another kind than a run's (a training file), told in the same words what is wrong with it.

    `overrides` are `key.path=value`, as for `load_run`. Raises SettingsError listing every problem, a line each.
    """
    document = read(Path(path).expanduser())
    layers = _Layers(document, document.values)
    for key_path, value, origin in sorted(
        _from_command_line(overrides, layers.problems), key=lambda item: item[0][-1] != "kind"
    ):
        layers.put(key_path, value, origin)
    try:
        found = section.model_validate(layers.values)
    except ValidationError as error:
        raise SettingsError(layers.lines(explain(error, section))) from None
    if layers.problems:
        raise SettingsError(layers.lines([]))
    return found


def load_outlets(text: str, source: str) -> tuple[Outlet, ...]:
    """Outlets from YAML or JSON text, named `source` in errors: `outlets: […]` alone, or a whole run's settings.

    Raises SettingsError listing every problem, a line each.
    """
    document = parse(text, source)
    if set(document.values) != {"outlets"}:
        return _flow(_build(document, None, (), {}), source).sort.outlets
    try:
        return OutletsSection.model_validate(document.values).outlets
    except ValidationError as error:
        layers = _Layers(document, document.values)
        raise SettingsError(layers.lines(explain(error, OutletsSection))) from None


@dataclass(slots=True)
class _Layers:
    """The merged values, and where each key that a later layer set has come from."""

    document: Document
    values: dict[str, Any]
    origins: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def place(self, path: KeyPath) -> str:
        """Where `path` was set: the variable, the command line, or the file and the nearest line known."""
        for end in range(len(path), 0, -1):
            if (origin := self.origins.get(path[:end])) is not None:
                return origin
            if (line := self.document.lines.get(path[:end])) is not None:
                return f"{self.document.source}:{line}"
        return self.document.source

    def lines(self, found: Iterable[tuple[KeyPath, str]]) -> str:
        """All problems, each with its place, a line each."""
        told = (
            f"{self.place(path)}: {dotted(path)}: {text}" if path else f"{self.place(path)}: {text}"
            for path, text in found
        )
        return "\n".join([*self.problems, *told])

    def put(self, path: KeyPath, value: Any, origin: str) -> None:
        """Set one key, making the sections on the way. Another `kind` starts its section afresh."""
        parent: Any = self.values
        for at, key in enumerate(path[:-1]):
            child = _child(parent, key)
            if child is None and isinstance(parent, dict) and isinstance(path[at + 1], str):
                child = parent[key] = {}
            if not isinstance(child, dict | list):
                self.problems.append(f"{origin}: {dotted(path)}: there is no section {dotted(path[: at + 1])}")
                return
            parent = child
        last = path[-1]
        if isinstance(parent, dict):
            if last == "kind" and parent.get("kind") != value:
                parent.clear()  # the keys of one kind mean nothing to another
            parent[str(last)] = value
        elif isinstance(last, int) and last < len(parent):
            parent[last] = value
        else:
            self.problems.append(f"{origin}: {dotted(path)}: the list {dotted(path[:-1])} has {len(parent)} items")
            return
        self.origins[path] = origin


def _child(parent: Any, key: str | int) -> Any:
    match parent, key:
        case dict(), _:
            return parent.get(key)
        case list(), int() if key < len(parent):
            return parent[key]
        case _:
            return None


def _build(document: Document, folder: Path | None, overrides: Sequence[str], environ: Mapping[str, str]) -> AnyRun:
    layers = _Layers(document, document.values)
    if folder is not None:
        _anchor_paths(layers.values, folder)
    for layer in (_from_environment(environ, layers.problems), _from_command_line(overrides, layers.problems)):
        # `kind` first: it may clear its section, and must not clear what the same layer says about it
        for path, value, origin in sorted(layer, key=lambda item: item[0][-1] != "kind"):
            layers.put(path, value, origin)
    if (mode := layers.values.get("mode", "chamber")) != "chamber":
        wrong = f"expected 'chamber', found {mode!r}; leave the key out for a flow"
        raise SettingsError(layers.lines([(("mode",), wrong)]))
    model = ChamberRunSettings if "mode" in layers.values else RunSettings
    try:
        settings = model.model_validate(layers.values)
    except ValidationError as error:
        raise SettingsError(layers.lines(explain(error, model))) from None
    found = contradictions(settings) if isinstance(settings, RunSettings) else chamber_contradictions(settings)
    if text := layers.lines(found):
        raise SettingsError(text)
    return settings


def _flow(settings: AnyRun, source: str) -> RunSettings:
    if isinstance(settings, RunSettings):
        return settings
    raise SettingsError(f"{source}: mode: chamber: these are the settings of a chamber; `hspc-live run` takes them")


def _anchor_paths(values: dict[str, Any], folder: Path) -> None:
    for *sections, key in PATH_KEYS:
        inside: Any = values
        for section in sections:
            inside = _child(inside, section)
        if not isinstance(inside, dict):
            continue
        match inside.get(key):
            case str() as text if sections == ["engine"] and not ("/" in text or "\\" in text or text.startswith(".")):
                pass  # the name of a shipped model
            case str() as text:
                inside[key] = str(folder / Path(text).expanduser())
            case list() as texts:
                inside[key] = [str(folder / Path(t).expanduser()) if isinstance(t, str) else t for t in texts]
            case _:
                pass


Entry = tuple[KeyPath, Any, str]


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> list[Entry]:
    entries: list[Entry] = []
    for name in sorted(environ):
        if name.startswith(PREFIX):
            origin = f"environment variable {name}"
            path = _key_path(name.removeprefix(PREFIX).lower().split("__"))
            _append(entries, path, environ[name], origin, problems)
    return entries


def _from_command_line(overrides: Sequence[str], problems: list[str]) -> list[Entry]:
    entries: list[Entry] = []
    for text in overrides:
        key, equals, value = text.partition("=")
        path = _key_path(key.strip().split("."))
        if not equals:
            problems.append(f"command line: {text!r}: expected `key.path=value`")
            continue
        _append(entries, path, value, "command line", problems)
    return entries


def _append(entries: list[Entry], path: KeyPath, text: str, origin: str, problems: list[str]) -> None:
    if not all(part != "" for part in path):
        problems.append(f"{origin}: the key path {dotted(path)!r} has an empty part")
        return
    try:
        value = text.strip() if path[-1] == "kind" else parse_value(text, origin)
    except SettingsError as error:
        problems.append(f"{origin}: {dotted(path)}: {error}")
        return
    entries.append((path, value, origin))


def _key_path(parts: Sequence[str]) -> KeyPath:
    return tuple(int(part) if part.isascii() and part.isdigit() else part for part in parts)
