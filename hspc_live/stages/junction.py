"""Who is at the junction when: the windows of all objects, and the pulses already commanded."""

from __future__ import annotations

from hspc_live.stages.timing import Pulse
from hspc_live.stages.track import Track

_BUCKET_NS = 20_000_000  # about a long pulse: a window lies in one bucket or two
_MAX_BUCKETS = 256  # a window longer than 5 s is looked at every time instead

_Crossing = tuple[int, int, Track]  # start and end of an object's window


def overlaps(one: Pulse, other: Pulse) -> bool:
    """Whether two stretches of time have a moment in common (their ends belong to them)."""
    return one.start_ns <= other.end_ns and other.start_ns <= one.end_ns


class Crossings:
    """Windows at the junction of the objects that have left the view, found by time.

    A hash of 20 ms buckets: adding and asking cost the same with ten objects under way and with ten thousand.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, list[_Crossing]] = {}
        self._wide: list[_Crossing] = []
        self._oldest: int | None = None

    def add(self, track: Track, window: Pulse) -> None:
        """Remember `track`; its `window` is final."""
        crossing = (window.start_ns, window.end_ns, track)
        first, last = window.start_ns // _BUCKET_NS, window.end_ns // _BUCKET_NS
        if last - first >= _MAX_BUCKETS:
            self._wide.append(crossing)
            return
        for bucket in range(first, last + 1):
            self._buckets.setdefault(bucket, []).append(crossing)
        self._oldest = first if self._oldest is None else min(self._oldest, first)

    def during(self, pulse: Pulse) -> list[Track]:
        """The objects whose window overlaps `pulse`, each once, oldest first."""
        start, end = pulse
        found: dict[int, Track] = {}
        for bucket in range(start // _BUCKET_NS, end // _BUCKET_NS + 1):
            for its_start, its_end, track in self._buckets.get(bucket, ()):
                if its_start <= end and start <= its_end:
                    found[track.number] = track
        for its_start, its_end, track in self._wide:
            if its_start <= end and start <= its_end:
                found[track.number] = track
        return [found[number] for number in sorted(found)]

    def forget(self, before_ns: int) -> None:
        """Drop what can matter no more: every window that ended before `before_ns`."""
        if self._wide:
            self._wide = [crossing for crossing in self._wide if crossing[1] >= before_ns]
        end = before_ns // _BUCKET_NS
        if self._oldest is None or self._oldest >= end:
            return
        if end - self._oldest > len(self._buckets):
            self._buckets = {bucket: crossings for bucket, crossings in self._buckets.items() if bucket >= end}
        else:
            for bucket in range(self._oldest, end):
                self._buckets.pop(bucket, None)
        self._oldest = end

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values())) + len(self._wide)


class Pulses:
    """The pulses already commanded, as far as the actuator's refractory time still reaches."""

    def __init__(self, refractory_ns: int) -> None:
        self._refractory_ns = refractory_ns
        self._recent: list[Pulse] = []

    def conflict(self, pulse: Pulse) -> bool:
        """Whether the actuator could not serve `pulse` beside those already commanded."""
        for other in reversed(self._recent):  # the last ones are the likeliest
            if self.too_close(pulse, other):
                return True
        return False

    def too_close(self, one: Pulse, other: Pulse) -> bool:
        """Whether less than the refractory time lies between two pulses."""
        gap = self._refractory_ns
        return one.start_ns < other.end_ns + gap and other.start_ns < one.end_ns + gap

    def add(self, pulse: Pulse) -> None:
        """Remember a commanded pulse."""
        self._recent.append(pulse)

    def forget(self, before_ns: int) -> None:
        """Drop the pulses whose refractory time was over before `before_ns`."""
        if self._recent and self._recent[0].end_ns + self._refractory_ns < before_ns:
            self._recent = [pulse for pulse in self._recent if pulse.end_ns + self._refractory_ns >= before_ns]
