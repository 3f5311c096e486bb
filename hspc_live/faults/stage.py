"""A stage whose table slips: it stands elsewhere than it says, as if a screw had come loose."""

from __future__ import annotations

from collections.abc import Callable

from hspc_live.core.protocols import Stage
from hspc_live.core.values import StageInfo, StagePosition, StageReceipt, StageTarget
from hspc_live.faults.schedule import Injector
from hspc_live.settings.faults import StageSlip


class FaultyStage:
    """A `core.protocols.Stage` around another one; `slip` is what makes its table slip, by (x, y) µm."""

    def __init__(self, stage: Stage, injector: Injector, slip: Callable[[float, float], None]) -> None:
        self._stage = stage
        self._injector = injector
        self._slip = slip
        self._moves = 0

    def open(self) -> StageInfo:
        """As the stage's."""
        return self._stage.open()

    def move_to(self, target: StageTarget) -> None:
        """As the stage's; a slip comes with the move."""
        self._stage.move_to(target)
        for slip in self._injector.due(StageSlip, self._moves):
            self._slip(slip.x_um, slip.y_um)
            self._injector.done(slip, f"move {self._moves}: by ({slip.x_um:g}, {slip.y_um:g}) µm")
        self._moves += 1

    def wait(self, timeout_s: float) -> StageReceipt | None:
        """As the stage's, which knows nothing of the slips."""
        return self._stage.wait(timeout_s)

    def position(self) -> StagePosition:
        """As the stage's, which knows nothing of the slips."""
        return self._stage.position()

    def stop(self) -> None:
        """As the stage's."""
        self._stage.stop()

    def close(self) -> None:
        """As the stage's."""
        self._stage.close()
