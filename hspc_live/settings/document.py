"""A settings file as text: YAML turned into plain values, with the line every key stands on.

Settings may come from strangers (they travel inside recordings), so the reader is narrow: no tags, no anchors or
aliases, no duplicate keys, bounded size and depth. Two habits of YAML that surprise people are switched off: a date
stays text, and so does every value of `kind` (or `kind: null` could not name the null engine).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hspc_live.core.errors import SettingsError

MAX_BYTES = 1_000_000
MAX_DEPTH = 32

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """Plain values of one settings text and the line (counted from 1) of each key path in it."""

    source: str
    values: dict[str, Any]
    lines: dict[KeyPath, int] = field(default_factory=dict)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which leaves dates alone."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read(path: Path) -> Document:
    """Read a settings file. Raises SettingsError naming the file if it is missing, too large, binary or no mapping."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SettingsError(f"{path}: there is no such settings file") from None
    except IsADirectoryError:
        raise SettingsError(f"{path}: is a folder; name the settings file inside it") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror or error})") from None
    if len(raw) > MAX_BYTES:
        raise SettingsError(f"{path}: larger than {MAX_BYTES // 1000} kB, so hardly a settings file")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: not a text file in UTF-8; is it a recording?") from None
    return parse(text, str(path))


def parse(text: str, source: str) -> Document:
    """Turn YAML (or JSON, which is YAML) into a document. Raises SettingsError listing every repeated key."""
    node = _compose(text, source)
    if node is None:
        raise SettingsError(f"{source}: the file is empty; `hspc-live schema` lists what can be set")
    if not isinstance(node, yaml.MappingNode):
        raise SettingsError(f"{source}:{_line(node)}: expected `key: value` lines, found {_kind(node)}")
    problems: list[str] = []
    lines: dict[KeyPath, int] = {}
    values = _plain(node, (), source, lines, problems)
    if problems:
        raise SettingsError("\n".join(problems))
    return Document(source, values, lines)


def parse_value(text: str, source: str) -> Any:
    """A value of the environment or command line: text as typed, or a YAML list, section, quoted text or null.

    Numbers and truth values stay text here; the schema converts them to what the key wants, so a run may be named 7.
    """
    stripped = text.strip()
    if stripped in {"null", "~", ""}:
        return None
    if stripped[0] not in "[{\"'":
        return text
    node = _compose(stripped, source)
    problems: list[str] = []
    value = _plain(node, (), source, {}, problems) if node is not None else None
    if problems:
        raise SettingsError("\n".join(problems))
    return value


def _compose(text: str, source: str) -> yaml.Node | None:
    try:
        _refuse_tricks(text, source)
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        raise SettingsError(f"{source}: not a text file ({error.reason})") from None
    except yaml.MarkedYAMLError as error:
        where = f"{source}:{error.problem_mark.line + 1}" if error.problem_mark else source
        raise SettingsError(f"{where}: not valid YAML: {error.problem or error.context}") from None
    return node


def _refuse_tricks(text: str, source: str) -> None:
    """Refuse aliases, which can blow a small file up, and bottomless nesting, before anything is built of them."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        match event:
            case yaml.AliasEvent():
                raise SettingsError(f"{source}:{_line(event)}: anchors and aliases are not allowed")
            case yaml.CollectionStartEvent():
                depth += 1
            case yaml.CollectionEndEvent():
                depth -= 1
        if depth > MAX_DEPTH:
            raise SettingsError(f"{source}:{_line(event)}: nested deeper than {MAX_DEPTH} levels")


def _plain(node: yaml.Node, path: KeyPath, source: str, lines: dict[KeyPath, int], problems: list[str]) -> Any:
    """The plain value of a node; fills `lines` and `problems` on the way."""
    lines[path] = _line(node)
    match node:
        case yaml.MappingNode():
            return dict(_pairs(node, path, source, lines, problems))
        case yaml.SequenceNode():
            if node.tag != "tag:yaml.org,2002:seq":
                problems.append(f"{source}:{_line(node)}: the tag {node.tag!r} is not allowed")
            return [_plain(item, (*path, i), source, lines, problems) for i, item in enumerate(node.value)]
        case _:
            if path and path[-1] == "kind":
                return str(node.value)
            return _scalar(node, source, problems)


def _pairs(
    node: yaml.MappingNode, path: KeyPath, source: str, lines: dict[KeyPath, int], problems: list[str]
) -> Iterator[tuple[str, Any]]:
    if node.tag != "tag:yaml.org,2002:map":
        problems.append(f"{source}:{_line(node)}: the tag {node.tag!r} is not allowed")
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(f"{source}:{_line(key_node)}: a key must be a word, found {_kind(key_node)}")
            continue
        key = str(key_node.value)
        where = (*path, key)
        if key in seen:
            problems.append(
                f"{source}:{_line(key_node)}: {dotted(where)}: the key stands here twice (first on line {seen[key]})"
            )
            continue
        seen[key] = _line(key_node)
        value = _plain(value_node, where, source, lines, problems)
        lines[where] = _line(key_node)
        yield key, value


def _scalar(node: yaml.Node, source: str, problems: list[str]) -> Any:
    constructor = yaml.constructor.SafeConstructor()
    try:
        return constructor.construct_object(node)
    except yaml.constructor.ConstructorError:
        problems.append(f"{source}:{_line(node)}: the tag {node.tag!r} is not allowed")
    except ValueError:  # YAML's pattern of a number is laxer than Python's: `0b_`, a thousand digits
        problems.append(f"{source}:{_line(node)}: {node.value!r} is not a number")
    return None


def _line(part: yaml.Node | yaml.Event) -> int:
    return part.start_mark.line + 1 if part.start_mark is not None else 1


def _kind(node: yaml.Node) -> str:
    match node:
        case yaml.SequenceNode():
            return "a list"
        case yaml.MappingNode():
            return "a section"
        case _:
            return f"the text {str(node.value)[:40]!r}"


def dotted(path: KeyPath) -> str:
    """A key path as people write it: `sort.outlets.0.name`."""
    return ".".join(map(str, path))
