"""The messages between the processes of one run. Pixels and scores travel as arrays behind them (`wire.codec`).

Three groups: the path of the data (acquire → segment → sort), the recording (acquire and sort → record), and control
(supervisor ↔ everyone). Frame numbers are the camera's; `_ns` is host time, in replay the recording's.
"""

from __future__ import annotations

from msgspec import Struct

from hspc_live.core.values import CellRecord, Receipt, SortCommand

WORKERS = b"segment-"
"""What the name of everyone begins with who looks for cells, at whatever socket."""

CONTROL_BYTES = 4 << 20
"""Most bytes of one message to whoever controls a run; its one part holds no array."""

# ---- the path of the data ------------------------------------------------------------------------------------------


class Ticket(Struct, frozen=True, array_like=True):
    """Where a frame's pixels lie in the ring, and which background belongs to it."""

    index: int
    captured_ns: int
    received_ns: int
    slot: int
    generation: int
    background: int


class SnapshotHead(Struct, frozen=True, array_like=True):
    """A numbered background; its pixels are the array at the same position behind the message."""

    number: int
    noise_sd: float


class Lease(Struct, frozen=True, tag="lease"):
    """acquire → segment: segment these frames. Snapshots that the worker does not hold yet ride along as arrays."""

    frames: list[Ticket]
    shape: tuple[int, int]
    dtype: str
    snapshots: list[SnapshotHead]


class Want(Struct, frozen=True, tag="want"):
    """segment → acquire: ready for `credit` more leases."""

    credit: int


class ResultHead(Struct, frozen=True, array_like=True):
    """The scalar part of a `FrameResult`; `objects` and `crops` count its rows in the arrays."""

    index: int
    captured_ns: int
    background: int
    over_cap: int
    alarms: tuple[str, ...]
    segment_ns: int
    objects: int
    crops: int


class Results(Struct, frozen=True, tag="results"):
    """segment → sort (and sort → record): arrays are objects, crops, windows, masks of all frames, concatenated."""

    frames: list[ResultHead]


class Entry(Struct, frozen=True, array_like=True):
    """One line of acquire's log in capture order: a captured frame (`missing` empty) or why it is missing.

    `slot` and `generation` say where its pixels lie in the ring, for whoever shows them.
    """

    index: int
    captured_ns: int
    received_ns: int
    missing: str = ""
    alarm: str = ""
    slot: int = -1
    generation: int = 0


class Notices(Struct, frozen=True, tag="notices"):
    """acquire → sort: what was captured, in capture order; `held` of the ring's slots are taken just now.

    `silent`: the camera has given nothing for some frame periods.
    """

    entries: list[Entry]
    held: int = 0
    silent: bool = False


class Lost(Struct, frozen=True, tag="lost"):
    """acquire → sort: these captured frames will never have a result (their workers died twice)."""

    indices: list[int]
    reason: str


class StreamEnded(Struct, frozen=True, tag="stream-ended"):
    """acquire → sort: no frame will follow. `error` says why, when it was not the normal end."""

    captured: int
    error: str = ""


class Release(Struct, frozen=True, tag="release"):
    """sort or record → acquire: done with these frames' pixels."""

    indices: list[int]


# ---- the recording -------------------------------------------------------------------------------------------------


class Keep(Struct, frozen=True, tag="keep"):
    """acquire → record: write these frames; new snapshots ride along as arrays, as in `Lease`."""

    frames: list[Ticket]
    shape: tuple[int, int]
    dtype: str
    snapshots: list[SnapshotHead]


class FramesEnded(Struct, frozen=True, tag="frames-ended"):
    """acquire → record: no frame will follow; so many were sent, and so many were not (the recorder was behind)."""

    kept: int
    unrecorded: int


class Scores(Struct, frozen=True, tag="scores"):
    """sort → record: scores (n, classes) of these (frame, view) keys, as one array."""

    keys: list[tuple[int, int]]


class Books(Struct, frozen=True, tag="books"):
    """sort → record: cells that ended, commands sent, receipts."""

    cells: list[CellRecord]
    commands: list[SortCommand]
    receipts: list[Receipt]


class Note(Struct, frozen=True, tag="note"):
    """sort → record: something said: arm, disarm, alarm."""

    kind: str
    detail: str
    at_ns: int


class RunningLedger(Struct, frozen=True, tag="running-ledger"):
    """sort → record: the ledgers as they stand, as JSON text; what a crash leaves behind is booked against them."""

    ledger: str


class CloseRecording(Struct, frozen=True, tag="close-recording"):
    """sort → record: the last message; the ledgers and the summary as JSON text."""

    ledger: str
    summary: str


# ---- control -------------------------------------------------------------------------------------------------------


