"""What a person wants of the run, sent from threads so that the screen never waits for an answer. No Qt."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from msgspec import Struct

from hspc_live.core.errors import HspcError
from hspc_live.processes.ask import ask
from hspc_live.wire.messages import Answer

Done = Callable[[Answer], None]


class Wishes:
    """`send` returns at once; `poll`, called from the screen's timer, hands each answer to who waits for it."""

    def __init__(self) -> None:
        self._answers: SimpleQueue[tuple[Done, Answer]] = SimpleQueue()
        self._under_way: list[threading.Thread] = []

    @property
    def waiting(self) -> int:
        """How many wishes have no answer yet."""
        return len(self._under_way)

    def send(self, control: str, wish: Struct, done: Done) -> None:
        """Tell the run at `control`; `done` gets its answer, or one that says why none came."""
        thread = threading.Thread(target=self._work, args=(control, wish, done), name="wish", daemon=True)
        self._under_way.append(thread)
        thread.start()

    def poll(self) -> None:
        """Hand over what has been answered."""
        self._under_way = [thread for thread in self._under_way if thread.is_alive()]
        while True:
            try:
                done, answer = self._answers.get_nowait()
            except Empty:
                return
            done(answer)

    def close(self, patience_s: float = 0.5) -> None:
        """Wait a little for what is under way."""
        for thread in self._under_way:
            thread.join(patience_s)

    def _work(self, control: str, wish: Struct, done: Done) -> None:
        try:
            answer = ask(control, wish)
        except HspcError as error:
            answer = Answer("", False, str(error), type(error).__name__)
        self._answers.put((done, answer))
