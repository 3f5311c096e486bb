"""Key files of CURVE: made once on each computer, named in the settings, never copied into them.

The text is that of ZeroMQ's certificates, so other tools can read it: `NAME.key` may be given to anybody,
`NAME.key_secret` stays where it was made. A secret file that others can read is no secret any more, and is refused.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hspc_live.core.errors import OutputError, SettingsError

PUBLIC_SUFFIX = ".key"
SECRET_SUFFIX = ".key_secret"
MAX_BYTES = 4096
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_Z85 = r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}"
_LINES = {name: re.compile(rf'^\s*{name}-key\s*=\s*"({_Z85})"\s*$', re.MULTILINE) for name in ("public", "secret")}


@dataclass(frozen=True, slots=True)
class KeyPair:
    """One computer's keys, 40 characters of Z85 each. The secret one is left out of every print."""

    public: str
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Guard:
    """What a bound link that others can reach needs: its own keys, and the public keys of those who may come in."""

    own: KeyPair
    allow: frozenset[str]


@dataclass(frozen=True, slots=True)
class Pass:
    """What it takes to connect to a guarded link: one's own keys, and the public key that must answer there."""

    own: KeyPair
    server: str


def write_keys(folder: Path, name: str, pair: KeyPair) -> tuple[Path, Path]:
    """Write `pair` as (public file, secret file); the secret one can be read by this user alone from the first byte on.

    Raises OutputError if either exists or cannot be written: keys are never overwritten.
    """
    if not _NAME.fullmatch(name):
        raise OutputError(f"{name!r} is no name for keys: letters, digits, '.', '_' and '-', at most 64")
    public, secret = folder / f"{name}{PUBLIC_SUFFIX}", folder / f"{name}{SECRET_SUFFIX}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for taken in filter(os.path.lexists, (public, secret)):
            raise OutputError(f"{taken} exists: keys are never overwritten")
        _write(secret, _text(name, "secret: stays on this computer", pair, secret=True), 0o600)
        _write(public, _text(name, "public: for the computers that this one talks to", pair, secret=False), 0o644)
    except OSError as error:
        raise OutputError(f"{folder}: keys cannot be written there: {error.strerror}") from error
    return public, secret


def _text(name: str, what: str, pair: KeyPair, *, secret: bool) -> str:
    lines = [f"#   HSPC Live, keys of {name} ({what})", "metadata", "curve", f'    public-key = "{pair.public}"']
    return "\n".join([*lines, f'    secret-key = "{pair.secret}"'] if secret else lines) + "\n"


def _write(path: Path, text: str, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="ascii") as file:
        file.write(text)


def read_secret(path: Path) -> KeyPair:
    """The keys in a secret file. Raises SettingsError if others can read it, or it holds no secret key."""
    text = _read(path, private=True)
    found = {name: pattern.search(text) for name, pattern in _LINES.items()}
    if found["public"] is None or found["secret"] is None:
        raise SettingsError(f"{path}: no secret key in it; make one with `hspc-live keygen`")
    return KeyPair(found["public"][1], found["secret"][1])


def read_public(path: Path) -> str:
    """The key in a public file. Raises SettingsError for what is none, and for a secret file: it stays at home."""
    text = _read(path, private=False)
    if _LINES["secret"].search(text) is not None:
        raise SettingsError(f"{path}: is a secret key; name the public file, {path.stem}{PUBLIC_SUFFIX}")
    found = _LINES["public"].search(text)
    if found is None:
        raise SettingsError(f"{path}: no public key in it; `hspc-live keygen` makes one beside the secret key")
    return found[1]


def read_guard(secret: Path, allow: Sequence[Path]) -> Guard:
    """The keys of a link that others can reach. Raises SettingsError; an empty list would let nobody in."""
    if not allow:
        raise SettingsError("a list of the public keys that may come in is needed; it is empty")
    return Guard(read_secret(secret), frozenset(read_public(path) for path in allow))


def _read(path: Path, *, private: bool) -> str:
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())  # of what is read, not of what may lie there by then
            if private and os.name == "posix" and (found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077):
                raise SettingsError(f"{path}: others can read this secret key: chmod 600 it, or better make a new one")
            return file.read(MAX_BYTES).decode("ascii", errors="replace")
    except OSError as error:
        raise SettingsError(f"{path}: the key cannot be read: {error.strerror}") from error
