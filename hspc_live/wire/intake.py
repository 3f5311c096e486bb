"""What comes in at a socket, made safe to act on: decoded, of this run, not too much at once; the rest is counted.

Whoever can reach a socket can send it anything. So nothing that comes in raises: a message is what the codec says it
is and comes from whom this end listens to, or it is refused under one of the names in `refused` and changes nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Generic, TypeVar

from hspc_live.core.errors import WireError
from hspc_live.wire.codec import Decoded, Decoder, Limits
from hspc_live.wire.links import Link

BURST = 256
"""Messages taken at once: a flood keeps nobody from the rest of the work."""

T = TypeVar("T")


class Rate:
    """A token bucket for each sender (`per_s`, and as much as that at once times `burst_s`); at most `most` senders.

    Pure: times are passed in, in s. A sender beyond `most` takes the place of the one heard of longest ago.
    """

    def __init__(self, per_s: float, burst_s: float = 1.0, most: int = 256) -> None:
        self._per_s = per_s
        self._full = max(1.0, per_s * burst_s)
        self._most = most
        self._buckets: dict[bytes, tuple[float, float]] = {}

    def admits(self, sender: bytes, now_s: float) -> bool:
        """Whether one more message of `sender` is within its rate now."""
        left, since_s = self._buckets.pop(sender, (self._full, now_s))
        left = min(self._full, left + (now_s - since_s) * self._per_s)
        self._buckets[sender] = (left - 1.0 if left >= 1.0 else left, now_s)
        if len(self._buckets) > self._most:
            del self._buckets[next(iter(self._buckets))]
        return left >= 1.0


class Intake(Generic[T]):
    """The messages of `link`, of the given Struct or union of Structs.

    `run` refuses those of other runs, `senders` decides by the router's name for a peer who is listened to, `rate`
    bounds what each may send. `tell(sender, why)` hears of the first few that cannot be read, e.g. of another version.
    """

    TOLD = 3

    def __init__(
        self,
        link: Link,
        messages: type[T] | UnionType,
        *,
        run: str | None = None,
        senders: Callable[[bytes], bool] | None = None,
        rate: Rate | None = None,
        tell: Callable[[str, str], None] | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._link = link
        self._decoder = Decoder[T](messages, limits)
        self._run = run
        self._senders = senders
        self._rate = rate
        self._tell = tell
        self._counted: Counter[str] = Counter()

    @property
    def refused(self) -> dict[str, int]:
        """Messages that had no effect, by reason; empty while all was well."""
        over = {"over_limit": self._link.refused} if self._link.refused else {}
        return over | dict(self._counted)

    def refuse(self, reason: str) -> None:
        """Count a message that was decoded, but that its receiver found impossible."""
        self._counted[reason] += 1

    def take(self, most: int = BURST) -> Iterator[tuple[bytes, Decoded[T]]]:
        """(sender, message) of what waits, `most` at a time, the refused ones included."""
        for _ in range(most):
            if (got := self._link.try_recv()) is None:
                return
            sender = got[0] or b""
            if self._senders is not None and not self._senders(sender):
                self._counted["stranger"] += 1
            elif self._rate is not None and not self._rate.admits(sender, time.monotonic()):
                self._counted["too_fast"] += 1
            else:
                try:
                    decoded = self._decoder.decode(got[1])
                except WireError as error:
                    self._counted["malformed"] += 1
                    if self._tell is not None and self._counted["malformed"] <= self.TOLD:
                        self._tell(sender.decode(errors="replace"), str(error))
                    continue
                if self._run is not None and decoded.run != self._run:
                    self._counted["other_run"] += 1
                    continue
                yield sender, decoded
