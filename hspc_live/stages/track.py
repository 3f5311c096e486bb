"""From views to tracks: which object of this frame is which object of the frames before.

Constant velocity along +x, y nearly constant. Each track is a two-state Kalman filter (position, velocity) that starts
from the prior velocity; without process noise it equals the least-squares line with a prior, one look at a time
(Bar-Shalom, Li and Kirubarajan, *Estimation with Applications to Tracking and Navigation*, 2001, ch. 5). Assignment is
global per frame (Hungarian where tracks and objects compete) and goes by the content of the detections, never by their
order.
Everything is tracked, rejects too: every object takes up space at the junction.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from hspc_live.core.values import Detection, Reject
from hspc_live.settings.sort import TrackSettings
from hspc_live.stages.cell import Cell
from hspc_live.stages.timing import Arrival

GATE = 4.0
"""Standard deviations of the predicted position, each axis, within which an object may belong to a track."""

_STANDS = 0.25
"""Share of the way the flow would have carried it, below which an object counts as standing still."""

_MOVED_UM = 10.0
"""Way after which an object has moved on, however long it stood before."""

_NEVER = 1e6  # a cost above every real one: "not these two" in the assignment's matrix


class Track:
    """One object over frames: filter state at `at_ns` (time of its last look), covariance, and what was seen of it."""

    __slots__ = (
        "accepted", "anchor_ns", "anchor_x", "arrival", "at_ns", "blurred", "cell", "chi2", "contradicted", "crowded",
        "first_frame", "last_frame", "looks", "number", "pvv", "pxv", "pxx", "still_frames", "v_um_s", "x_um", "y_um",
    )  # fmt: skip

    def __init__(self, number: int, index: int, captured_ns: int, seen: Detection, settings: TrackSettings) -> None:
        self.number = number
        self.first_frame = index
        self.cell: Cell | None = None
        self.crowded = False
        self.arrival: Arrival | None = None
        self.accepted = 0
        self.blurred = 0
        self.contradicted = 0  # looks that say it is no single cell
        self.still_frames = 0
        self.anchor_x = seen.x_um
        self.anchor_ns = captured_ns
        self._begin(index, captured_ns, seen, settings)
        self._count(seen)

    def _begin(self, index: int, captured_ns: int, seen: Detection, settings: TrackSettings) -> None:
        """Start the filter at `seen`, with the prior velocity."""
        sd = _position_sd(seen, settings)
        self.x_um = seen.x_um
        self.v_um_s = settings.velocity_um_s
        self.y_um = seen.y_um
        self.pxx = sd * sd
        self.pxv = 0.0
        self.pvv = settings.velocity_sd_um_s**2
        self.at_ns = captured_ns
        self.last_frame = index
        self.looks = 1
        self.chi2 = 0.0

    def _count(self, seen: Detection) -> None:
        if seen.reject == 0:
            self.accepted += 1
        elif seen.reject == Reject.BLURRED:
            self.blurred += 1
        elif seen.reject in (Reject.CLUSTER, Reject.DEBRIS):
            self.contradicted += 1

    @property
    def doubtful(self) -> bool:
        """Whether at least as many looks say that it is no single cell as accepted it as one."""
        return self.contradicted >= self.accepted

    def predict_x(self, captured_ns: int) -> float:
        """Where the track is at `captured_ns`, in µm."""
        return self.x_um + self.v_um_s * (captured_ns - self.at_ns) * 1e-9

    def update(self, index: int, captured_ns: int, seen: Detection, settings: TrackSettings) -> None:
        """Take in a look at the object: one Kalman step."""
        dt = (captured_ns - self.at_ns) * 1e-9
        sd = _position_sd(seen, settings)
        x = self.x_um + self.v_um_s * dt
        pxv = self.pxv + dt * self.pvv
        pxx = self.pxx + dt * (self.pxv + pxv)
        total = pxx + sd * sd
        off = seen.x_um - x
        gain_x, gain_v = pxx / total, pxv / total
        self.x_um = x + gain_x * off
        self.v_um_s += gain_v * off
        self.pxx = pxx * (1.0 - gain_x)
        self.pvv -= gain_v * pxv
        self.pxv = pxv * (1.0 - gain_x)
        if self.looks > 1:  # the second look only tells the prior from the truth; from the third on the line is tested
            self.chi2 += off * off / total
        self.y_um = seen.y_um
        self.at_ns = captured_ns
        self.last_frame = index
        self.looks += 1
        self._count(seen)
        self._stands(captured_ns, seen.x_um, settings)

    def stand(self, index: int, captured_ns: int, seen: Detection, settings: TrackSettings) -> None:
        """The object is where it was, against the flow: what was known of its velocity is void."""
        self._begin(index, captured_ns, seen, settings)
        self._count(seen)
        self._stands(captured_ns, seen.x_um, settings)

    def _stands(self, captured_ns: int, x_um: float, settings: TrackSettings) -> None:
        """Count the frames since the object last moved on."""
        way = settings.velocity_um_s * (captured_ns - self.anchor_ns) * 1e-9
        if x_um - self.anchor_x > min(_STANDS * way, _MOVED_UM) + 4.0 * settings.position_sd_um:
            self.anchor_x = x_um
            self.anchor_ns = captured_ns
            self.still_frames = 0
        else:
            self.still_frames += 1

    @property
    def inflation(self) -> float:
        """Factor on the covariance where the looks scatter more about the line than they should; 1 at least."""
        return max(1.0, self.chi2 / (self.looks - 2)) if self.looks > 2 else 1.0

    @property
    def velocity_sd_um_s(self) -> float:
        """Standard deviation of the velocity."""
        return math.sqrt(self.pvv * self.inflation)


def _position_sd(seen: Detection, settings: TrackSettings) -> float:
    """Error of a position. Of an object cut by the border only a part is seen: its centre is off by up to a radius."""
    if seen.reject == Reject.BORDER:
        return max(seen.diameter_um * 0.5, 2.0)
    return settings.position_sd_um


@dataclass(frozen=True, slots=True)
class Tracked:
    """One frame's association: `tracks[row]` belongs to detection `row`, None beyond the cap; `lost` have ended."""

    tracks: list[Track | None]
    lost: list[Track]
    over_cap: int


