"""Where links are bound: sockets in a folder that only this user can enter, or loopback TCP on Windows.

Anything that other users or machines could reach is refused here, before a socket exists.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
import sys
import tempfile
from pathlib import Path

from hspc_live.core.errors import WireError

_PREFIX = "hspc-"
_IPC_PATH_BYTES = 107  # sockaddr_un holds 108 with its closing zero


def private_folder() -> Path:
    """A new folder that only this user can enter (0700), short enough for socket names. The caller removes it."""
    parents = _parents()
    short = [parent for parent in parents if len(os.fsencode(parent)) <= _IPC_PATH_BYTES // 2]
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=(short or parents)[0]))


def _parents() -> list[str]:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    parents = [runtime] if runtime and os.access(runtime, os.W_OK | os.X_OK) else []
    return parents + ([tempfile.gettempdir(), "/tmp"] if os.name == "posix" else [tempfile.gettempdir()])


def running() -> list[str]:
    """The control sockets of this user's runs at which somebody listens. Empty on Windows, where there are none."""
    if sys.platform == "win32":
        return []
    found = {path.resolve() for parent in _parents() for path in Path(parent).glob(f"{_PREFIX}*/control.sock")}
    return [f"ipc://{path}" for path in sorted(found) if listens(path)]


def listens(path: Path) -> bool:
    """Whether a process of this user listens at this socket: a run that was killed leaves its folder behind."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            if path.stat().st_uid != os.geteuid():
                return False
            probe.connect(str(path))
        except OSError:
            return False
    return True


def endpoint(folder: Path, name: str) -> str:
    """The address to bind for `name`: a socket in the private `folder`, or on Windows a free loopback TCP port.

    What others connect to is the `address` of the bound link. Raises WireError if the path is too long for a socket.
    """
    if sys.platform == "win32":
        return "tcp://127.0.0.1:*"
    path = folder / f"{name}.sock"
    if len(os.fsencode(path)) > _IPC_PATH_BYTES:
        raise WireError(f"{path}: a socket's path has at most {_IPC_PATH_BYTES} bytes; use a shorter folder")
    return f"ipc://{path}"


def check_bindable(address: str, *, guarded: bool = False) -> None:
    """Raise WireError unless only this user (ipc) or this machine (tcp) can reach what is bound at `address`.

    What is `guarded` by keys and an allow-list may be bound at any tcp address.
    """
    transport, _, rest = address.partition("://")
    match transport:
        case "ipc":
            folder = Path(rest).parent
            if not Path(rest).is_absolute() or not folder.is_dir():
                raise WireError(f"{address}: a socket is bound at an absolute path in an existing private folder")
            if os.name == "posix":
                found = folder.stat()
                if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
                    raise WireError(f"{address}: others can enter {folder}; its mode must be 0700 (private_folder)")
        case "tcp":
            host = rest.rpartition(":")[0]
            try:
                loopback = ipaddress.IPv4Address(host).is_loopback
            except ValueError:
                loopback = False
            if not loopback and not guarded:
                raise WireError(
                    f"{address} can be reached from other machines: that needs CURVE keys and an allow-list of "
                    "clients (`hspc-live keygen`); name them in the settings, or bind 127.0.0.1"
                )
        case _:
            raise WireError(f"{address}: links are bound at ipc:// or tcp:// addresses")
