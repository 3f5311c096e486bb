"""Finds the settings files that come with HSPC Live, installed from a wheel or run from a clone."""

from __future__ import annotations

import difflib
from pathlib import Path

from hspc_live.core.errors import SettingsError

_PACKAGE = Path(__file__).resolve().parent.parent


def config_folder() -> Path:
    """The folder of shipped settings: `hspc_live/configs` in an installation, `configs` at the top of a clone."""
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"


def shipped_configs() -> list[str]:
    """Names of all shipped settings files, e.g. `rigs/twin_flow`, sorted."""
    folder = config_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def shipped_config(name: str) -> Path:
    """The file of a shipped config by its name, e.g. `rigs/twin_flow`. Raises SettingsError naming the nearest one."""
    names = shipped_configs()
    wanted = name.removesuffix(".yaml")
    if wanted not in names:
        near = difflib.get_close_matches(wanted, names, n=1)
        mend = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names)}"
        raise SettingsError(f"no shipped settings are named {name!r}; {mend}")
    return config_folder() / f"{wanted}.yaml"
