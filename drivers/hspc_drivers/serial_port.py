"""A serial port as lines with the time at which each arrived: the only module that speaks pyserial.

A thread reads, so that a line is stamped when it comes and not when somebody looks; everything else is one caller's.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import Any

from hspc_drivers.serial_protocol import TO_HOST, Bad, Line, LineReader
from hspc_live.core.errors import DeviceError

READ_S = 0.1
WRITE_S = 0.5
"""A line that cannot be handed over in this time meets a device that reads nothing: it is silent before that.

Not shorter: pyserial also counts the time for which this process was not let run."""


class SerialPort:
    """The port `name` at `baud`. Raises DeviceError if it cannot be opened; then it is nobody else's until closed.

    `lost` says why it is not there any more (unplugged, or it takes nothing), or is empty.
    """

    def __init__(self, name: str, baud: int) -> None:
        self._name = name
        self._port = _open(name, baud)
        self.lost = ""
        self._come: deque[tuple[int, Line | Bad]] = deque()
        self._closing = False
        self._thread = threading.Thread(target=self._read, name="hspc-serial", daemon=True)
        self._thread.start()

    def write(self, line: bytes) -> None:
        """Hand `line` over, whole. Raises DeviceError if that cannot be done; `lost` then says why."""
        from serial import SerialException, SerialTimeoutException

        if not self.lost:
            try:
                self._port.write(line)
            except SerialTimeoutException:
                self.lost = f"{self._name} takes nothing any more"
            except (SerialException, OSError):
                self.lost = f"{self._name} is gone, unplugged?"
        if self.lost:
            raise DeviceError(f"sorter: {self.lost}")

    def take(self) -> tuple[int, Line | Bad] | None:
        """The oldest line not taken yet, with the host time (ns) of its arrival; None if there is none."""
        try:
            return self._come.popleft()
        except IndexError:
            return None

    def wait(self, timeout_s: float) -> None:
        """Wait a moment for a line to come."""
        end = time.monotonic() + timeout_s
        while not self._come and not self.lost and time.monotonic() < end:
            time.sleep(0.0005)

    def close(self) -> None:
        """Let go of the port; harmless when called twice."""
        self._closing = True
        with contextlib.suppress(OSError, AttributeError):
            self._port.cancel_read()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._port.close()

    def _read(self) -> None:
        from serial import SerialException

        reader = LineReader(TO_HOST)
        while not self._closing:
            try:
                data = self._port.read(max(1, self._port.in_waiting))
            except (SerialException, OSError, TypeError):  # TypeError: closed under its feet
                if not self._closing:
                    self.lost = self.lost or f"{self._name} is gone, unplugged?"
                return
            now_ns = time.perf_counter_ns()
            self._come.extend((now_ns, line) for line in reader.feed(data))


def _open(name: str, baud: int) -> Any:
    try:
        import serial
        from serial.tools import list_ports
    except ImportError as error:
        raise DeviceError("sorter: pyserial is missing; install it with: pip install 'hspc-live[rig]'") from error
    try:
        port = serial.Serial(name, baud, timeout=READ_S, write_timeout=WRITE_S, exclusive=True)
    except (serial.SerialException, OSError, ValueError) as error:
        found = ", ".join(sorted(port.device for port in list_ports.comports())) or "none"
        raise DeviceError(f"sorter: {name} cannot be opened: {error}; serial ports here: {found}") from error
    with contextlib.suppress(AttributeError, OSError, NotImplementedError, ValueError):
        port.set_low_latency_mode(True)  # or an adapter gathers bytes for up to 16 ms
    return port
