"""What the schema found wrong, said in the words of somebody who edits a settings file.

Turns pydantic's errors into (key path, sentence): union tags vanish from the paths, types are named as a biologist
would, a misspelt key gets the nearest known one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from hspc_live.settings.document import KeyPath

_EXPECTED = {
    "float": "a number",
    "int": "a whole number",
    "bool": "true or false",
    "string": "text",
    "path": "a path",
    "model": "a section (`key: value` lines)",
    "dict": "a section (`key: value` lines)",
    "tuple": "a list",
    "list": "a list",
}


def explain(error: ValidationError, root: type[BaseModel]) -> Iterator[tuple[KeyPath, str]]:
    """(key path, sentence) for each problem in `error`, which came of validating `root`."""
    for detail in error.errors():
        if detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]:
            continue  # pydantic counts the valid members only; what is wrong with the others has been said
        path, model = _locate(detail["loc"], root)
        yield _sentence(detail, path, model)


def _sentence(detail: ErrorDetails, path: KeyPath, model: type[BaseModel] | None) -> tuple[KeyPath, str]:
    kind, found, context = detail["type"], detail["input"], detail.get("ctx", {})
    match kind:
        case "extra_forbidden":
            return path, _unknown_key(str(path[-1]), model)
        case "missing":
            return path, "missing; this key has no default"
        case "union_tag_not_found":
            return (*path, "kind"), f"missing; expected one of {_kinds(path, model)}"
        case "union_tag_invalid":
            return (*path, "kind"), f"expected one of {_kinds(path, model)}, found {_show(context.get('tag'))}"
        case "literal_error" | "enum":
            return path, f"expected {context.get('expected')}, found {_show(found)}"
        case "greater_than":
            return path, f"must be greater than {context['gt']:g}, found {_show(found)}"
        case "greater_than_equal":
            return path, f"must be at least {context['ge']:g}, found {_show(found)}"
        case "less_than":
            return path, f"must be less than {context['lt']:g}, found {_show(found)}"
        case "less_than_equal":
            return path, f"must be at most {context['le']:g}, found {_show(found)}"
        case "finite_number":
            return path, f"expected a finite number, found {_show(found)}"
        case "int_from_float":
            return path, f"expected a whole number, found {_show(found)}"
        case "too_short":
            return path, f"needs at least {context['min_length']} items, has {context['actual_length']}"
        case "string_too_short":
            return path, "must not be empty"
        case "value_error":
            return path, str(context["error"])
        case _:
            expected = _EXPECTED.get(kind.split("_", 1)[0])
            return path, f"expected {expected}, found {_show(found)}" if expected else f"{detail['msg']}"


def _unknown_key(key: str, model: type[BaseModel] | None) -> str:
    known = list(model.model_fields) if model is not None else []
    near = difflib.get_close_matches(key.lower().replace("-", "_"), known, n=1)
    if near:
        return f"unknown key; did you mean {near[0]!r}?"
    return f"unknown key; known here: {', '.join(known)}"


def _kinds(path: KeyPath, model: type[BaseModel] | None) -> str:
    """The kinds that a tagged section at `path`, a key of `model` or an item of its list, can be of."""
    key = next(part for part in reversed(path) if isinstance(part, str))
    sections = filter(_is_section, _leaves(model.model_fields[key].annotation)) if model is not None else ()
    return ", ".join(kind for section in sections for kind in get_args(section.model_fields["kind"].annotation))


def _show(value: Any) -> str:
    """A value as found, short enough for one line."""
    match value:
        case bool():
            return str(value).lower()
        case None:
            return "nothing"
        case Mapping():
            return "a section"
        case list() | tuple():
            return "a list"
        case _:
            text = repr(value)
            return text if len(text) <= 60 else text[:57] + "..."


def _locate(loc: Sequence[str | int], root: type[BaseModel]) -> tuple[KeyPath, type[BaseModel] | None]:
    """The key path of pydantic's `loc` without its union tags, and the section class that holds the last key.

    Pydantic writes the tag of a tagged union between two keys; the schema tells where one must follow.
    """
    path: list[str | int] = []
    owner: type[BaseModel] | None = None
    candidates: list[type[BaseModel]] = [root]
    for part in loc:
        if len(candidates) > 1 and not isinstance(part, int):
            candidates = [model for model in candidates if part in get_args(model.model_fields["kind"].annotation)]
            continue
        path.append(part)
        if isinstance(part, int):
            continue
        owner = candidates[0] if candidates else None
        field = owner.model_fields.get(part) if owner is not None else None
        candidates = [leaf for leaf in _leaves(field.annotation) if _is_section(leaf)] if field is not None else []
    return tuple(path), owner


def _is_section(leaf: Any) -> bool:
    return isinstance(leaf, type) and issubclass(leaf, BaseModel)


def _leaves(annotation: Any) -> Iterator[Any]:
    """The plain types inside an annotation: unions, tuples and `Annotated` unfolded."""
    members = get_args(annotation)
    if not members or get_origin(annotation) is Literal:
        yield annotation
    for member in members if get_origin(annotation) is not Literal else ():
        yield from _leaves(member)
