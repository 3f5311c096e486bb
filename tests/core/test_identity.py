"""The pipeline id: the same for what judges alike, another for whatever may change a verdict."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hspc_live.core.identity import canonical_sha256, pipeline_id, run_id
from hspc_live.settings.load import load
from hspc_live.settings.shipped import shipped_config

MODEL = "ab" * 32


def demo(*overrides: str) -> dict[str, Any]:
    return load(shipped_config("rigs/twin_flow"), overrides, {}).model_dump(mode="json")


def leaves(tree: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else None
    if items is None:
        yield path
        return
    for key, value in items:
        yield from leaves(value, (*path, key))


def changed(tree: dict[str, Any], path: tuple[str | int, ...]) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(tree))
    at: Any = copy
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = "something else"
    return copy


@given(st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(shuffler: random.Random) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            keys = list(value)
            shuffler.shuffle(keys)
            return {key: shuffled(value[key]) for key in keys}
        return [shuffled(item) for item in value] if isinstance(value, list) else value

    settings = demo()
    assert pipeline_id(shuffled(settings), MODEL, "1") == pipeline_id(settings, MODEL, "1")


def test_each_setting_counts_unless_it_cannot_change_a_verdict() -> None:
    settings = demo()
    reference = pipeline_id(settings, MODEL, "1")
    without_effect = {
        ".".join(map(str, path[:2] if path[0] in {"pipeline", "engine"} else path[:1]))
        for path in leaves(settings)
        if pipeline_id(changed(settings, path), MODEL, "1") == reference
    }
    assert without_effect == {
        "name", "camera", "sorter", "record", "door", "engine.model",
        "pipeline.workers", "pipeline.ring_slots", "pipeline.frames_per_lease", "pipeline.lease_timeout_s",
        "pipeline.silent_periods", "retry",
    }  # fmt: skip


def test_model_and_version_count() -> None:
    settings = demo()
    ids = {pipeline_id(settings, model, version) for model in ("aa", "bb") for version in ("1", "2")}
    assert len(ids) == 4


def test_a_recording_and_its_replay_share_an_id_unless_its_scale_is_overruled() -> None:
    live = pipeline_id(demo(), MODEL, "1")
    replay = ["camera.kind=replay", "camera.path=run.rtdc", "sorter.kind=none", "pipeline.workers=2"]
    assert pipeline_id(demo(*replay), MODEL, "1") == live
    for overrule in ("camera.um_per_px=0.3", "camera.frames_per_s=50"):
        assert pipeline_id(demo(*replay, overrule), MODEL, "1") != live


def test_the_settings_are_left_as_they_were() -> None:
    settings = demo()
    before = json.dumps(settings)
    pipeline_id(settings, MODEL, "1")
    assert json.dumps(settings) == before


def test_the_hash_is_pinned() -> None:
    """Ids are kept in recordings: they must not change with a release unless something in them does."""
    value = {"b": [1, 2.5, None, True], "a": "µm"}
    text = '{"a":"µm","b":[1,2.5,null,true]}'
    assert canonical_sha256(value) == canonical_sha256(json.loads(text))
    assert canonical_sha256(value) == "ee8a53c3a7607d6114e4b89ce2e65a17fe16c0d83aca193fb1918763bdc20170"


def test_nan_has_no_identity() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_sha256({"x": float("nan")})


def test_run_ids_differ_sort_by_time_and_fit_into_a_file_name() -> None:
    ids = [run_id() for _ in range(50)]
    assert len(set(ids)) == 50
    assert all(re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{6}", name) for name in ids)
    stamps = [name.split("-")[0] for name in ids]
    assert stamps == sorted(stamps)