class Tracker:
    """All objects in view."""

    def __init__(self, settings: TrackSettings, max_tracks: int) -> None:
        self._settings = settings
        self._max_tracks = max_tracks
        self._made = 0
        self.live: list[Track] = []

    def expire(self, index: int) -> list[Track]:
        """End the tracks unseen for more than `max_missed` frames up to and including `index`; return them."""
        limit = index - self._settings.max_missed
        lost = [track for track in self.live if track.last_frame < limit]
        if lost:
            self.live = [track for track in self.live if track.last_frame >= limit]
        return lost

    def end(self) -> list[Track]:
        """End every track; return them."""
        lost, self.live = self.live, []
        return lost

    def step(self, index: int, captured_ns: int, detections: Sequence[Detection], order: Sequence[int]) -> Tracked:
        """Associate one frame. `order` lists the rows of `detections` to be followed, sorted by their content."""
        lost = self.expire(index - 1)
        settings = self._settings
        tracks: list[Track | None] = [None] * len(detections)
        over_cap = 0
        if order:
            live = self.live
            left = [detections[row] for row in order]
            owner = _assign(live, left, captured_ns, settings) if live else [-1] * len(left)
            if live and -1 in owner:
                _stalled(live, left, owner, settings)
            made: list[Track] = []
            for place, row in enumerate(order):
                seen = left[place]
                mine = owner[place]
                if mine >= 0:
                    track = live[mine]
                    track.update(index, captured_ns, seen, settings)
                elif mine < -1:
                    track = live[-2 - mine]
                    track.stand(index, captured_ns, seen, settings)
                elif len(live) + len(made) >= self._max_tracks:
                    over_cap += 1
                    continue
                else:
                    track = Track(self._made, index, captured_ns, seen, settings)
                    self._made += 1
                    made.append(track)
                tracks[row] = track
            live += made
        lost += self.expire(index)
        return Tracked(tracks, lost, over_cap)


def _assign(live: list[Track], left: list[Detection], captured_ns: int, settings: TrackSettings) -> list[int]:
    """For each detection of `left` (sorted by x) the place of its track in `live`, or -1."""
    xs = [seen.x_um for seen in left]
    sds = [_position_sd(seen, settings) for seen in left]
    widest = max(sds)
    slack = settings.slack_um**2
    limit = GATE * GATE
    across = 2.0 * settings.position_sd_um**2 + settings.lateral_sd_um**2
    far = GATE * math.sqrt(across)
    owner = [-1] * len(left)
    taken = [-1] * len(live)
    pairs: list[tuple[float, int, int]] = []
    clash = False
    for place, track in enumerate(live):
        dt = (captured_ns - track.at_ns) * 1e-9
        x = track.x_um + track.v_um_s * dt
        variance = track.pxx + dt * (2.0 * track.pxv + dt * track.pvv) + slack
        reach = GATE * math.sqrt(variance + widest * widest)
        y = track.y_um
        at = bisect_left(xs, x - reach)
        while at < len(xs) and xs[at] <= x + reach:
            dy = left[at].y_um - y
            if -far <= dy <= far:
                dx = xs[at] - x
                cost = dx * dx / (variance + sds[at] * sds[at])
                if cost <= limit:
                    clash = clash or owner[at] >= 0 or taken[place] >= 0
                    owner[at] = place
                    taken[place] = at
                    pairs.append((cost + dy * dy / across, place, at))
            at += 1
    return _compete(pairs, len(left)) if clash else owner


def _compete(pairs: list[tuple[float, int, int]], n_left: int) -> list[int]:
    """The assignment with the most pairs and, among those, the least total cost."""
    places = sorted({place for _, place, _ in pairs})
    ats = sorted({at for _, _, at in pairs})
    row = {place: i for i, place in enumerate(places)}
    column = {at: i for i, at in enumerate(ats)}
    costs = np.full((len(places), len(ats)), _NEVER)
    for cost, place, at in pairs:
        costs[row[place], column[at]] = cost
    owner = [-1] * n_left
    for i, j in zip(*linear_sum_assignment(costs), strict=True):
        if costs[i, j] < _NEVER:
            owner[ats[j]] = places[i]
    return owner


def _stalled(live: list[Track], left: list[Detection], owner: list[int], settings: TrackSettings) -> None:
    """Second chance for what is left over: a track whose object stands where it was. Marks it as -2 - place.

    Without it a clog would make a new track of every standing object in every frame, and never be seen as one. What
    stands does so to within the error of its position: any wider, and in a dense flow a newcomer would be taken for it.
    """
    taken = set(owner)
    near = GATE * math.sqrt(2.0) * settings.position_sd_um
    free = [(place, track.x_um, track.y_um) for place, track in enumerate(live) if place not in taken]
    xs = [seen.x_um for seen in left]
    pairs = [
        (abs(xs[at] - x) + abs(left[at].y_um - y), place, at)
        for place, x, y in free
        for at in range(bisect_left(xs, x - near), bisect_right(xs, x + near))
        if owner[at] == -1 and abs(xs[at] - x) <= near and abs(left[at].y_um - y) <= near
    ]
    used: set[int] = set()
    for _, place, at in sorted(pairs):
        if place not in used and owner[at] == -1:
            used.add(place)
            owner[at] = -2 - place
