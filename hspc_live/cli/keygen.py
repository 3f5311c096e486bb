"""keygen: the keys by which computers know each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hspc_live.cli.options import Json
from hspc_live.cli.output import emit, screen
from hspc_live.wire.guard import new_pair
from hspc_live.wire.keys import write_keys


def keygen(
    name: Annotated[str, typer.Argument(help="What this computer is called; the files are named after it.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where the files go. Keys that exist are never overwritten.")
    ] = Path("keys"),
    as_json: Json = False,
) -> None:
    """Make keys for this computer: NAME.key to be given away, and NAME.key_secret, which stays here (mode 0600)."""
    pair = new_pair()
    public, secret = write_keys(out, name, pair)
    if as_json:
        emit({"name": name, "public": str(public), "secret": str(secret), "key": pair.public})
        return
    screen.print(f"{secret}: secret; it stays on this computer, readable by you alone", markup=False, soft_wrap=True)
    screen.print(f"{public}: public; copy it to the computers that this one talks to", markup=False, soft_wrap=True)
