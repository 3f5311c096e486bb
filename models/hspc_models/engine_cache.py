"""Where built engines are kept, and why one may be trusted.

A built engine is code that runs in the process that sorts, so it is read from one place only: a folder that this user
owns and nobody else can enter (0700), and whose files have the hashes that were written down when they were made. It
serves for what it was built for and nothing else; what differs is said.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hspc_live.core.errors import ModelError
from hspc_live.core.identity import canonical_sha256
from hspc_models.card import Card

CACHE_VARIABLE = "HSPC_ENGINE_CACHE"
_ENTRY = "entry.json"


@dataclass(frozen=True, slots=True)
class EngineKey:
    """All that an engine was built for. `graph` is what of the card stands in the graph beside the weights."""

    engine: str
    precision: str
    weights_sha256: str
    classes: tuple[str, ...]
    crop_px: int
    um_per_px: float
    graph: str
    device: str
    compute_capability: str
    driver: str
    versions: tuple[tuple[str, str], ...]
    buckets: tuple[int, ...]

    @property
    def sha256(self) -> str:
        """The entry's name."""
        return canonical_sha256(_plain(self))


@dataclass(frozen=True, slots=True)
class Entry:
    """One built engine. `build` covers key and files; `about` is what was measured when it was built."""

    key: EngineKey
    hashes: Mapping[str, str]
    about: Mapping[str, Any]
    folder: Path

    @property
    def build(self) -> str:
        """SHA-256 of the files' hashes and the key."""
        return canonical_sha256({"key": _plain(self.key), "files": dict(self.hashes)})

    def read(self) -> dict[str, bytes]:
        """The files' bytes, each with the hash it had when it was built. Raises ModelError."""
        found: dict[str, bytes] = {}
        for name, expected in self.hashes.items():
            path = self.folder / name
            try:
                data = path.read_bytes()
            except OSError as error:
                raise ModelError(f"{path}: cannot be read ({error.strerror}): build the engine again") from error
            if hashlib.sha256(data).hexdigest() != expected:
                raise ModelError(f"{path}: is not what was built here (another SHA-256): build the engine again")
            found[name] = data
        return found


def graph_of(card: Card) -> str:
    """What of `card` an engine's graph holds beside the weights: shape, temperature, symmetries."""
    return canonical_sha256([card.network.model_dump(mode="json"), card.temperature, card.symmetries])


def cache_folder() -> Path:
    """The folder, made if need be. Raises ModelError if others own it or can enter it."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(os.environ.get(CACHE_VARIABLE) or Path(home) / "hspc-live" / "engines").expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = folder.lstat()
    except OSError as error:
        raise ModelError(f"{folder}: cannot keep engines there ({error.strerror}); set {CACHE_VARIABLE}") from error
    if os.name == "posix":
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise ModelError(f"{folder}: is not a folder of yours, and engines are loaded from nowhere else")
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise ModelError(f"{folder}: others can enter it; `chmod 700 {folder}`, or set {CACHE_VARIABLE}")
    return folder


def store(key: EngineKey, files: Mapping[str, bytes], about: Mapping[str, Any]) -> Entry:
    """Keep what was built for `key`, in place of what was kept for it before. Raises ModelError."""
    cache = cache_folder()
    folder = cache / key.sha256
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    try:
        partial = Path(tempfile.mkdtemp(prefix=".new-", dir=cache))
        for name, data in files.items():
            (partial / name).write_bytes(data)
        content = {"key": _plain(key), "files": hashes, "about": dict(about)}
        (partial / _ENTRY).write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    except OSError as error:
        raise ModelError(f"{folder}: the engine cannot be kept ({error.strerror or error})") from error
    return Entry(key, hashes, about, folder)


def find(key: EngineKey) -> Entry | None:
    """What was built for exactly `key`. Raises ModelError for a folder that is not to be trusted."""
    return next((entry for entry in entries() if entry.key == key), None)


def entries() -> list[Entry]:
    """All built engines; what cannot be read is left out. Raises ModelError for a folder that is not to be trusted."""
    found = [_entry(folder) for folder in sorted(cache_folder().iterdir()) if not folder.name.startswith(".")]
    return [entry for entry in found if entry is not None]


def differences(wanted: EngineKey) -> list[str]:
    """Why nothing serves for `wanted`: what the nearest build of the same engine was made for instead."""
    alike = [
        entry.key for entry in entries() if (entry.key.engine, entry.key.precision) == (wanted.engine, wanted.precision)
    ]
    if not alike:
        return []
    here = _plain(wanted)
    told = [
        [
            f"{name}: built for {_short(value)}, here {_short(here[name])}"
            for name, value in there.items()
            if value != here[name]
        ]
        for there in map(_plain, alike)
    ]
    return min(told, key=len)


def _entry(folder: Path) -> Entry | None:
    try:
        content = json.loads((folder / _ENTRY).read_text(encoding="utf-8"))
        raw = content["key"]
        key = EngineKey(
            **{
                **raw,
                "classes": tuple(raw["classes"]),
                "buckets": tuple(raw["buckets"]),
                "versions": tuple((name, version) for name, version in raw["versions"]),
            }
        )
        entry = Entry(key, dict(content["files"]), dict(content["about"]), folder)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    plain_names = all(Path(name).name == name for name in entry.hashes)  # nothing is read from outside the folder
    return entry if plain_names and folder.name == key.sha256 else None


def _plain(key: EngineKey) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(asdict(key)))
    return plain


def _short(value: Any) -> str:
    if isinstance(value, str):
        return value[:12] if len(value) == 64 else value or "none"
    if isinstance(value, list):
        return ", ".join(" ".join(map(str, one)) if isinstance(one, list) else str(one) for one in value)
    return str(value)
