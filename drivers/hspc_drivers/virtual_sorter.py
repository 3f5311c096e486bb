"""The simulated sorter on a virtual clock, in this process: for replay, virtual-time tests and calibration.

It drives the same `SorterDevice` as the process does, exactly at every moment the device has something to do, so its
outcomes depend on nothing but the commands and the settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hspc_drivers.sorter_clock import DeviceClock
from hspc_drivers.sorter_device import DeviceCommand, Output, SorterDevice
from hspc_drivers.sorter_diary import Bookkeeper
from hspc_live.core.clock import Clock
from hspc_live.core.errors import DeviceError
from hspc_live.core.values import Receipt, SortCommand
from hspc_live.settings.devices import SimulatedSorter
from hspc_live.twin.pulses import Diary, to_line


class VirtualSorter:
    """A `core.protocols.Sorter` whose time is `clock`; call `poll` whenever the clock has moved.

    `diary` is what the actuator did; `close` also writes it to `diary_path` where one is given.
    """

    def __init__(self, settings: SimulatedSorter, clock: Clock, diary_path: Path | None = None) -> None:
        self._clock = clock
        self._true = DeviceClock.of(settings, clock.now_ns())
        self._device = SorterDevice(settings)
        self._books = Bookkeeper(self._true, round(settings.delay_error_ms * 1e6))
        self._receipts: list[Receipt] = []
        self._diary_path = diary_path
        self._opened = False

    @property
    def diary(self) -> Diary:
        """What the device physically did so far."""
        return Diary(tuple(self._books.entries))

    @property
    def armed(self) -> bool:
        """Whether the device accepts commands."""
        return self._device.armed

    @property
    def clock_bound_ns(self) -> int:
        """Both clocks are known exactly."""
        return 0

    @property
    def faults(self) -> Mapping[str, int]:
        """Nothing stands between host and device."""
        return {}

    def open(self) -> None:
        """Switch on."""
        self._opened = True

    def arm(self) -> None:
        """Let commands through."""
        self._do(self._device.arm)

    def disarm(self) -> None:
        """Empty the queue and refuse what comes."""
        self._do(self._device.disarm)

    def heartbeat(self) -> None:
        """Reset the watchdog."""
        self._do(self._device.heartbeat)

    def send(self, command: SortCommand) -> None:
        """Hand the command to the device; its answer comes with `poll`."""
        half = command.width_ns // 2
        opens = self._true.device_ns(command.fire_at_ns - half)
        for_device = DeviceCommand(
            command.command,
            command.outlet,
            opens,
            opens + command.width_ns,
            self._true.device_ns(command.deadline_ns),
        )
        self._do(lambda now: self._device.accept(for_device, now))

    def poll(self) -> Sequence[Receipt]:
        """Let the device work up to the clock's now; the receipts since the last call."""
        self._do(self._device.advance, host_spoke=False)
        receipts, self._receipts = self._receipts, []
        return receipts

    def close(self) -> None:
        """Disarm, write the diary, let go."""
        if self._opened:
            self.disarm()
            self._opened = False
            if self._diary_path is not None:
                self._diary_path.write_bytes(b"".join(map(to_line, self._books.entries)))

    def _do(self, act: Callable[[int], list[Output]], *, host_spoke: bool = True) -> None:
        """Step the device through everything due before now, then `act` at now.

        Virtual time jumps while the host computes; a word of the host's covers the jump before it, polling does not.
        """
        if not self._opened:
            raise DeviceError("sorter: not open")
        now_ns = self._true.device_ns(self._clock.now_ns())
        if host_spoke:
            self._device.hear(now_ns)
        while (due := self._device.next_due_ns()) is not None and due < now_ns:
            self._receipts += self._books.book(self._device.advance(due))
        self._receipts += self._books.book(act(now_ns))
