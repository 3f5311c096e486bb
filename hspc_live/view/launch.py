"""A run that the screen starts for itself (`--demo`, `--replay`): an ordinary command, as a process. No Qt."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence

from hspc_live.core.errors import WireError
from hspc_live.processes.ask import ask
from hspc_live.wire.messages import EndRun

END_S = 60.0
CONTROL = re.compile(r"control:? at (\S+)")  # a flow says it so, a chamber so


class Launched:
    """`hspc-live` with `arguments`; what it says on stderr tells where it can be reached."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hspc_live", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.address: str | None = None
        self.said: deque[str] = deque(maxlen=20)
        self._reader = threading.Thread(target=self._read, name="launched", daemon=True)
        self._reader.start()

    def found(self) -> list[str]:
        """Its control address once it is under way: what a `Connection` looks for."""
        return [self.address] if self.address is not None and self._process.poll() is None else []

    @property
    def words(self) -> str:
        """What it said last."""
        return self.said[-1] if self.said else "the pipeline is starting"

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def close(self) -> None:
        """End the run in good order; what does not end is killed."""
        if self._process.poll() is None:
            if self.address is not None:
                with contextlib.suppress(WireError):  # it ends by itself just now
                    ask(self.address, EndRun("view"))
            else:
                self._process.terminate()
            try:
                self._process.wait(END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._reader.join(5.0)
        if self._process.stderr is not None:
            self._process.stderr.close()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.said.append(line.strip())
            if self.address is None and (found := CONTROL.search(line)) is not None:
                self.address = found[1]
