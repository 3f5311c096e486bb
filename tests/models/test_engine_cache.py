"""The engine cache: what is not this user's own, unchanged and made for this very case is not loaded."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from hspc_live.core.errors import ModelError
from hspc_models.engine_cache import CACHE_VARIABLE, EngineKey, cache_folder, differences, entries, find, store

KEY = EngineKey(
    engine="openvino",
    precision="int8",
    weights_sha256="a" * 64,
    classes=("x", "y"),
    crop_px=64,
    um_per_px=0.25,
    graph="b" * 64,
    device="some processor",
    compute_capability="",
    driver="",
    versions=(("openvino", "2026.4"),),
    buckets=(1, 8),
)
FILES = {"model.xml": b"<net/>", "model.bin": b"1234"}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "engines"))


def test_what_was_built_is_found_and_only_this_user_can_enter():
    made = store(KEY, FILES, {"cells_per_s": 1.0})
    found = find(KEY)
    assert found is not None and found.read() == FILES and found.build == made.build
    assert os.stat(cache_folder()).st_mode & 0o777 == 0o700
    assert os.stat(found.folder).st_mode & 0o077 == 0


OTHERS = {
    "weights_sha256": "c" * 64,
    "classes": ("y", "x"),
    "crop_px": 48,
    "um_per_px": 0.3,
    "graph": "d" * 64,
    "device": "another processor",
    "compute_capability": "9.0",
    "driver": "570",
    "versions": (("openvino", "2027.0"),),
    "buckets": (1, 16),
    "precision": "fp32",
    "engine": "tensorrt",
}


@pytest.mark.parametrize("field", EngineKey.__slots__)
def test_it_serves_for_nothing_else_and_says_what_differs(field):
    store(KEY, FILES, {})
    other = replace(KEY, **{field: OTHERS[field]})
    assert find(other) is None
    if field not in ("engine", "precision"):
        [said] = differences(other)
        assert said.startswith(f"{field}: built for ")
    assert differences(KEY) == []


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_file_that_has_changed_is_not_loaded(name):
    made = store(KEY, FILES, {})
    (made.folder / name).write_bytes(b"something else")
    with pytest.raises(ModelError, match=r"another SHA-256.*build the engine again"):
        find(KEY).read()
    (made.folder / name).unlink()
    with pytest.raises(ModelError, match="build the engine again"):
        find(KEY).read()


def test_an_entry_that_points_out_of_its_folder_or_bears_a_false_name_is_left_out(tmp_path):
    made = store(KEY, FILES, {})
    entry = made.folder / "entry.json"
    content = json.loads(entry.read_text())
    entry.write_text(json.dumps({**content, "files": {"../../elsewhere": "0" * 64}}))
    assert entries() == []
    entry.write_text(json.dumps({**content, "key": {**content["key"], "device": "here"}}))
    assert entries() == []
    entry.write_text("{")
    assert entries() == []


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_folder_that_others_can_enter_is_refused(tmp_path):
    folder = tmp_path / "engines"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    with pytest.raises(ModelError, match="chmod 700"):
        find(KEY)


@pytest.mark.skipif(os.name != "posix", reason="owners are POSIX's")
def test_a_folder_of_somebody_else_or_a_link_is_refused(tmp_path, monkeypatch):
    store(KEY, FILES, {})
    real = tmp_path / "engines"
    real.rename(tmp_path / "real")
    real.symlink_to(tmp_path / "real")
    with pytest.raises(ModelError, match="not a folder of yours"):
        find(KEY)
    real.unlink()
    (tmp_path / "real").rename(real)
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    with pytest.raises(ModelError, match="not a folder of yours"):
        find(KEY)


def test_building_again_takes_the_place_of_what_was_there():
    first = store(KEY, FILES, {})
    again = store(KEY, {**FILES, "model.bin": b"5678"}, {})
    assert again.build != first.build and find(KEY).read()["model.bin"] == b"5678"
    assert len(entries()) == 1 and len(list(cache_folder().iterdir())) == 1
