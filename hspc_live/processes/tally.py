"""What sort counts about a run beside the ledgers: latency, the verdicts' hash, time per stage."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, Final

from hspc_live.core.clock import NS_PER_S
from hspc_live.core.events import FrameSeen
from hspc_live.core.values import CellRecord, GateDecision
from hspc_live.processes.latency import Latencies
from hspc_live.processes.order import Ordered
from hspc_live.stages.verdicts import VerdictHash

SETTLED_NS: Final = NS_PER_S
"""From the first frame on, in which every process still finds its pages: benchmarks leave it out."""


class Tally:
    """Counts; every method is called from the sort loop."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._first_captured_ns: int | None = None
        self._received: dict[int, int] = {}
        self._latency = Latencies()
        self._settled = Latencies()
        self.verdicts = VerdictHash()
        self.alarms: Counter[str] = Counter()
        self.disarmed: list[str] = []
        self.receive_ns = 0
        self.core_ns = 0
        self.segment_ns = 0
        self.frames = 0
        self.detections = 0
        self.first_ns: int | None = None
        self.last_ns: int | None = None

    def frame(self, item: Ordered) -> None:
        """A frame that is about to be fed to the core."""
        if self._first_captured_ns is None:
            self._first_captured_ns = item.entry.captured_ns
        self._received[item.entry.captured_ns] = item.entry.received_ns
        if len(self._received) > 20_000:
            for captured_ns in list(self._received)[:10_000]:
                del self._received[captured_ns]
        if isinstance(item.event, FrameSeen) and item.result is not None:
            self.frames += 1
            self.detections += len(item.event.detections)
            self.segment_ns += item.result.segment_ns
            now_ns = time.perf_counter_ns()
            self.first_ns = self.first_ns if self.first_ns is not None else now_ns
            self.last_ns = now_ns

    def gated(self, decision: GateDecision) -> int | None:
        """A decision and its latency in ns: live from mid-exposure, in replay from the hand-over of the last frame.

        None where that frame's hand-over has been forgotten.
        """
        if self._live:
            latency_ns = decision.decided_ns - decision.last_capture_ns
        elif (received_ns := self._received.get(decision.last_capture_ns)) is not None:
            latency_ns = time.perf_counter_ns() - received_ns
        else:
            return None
        self._latency.add(latency_ns)
        if decision.last_capture_ns - (self._first_captured_ns or 0) >= SETTLED_NS:
            self._settled.add(latency_ns)
        return latency_ns

    def closed(self, record: CellRecord) -> None:
        """A cell's last word."""
        self.verdicts.add(record)

    def report(self) -> dict[str, Any]:
        """Plain data for the summary."""
        return {
            "latency_ms": self._latency.report(),
            "latency_settled_ms": self._settled.report(),
            "latency_from": "mid-exposure" if self._live else "hand-over",
            "decisions_sha256": self.verdicts.decisions_sha256,
            "outcomes_sha256": self.verdicts.outcomes_sha256,
            "alarms": dict(self.alarms),
            "disarmed": self.disarmed,
            "work_ns": {"receive": self.receive_ns, "core": self.core_ns, "segment": self.segment_ns},
            "frames_fed": self.frames,
            "detections": self.detections,
            "first_captured_ns": self._first_captured_ns,
            "span_ns": self.last_ns - self.first_ns if self.first_ns is not None and self.last_ns is not None else 0,
        }
