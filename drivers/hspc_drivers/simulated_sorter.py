"""The simulated sorter: a `ZmqSorter` whose device is a process that it starts itself, and ends with itself."""

from __future__ import annotations

import multiprocessing
import shutil
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from hspc_drivers.sorter_process import device_main
from hspc_drivers.sorter_wire import DEVICE, SwitchOff
from hspc_drivers.zmq_sorter import ZmqSorter
from hspc_live.core.errors import OutputError
from hspc_live.settings.devices import SimulatedSorter
from hspc_live.wire.codec import encode
from hspc_live.wire.links import Link, endpoint, private_folder

START_S = 60.0
END_S = 3.0


class ProcessSorter(ZmqSorter):
    """A `core.protocols.Sorter` whose device is a process of its own. Use it from one thread.

    The device writes its diary (`twin.pulses`) to `diary_path`, which must not exist; None keeps none.
    """

    def __init__(self, settings: SimulatedSorter, diary_path: Path | None = None) -> None:
        super().__init__("", START_S)  # the address is made when it is opened
        self._settings = settings
        self._diary_path = diary_path
        self._process: BaseProcess | None = None
        self._folder: Path | None = None

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
        self._address = endpoint(self._folder, "sorter")
        super().open()

    def close(self) -> None:
        """Switch the device off and wait for its process to end."""
        if self._link is not None and self._process is not None and self._process.is_alive():
            self._link.try_send(encode(SwitchOff()), DEVICE)
            self._process.join(END_S)
        self._kill()
        super().close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _shake_hands(self, link: Link) -> None:
        """Start the device's process first: it calls at the address of `link`."""
        self._process = multiprocessing.get_context("spawn").Process(
            target=device_main,
            args=(
                self._settings.model_dump_json(),
                time.perf_counter_ns(),
                link.address,
                str(self._diary_path) if self._diary_path is not None else None,
                str(self._folder),
            ),
            name="hspc-sorter",
            daemon=True,  # a host that forgets to close must not wait for its sorter at exit
        )
        self._process.start()
        super()._shake_hands(link)

    def _missing(self) -> str | None:
        return None if self._process is not None and self._process.is_alive() else "the device's process has ended"

    def _unreachable(self) -> None:
        """Switched off, as it cannot be told to disarm."""
        self._kill()

    def _kill(self) -> None:
        if self._process is None:
            return
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._process.close()
        self._process = None
        self._armed = False
