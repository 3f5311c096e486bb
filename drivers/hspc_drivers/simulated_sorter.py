"""The host's half of the simulated sorter: it starts the device's process and speaks to it over a link.

The host knows the device's clock only from pings (`sorter_clock.ClockEstimate`), sends every command in device time,
and treats a device that says nothing for two seconds, or whose process has ended, as failed.
"""

from __future__ import annotations

import multiprocessing
import shutil
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from msgspec import Struct

from hspc_drivers.sorter_clock import ClockEstimate
from hspc_drivers.sorter_process import device_main
from hspc_drivers.sorter_wire import DEVICE, Answered, ArmIt, DisarmIt, Fire, Ping, Pong, State, SwitchOff, ToHost
from hspc_live.core.clock import NS_PER_S
from hspc_live.core.errors import DeviceError, OutputError, WireError
from hspc_live.core.values import Receipt, SortCommand
from hspc_live.settings.devices import SimulatedSorter
from hspc_live.wire.codec import Decoder, encode
from hspc_live.wire.links import Link, endpoint, open_router, private_folder

START_S = 60.0
SILENCE_NS = 2 * NS_PER_S
ARM_NS = NS_PER_S // 2
END_S = 3.0
PINGS = 24
PONG_WAIT_S = 0.002


class ProcessSorter:
    """A `core.protocols.Sorter` whose device is a process of its own. Use it from one thread.

    The device writes its diary (`twin.pulses`) to `diary_path`, which must not exist; None keeps none.
    """

    def __init__(self, settings: SimulatedSorter, diary_path: Path | None = None) -> None:
        self._settings = settings
        self._diary_path = diary_path
        self._decoder = Decoder[ToHost](ToHost)
        self._link: Link | None = None
        self._process: BaseProcess | None = None
        self._folder: Path | None = None
        self._estimate = ClockEstimate()
        self._receipts: list[Receipt] = []
        self._heard_ns = 0
        self._armed = False
        self._pongs = 0

    @property
    def armed(self) -> bool:
        """Whether the device last said that it accepts commands."""
        return self._armed

    @property
    def clock_bound_ns(self) -> int:
        """How far the estimate of the device's clock can be off now."""
        return self._estimate.offset_ns(time.perf_counter_ns())[1]

    @property
    def pid(self) -> int | None:
        """The device's process, while there is one."""
        return self._process.pid if self._process is not None else None

    def open(self) -> None:
        """Start the device and estimate its clock. Raises DeviceError, and OutputError for a diary that exists."""
        if self._diary_path is not None:
            try:
                self._diary_path.open("xb").close()
            except OSError as error:
                raise OutputError(f"{self._diary_path}: cannot make the pulse log: {error.strerror}") from error
        self._folder = private_folder()
        self._link = open_router(endpoint(self._folder, "sorter"))
        self._process = multiprocessing.get_context("spawn").Process(
            target=device_main,
            args=(
                self._settings.model_dump_json(),
                time.perf_counter_ns(),
                self._link.address,
                str(self._diary_path) if self._diary_path is not None else None,
                str(self._folder),
            ),
            name="hspc-sorter",
            daemon=True,  # a host that forgets to close must not wait for its sorter at exit
        )
        self._process.start()
        try:
            self._shake_hands(self._link)
        except DeviceError:
            self.close()
            raise

    def arm(self) -> None:
        """Let commands through. Raises DeviceError unless the device says within half a second that it does."""
        self._armed = False  # the device's word from before says nothing about now
        self._tell(ArmIt())
        deadline_ns = time.perf_counter_ns() + ARM_NS
        while not self._armed:
            if self._link is None or time.perf_counter_ns() > deadline_ns:
                self.disarm()  # should the order arrive after all, it must not find us gone
                raise DeviceError(f"sorter: the device did not confirm arming within {ARM_NS / NS_PER_S:g} s")
            self._link.wait(0.005)
            self._listen()

    def disarm(self) -> None:
        """Empty the queue and refuse what comes. A device that cannot be reached is switched off instead."""
        if self._link is None:
            return
        self._armed = False  # so that arming anew waits for a word of its own
        try:
            self._tell(DisarmIt())
        except DeviceError:
            self._kill()

    def send(self, command: SortCommand) -> None:
        """Hand one command over, in device time. Raises DeviceError when the device cannot be reached."""
        offset_ns, _ = self._estimate.offset_ns(time.perf_counter_ns())
        opens = command.fire_at_ns - command.width_ns // 2 + offset_ns
        self._tell(
            Fire(command.command, command.outlet, opens, opens + command.width_ns, command.deadline_ns + offset_ns)
        )

    def poll(self) -> Sequence[Receipt]:
        """Receipts since the last call, in host time. Raises DeviceError once a failed device has no more to say."""
        self._listen()
        receipts, self._receipts = self._receipts, []
        if not receipts:
            self._check()
        return receipts

    def heartbeat(self) -> None:
        """Tell the device that the host lives; its answer also refreshes the clock estimate, so drift is followed."""
        pongs = self._pongs
        self._tell(Ping(time.perf_counter_ns()))
        # A reply left lying until the next poll would look like a long trip, so a moment is spent on waiting for it.
        deadline_ns = time.perf_counter_ns() + round(PONG_WAIT_S * NS_PER_S)
        while self._link is not None and self._pongs == pongs and time.perf_counter_ns() < deadline_ns:
            self._link.wait(0.001)
            self._listen()

    def close(self) -> None:
        """Switch the device off and wait for its process to end."""
        if self._link is not None:
            if self._process is not None and self._process.is_alive():
                self._link.try_send(encode(SwitchOff()), DEVICE)
                self._process.join(END_S)
            self._kill()
            self._link.close()
            self._link = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _kill(self) -> None:
        if self._process is None:
            return
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._process.close()
        self._process = None
        self._armed = False

    def _shake_hands(self, link: Link) -> None:
        """Wait for the device's first word, then ping it until its clock is known."""
        deadline_ns = time.perf_counter_ns() + round(START_S * NS_PER_S)
        while self._heard_ns == 0:
            if time.perf_counter_ns() > deadline_ns:
                raise DeviceError(f"sorter: the device did not start within {START_S:g} s")
            if self._process is None or not self._process.is_alive():
                raise DeviceError("sorter: the device's process ended while starting")
            link.wait(0.05)
            self._listen()
        for _ in range(PINGS):
            self.heartbeat()
        while self._pongs == 0:
            link.wait(0.05)
            self._listen()
            self._check()

    def _listen(self) -> None:
        """Take in all that has arrived."""
        if self._link is None:
            return
        while (got := self._link.try_recv()) is not None:
            now_ns = time.perf_counter_ns()
            self._heard_ns = now_ns
            try:
                message = self._decoder.decode(got[1]).message
            except WireError as error:
                raise DeviceError(f"sorter: talks nonsense ({error})") from error
            match message:
                case Pong(sent_ns, device_ns):
                    self._estimate.add(sent_ns, device_ns, now_ns)
                    self._pongs += 1
                case State(armed):
                    self._armed = armed
                case Answered(command, kind, at_ns, reason):
                    self._receipts.append(Receipt(command, kind, self._estimate.host_ns(at_ns, now_ns), reason))

    def _check(self) -> None:
        """Raise DeviceError if the device is gone."""
        if self._process is None or self._link is None:
            raise DeviceError("sorter: not open")
        if not self._process.is_alive():
            raise DeviceError("sorter: the device's process has ended")
        silent_ns = time.perf_counter_ns() - self._heard_ns
        if silent_ns > SILENCE_NS:
            raise DeviceError(f"sorter: the device has been silent for {silent_ns / NS_PER_S:.1f} s")

    def _tell(self, message: Struct) -> None:
        """Send without blocking; a device that is gone is an error here and now."""
        if self._link is None:
            raise DeviceError("sorter: not open")
        if not self._link.try_send(encode(message), DEVICE):
            raise DeviceError("sorter: the device cannot be reached")