class Ready(Struct, frozen=True, tag="ready"):
    """child → supervisor: device or model open; `detail` (JSON text) is what the others need to know."""

    role: str
    pid: int
    detail: str = "{}"


class Prepared(Struct, frozen=True, tag="prepared"):
    """child → supervisor: has what the others reported, made its files and links, and can go at once."""


class Beat(Struct, frozen=True, tag="beat"):
    """child → supervisor: alive, in the loop that does the work."""


class Said(Struct, frozen=True, tag="said"):
    """child → supervisor: a line for the person at the terminal."""

    kind: str
    text: str


class Injected(Struct, frozen=True, tag="injected"):
    """child → supervisor: a fault plan has struck here; `fault` is what it is counted under."""

    fault: str
    detail: str = ""


class Report(Struct, frozen=True, tag="report"):
    """child → supervisor: finished; the result as JSON text."""

    body: str


class Failed(Struct, frozen=True, tag="failed"):
    """child → supervisor: gave up; `kind` is the error's class name."""

    kind: str
    text: str


class Hung(Struct, frozen=True, tag="hung"):
    """acquire → supervisor: this worker holds leases and is silent."""

    worker: str


class Parted(Struct, frozen=True, tag="parted"):
    """door → supervisor: this worker of another computer has gone, or has been sent away."""

    worker: str


class Prepare(Struct, frozen=True, tag="prepare"):
    """supervisor → child: everyone is ready; `facts` is JSON text, role → detail, and so is the run's plan."""

    facts: str
    plan: str


class Go(Struct, frozen=True, tag="go"):
    """supervisor → child: start."""


class ArmNow(Struct, frozen=True, tag="arm"):
    """visitor → supervisor → sort: a person arms. `asked_by` is the visitor who waits for an `Answer`, or empty."""

    by: str
    asked_by: str = ""


class DisarmNow(Struct, frozen=True, tag="disarm"):
    """visitor → supervisor → sort: make the sorter safe."""

    reason: str
    asked_by: str = ""


class SetGates(Struct, frozen=True, tag="set-gates"):
    """visitor → supervisor → sort: from the next frame on these gates. `outlets` is JSON text, as in the settings."""

    outlets: str
    by: str
    asked_by: str = ""


class AskStatus(Struct, frozen=True, tag="ask-status"):
    """visitor → supervisor → sort: how do things stand?"""

    asked_by: str = ""


class AskRun(Struct, frozen=True, tag="ask-run"):
    """visitor → supervisor: what run is this? The answer's detail holds its plan and what its processes reported."""


class Pace(Struct, frozen=True, tag="pace"):
    """visitor → supervisor → acquire: hold a replay still, let `frames` more through, or let it go on (None)."""

    frames: int | None


class DriveStage(Struct, frozen=True, tag="drive-stage"):
    """visitor → chamber run: bring this place of the stage to the middle of the frame, µm."""

    x_um: float
    y_um: float
    by: str


class EndRun(Struct, frozen=True, tag="end-run"):
    """visitor → supervisor: disarm, let what is under way come to its end, close the books."""

    by: str


class StopNow(Struct, frozen=True, tag="stop-now"):
    """visitor → supervisor: nothing may be deflected any more, whatever it costs: *sort* is killed."""

    by: str


class Answer(Struct, frozen=True, tag="answer"):
    """sort → supervisor → visitor: done, or why not. `error` is the class of error, empty when `done`."""

    asked_by: str
    done: bool
    text: str
    error: str = ""
    detail: str = "{}"


class WorkerGone(Struct, frozen=True, tag="worker-gone"):
    """supervisor → acquire: this worker's process has ended; lease its frames once more."""

    worker: str


class RecorderGone(Struct, frozen=True, tag="recorder-gone"):
    """supervisor → acquire, sort: nothing more is written; go on to the end without waiting for it."""


class Drain(Struct, frozen=True, tag="drain"):
    """supervisor → acquire: stop the camera and let what is under way come to its end."""


class Quit(Struct, frozen=True, tag="quit"):
    """supervisor → child: end now."""


ToWorker = Lease
ToAcquire = Want | Release
ToSort = Results | Notices | Lost | StreamEnded
ToRecord = Keep | FramesEnded | Results | Scores | Books | Note | RunningLedger | CloseRecording
Wish = ArmNow | DisarmNow | SetGates | AskStatus
ToChild = Prepare | Go | Wish | Pace | WorkerGone | RecorderGone | Drain | Quit
Visited = Wish | AskRun | Pace | DriveStage | EndRun | StopNow
ToSupervisor = Ready | Prepared | Beat | Said | Injected | Report | Failed | Hung | Parted | Visited | Answer
ToVisitor = Answer
