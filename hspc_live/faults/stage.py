"""A stage that slips: the table stands elsewhere than it says, as if a screw had come loose."""

from __future__ import annotations

from dataclasses import replace

from hspc_live.core.protocols import Stage
from hspc_live.core.values import StageInfo, StagePosition, StageReceipt, StageTarget
from hspc_live.faults.schedule import Injector
from hspc_live.settings.faults import StageSlip


class FaultyStage:
    """A `core.protocols.Stage` around another one, whose places are off by all slips so far. Slips come with moves."""

    def __init__(self, stage: Stage, injector: Injector) -> None:
        self._stage = stage
        self._injector = injector
        self._moves = 0
        self._x_um = self._y_um = 0.0

    def open(self) -> StageInfo:
        """As the stage's."""
        return self._stage.open()

    def move_to(self, target: StageTarget) -> None:
        """As the stage's, to where the slips have taken `target`."""
        for slip in self._injector.due(StageSlip, self._moves):
            self._x_um += slip.x_um
            self._y_um += slip.y_um
            self._injector.done(slip, f"move {self._moves}: by ({slip.x_um:g}, {slip.y_um:g}) µm")
        self._moves += 1
        self._stage.move_to(replace(target, x_um=target.x_um + self._x_um, y_um=target.y_um + self._y_um))

    def wait(self, timeout_s: float) -> StageReceipt | None:
        """As the stage's, which knows nothing of the slips."""
        receipt = self._stage.wait(timeout_s)
        if receipt is None:
            return None
        return replace(receipt, x_um=receipt.x_um - self._x_um, y_um=receipt.y_um - self._y_um)

    def position(self) -> StagePosition:
        """As the stage's, which knows nothing of the slips."""
        here = self._stage.position()
        return replace(here, x_um=here.x_um - self._x_um, y_um=here.y_um - self._y_um)

    def stop(self) -> None:
        """As the stage's."""
        self._stage.stop()

    def close(self) -> None:
        """As the stage's."""
        self._stage.close()
