"""view: the operator's screen, attached to a run under way, over a replay, or over the digital twin."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import typer
from numpy.typing import NDArray

from hspc_live.cli.options import address, speed
from hspc_live.cli.output import progress
from hspc_live.cli.score import predicted
from hspc_live.core.errors import HspcError, SettingsError
from hspc_live.core.values import Pixels
from hspc_live.recording.own_file import is_chamber
from hspc_live.report.chamber_evidence import RECORDING
from hspc_live.settings.schema import RunSettings, TorchEager
from hspc_live.settings.sort import Outlet
from hspc_live.wiring import model_card

EXPECTED_S = 600.0  # the run whose purity is predicted: ten minutes


def view(
    connect: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="The run's control address, as it prints it. Default: the only one."),
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Replay this recording, at the pace it was made; of a chamber: its map and list."
        ),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Start the demonstration on the digital twin and look on.")
    ] = False,
    speed_: Annotated[str, typer.Option("--speed", metavar="SPEED", help="With --replay: max, or a factor.")] = "1",
    minutes: Annotated[float, typer.Option(min=0.1, max=60, metavar="MIN", help="With --demo: how long.")] = 10.0,
    reports: Annotated[Path, typer.Option(metavar="FOLDER", help="Where session reports are saved.")] = Path(
        "out/sessions"
    ),
) -> None:
    """Show the operator's screen. It can neither slow nor stop the pipeline, except by its buttons."""
    if sum((connect is not None, replay is not None, demo)) > 1:
        raise SettingsError("give one of --connect, --replay and --demo")
    try:
        from hspc_live.view.app import show
        from hspc_live.view.connection import Connection
        from hspc_live.view.launch import Launched
    except ImportError as error:
        raise SettingsError(f"the screen needs Qt ({error}): pip install 'hspc-live[view]'") from error
    explain = Explainer()
    if replay is None and not demo:
        connection = Connection(address(connect, "--connect") if connect is not None else None)
        raise typer.Exit(show(connection, explain.expected, explain, reports))
    if replay is not None:
        speed(speed_)
        if (chamber := _chamber(replay)) is not None:
            from hspc_live.view.past import FinishedChamber

            raise typer.Exit(show(FinishedChamber(chamber), explain.expected, explain, reports))
        arguments = ["replay", str(replay), "--speed", speed_]
    else:
        arguments = ["demo", "--seconds", str(minutes * 60)]
    progress.print(f"starting: hspc-live {' '.join(arguments)}", markup=False)
    launched = Launched(arguments)
    try:
        code = show(Connection(follow=False, find=launched.found), explain.expected, explain, reports)
    finally:
        launched.close()
    if launched.exit_code not in (0, None) and launched.address is None:
        raise HspcError("the pipeline did not start: " + "\n".join(launched.said))
    raise typer.Exit(code)


def _chamber(path: Path) -> Path | None:
    """The recording of a chamber that `path` is, or has in it as a folder of results; None for anything else."""
    file = path / RECORDING if path.is_dir() else path
    if not file.is_file():
        return None  # the replay says what is wrong with it
    return file if is_chamber(file) else None


class Explainer:
    """What the screen asks of the model, of the run it is attached to: purity beforehand, and Score-CAM."""

    def __init__(self) -> None:
        self._settings: RunSettings | None = None
        self._network: tuple[str, Any] | None = None
        self._lock = threading.Lock()

    def expected(self, settings: RunSettings, outlets: tuple[Outlet, ...]) -> dict[str, tuple[float, float, float]]:
        """Each outlet's predicted purity with its interval; what cannot be predicted is left out."""
        self._settings = settings
        found: dict[str, tuple[float, float, float]] = {}
        for outlet in outlets:
            one = settings.model_copy(update={"sort": settings.sort.model_copy(update={"outlets": (outlet,)})})
            try:
                before = predicted(one, model_card(settings), EXPECTED_S)
            except HspcError:
                continue
            if before is not None and before.purity is not None and before.interval is not None:
                found[outlet.name] = (before.purity, *before.interval)
        return found

    def __call__(self, crops: Sequence[Pixels], predicted_class: str) -> NDArray[np.float32]:
        """Score-CAM maps of `crops` for a class. Raises ModelError, HspcError."""
        settings = self._settings
        if settings is None or not isinstance(settings.engine, TorchEager):
            raise HspcError("this run has no network that could be looked into")
        with self._lock:
            return _score_cams(settings.engine.model, crops, predicted_class, self._load)

    def _load(self, model: str) -> Any:
        if self._network is None or self._network[0] != model:
            from hspc_models.card import find_model, load_network

            self._network = (model, load_network(find_model(model)))
        return self._network[1]


def _score_cams(
    model: str, crops: Sequence[Pixels], predicted_class: str, load: Callable[[str], Any]
) -> NDArray[np.float32]:
    from hspc_models.explain import score_cams

    card, network = load(model)
    target = card.classes.index(predicted_class)
    return score_cams(network, cast("Pixels", np.stack(crops)), np.full(len(crops), target), "layer2")
