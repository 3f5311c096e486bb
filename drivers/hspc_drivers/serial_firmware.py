"""The reference firmware's core, compiled for this machine, as a `serial_device.Brain`.

`drivers/firmware/host/core.cpp` says how to compile it. Its clock has 32 bits, as on the board.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

from hspc_drivers.serial_device import MOST_QUEUED
from hspc_drivers.serial_protocol import U32, unwrap
from hspc_drivers.sorter_device import ArmedChange, FiredPulse
from hspc_live.core.errors import DeviceError
from hspc_live.settings.devices import SimulatedSorter

_ROOM = 1 << 16


class _Happening(ctypes.Structure):
    """As `Happening` in core.cpp."""

    _fields_ = (
        ("kind", ctypes.c_uint8),
        ("outlet", ctypes.c_uint8),
        ("command", ctypes.c_uint32),
        ("from_us", ctypes.c_uint32),
        ("to_us", ctypes.c_uint32),
        ("reason", ctypes.c_char * 16),
    )


class Firmware:
    """The compiled core in `library`. Close it when done. Raises DeviceError if that is no such library."""

    def __init__(self, library: Path, settings: SimulatedSorter, outlets: int = 2, board: str = "emulator") -> None:
        try:
            self._lib = ctypes.CDLL(str(library))
            self._lib.core_new.restype = ctypes.c_void_p
            for name in ("core_said", "core_happened", "core_happening_bytes"):
                getattr(self._lib, name).restype = ctypes.c_uint32
            self._lib.core_due_in.restype = ctypes.c_uint8
        except (OSError, AttributeError) as error:
            raise DeviceError(f"{library}: not the compiled sorter firmware ({error})") from error
        if self._lib.core_happening_bytes() != ctypes.sizeof(_Happening):
            raise DeviceError(f"{library}: compiled from other sources; compile it anew")
        lead_us = round(max(settings.min_lead_ms, settings.latency_ms) * 1000)
        watchdog_us = round(settings.watchdog_ms * 1000)
        capacity = min(settings.max_queue, MOST_QUEUED)
        self._core = ctypes.c_void_p(
            self._lib.core_new(
                ctypes.c_uint8(outlets),
                ctypes.c_uint8(capacity),
                ctypes.c_uint32(lead_us),
                ctypes.c_uint32(watchdog_us),
                board.encode(),
            )
        )
        self._now_us = 0

    def feed(self, data: bytes, now_us: int) -> bytes:
        """Bytes have come from the host; what is said to it."""
        self._now_us = now_us
        self._lib.core_receive(self._core, data, ctypes.c_uint32(len(data)), ctypes.c_uint32(now_us % U32))
        return self._said()

    def advance(self, now_us: int) -> bytes:
        """Do what is due; what is said to the host."""
        self._now_us = now_us
        self._lib.core_advance(self._core, ctypes.c_uint32(now_us % U32))
        return self._said()

    def due_us(self, now_us: int) -> int | None:
        """When `advance` has something to do next; None while disarmed."""
        in_us = ctypes.c_uint32()
        due = self._lib.core_due_in(self._core, ctypes.c_uint32(now_us % U32), ctypes.byref(in_us))
        return now_us + in_us.value if due else None

    def outputs(self) -> list[FiredPulse | ArmedChange]:
        """What the actuator and the arming switch did since the last call. Device time in ns."""
        room = ctypes.create_string_buffer(_ROOM)
        count = self._lib.core_happened(self._core, room, ctypes.c_uint32(_ROOM))
        size = ctypes.sizeof(_Happening)
        return [self._output(_Happening.from_buffer_copy(room.raw[at : at + size])) for at in range(0, count, size)]

    def close(self) -> None:
        """Free the core; harmless when called twice."""
        self._lib.core_free(self._core)
        self._core = ctypes.c_void_p()

    def _said(self) -> bytes:
        room = ctypes.create_string_buffer(_ROOM)
        said = b""
        while count := self._lib.core_said(self._core, room, ctypes.c_uint32(_ROOM)):
            said += room.raw[:count]
        return said

    def _output(self, happening: _Happening) -> FiredPulse | ArmedChange:
        from_ns, to_ns = (unwrap(at, self._now_us) * 1000 for at in (happening.from_us, happening.to_us))
        if happening.kind == 0:
            return FiredPulse(happening.command, str(happening.outlet), from_ns, to_ns, True)
        return ArmedChange(from_ns, happening.kind == 1, happening.reason.decode())
