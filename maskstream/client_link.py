"""The way from a stream to its server: one call after another, and what is on its way.

Answers settle requests as they arrive, on the reading thread of the call, so that there is room for the next frame
whatever the caller does; the caller takes them out of the inbox. Snapshots are taken here: no answer waits for them.
"""

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from maskstream.client_journal import Journal, Sent, Settled
from maskstream.client_messages import answer_seqs
from maskstream.client_opening import NotReopened, Opener, Reopened
from maskstream.errors import RequestRefused, ServerUnavailable, StreamError
from maskstream.feeder import Fed, FedAll
from maskstream.remote_call import CallEnded, RemoteCall
from maskstream.v1 import maskstream_pb2 as pb

_ALL_RESULTS = 2**31 - 1
_HEAVY_PAUSE_SECONDS = 1.0  # between snapshots that are asked for because much is kept


@dataclass(frozen=True)
class Arrived:
    """A response, and the requests that it answers."""

    response: pb.PropagateResponse
    settled: tuple[Settled, ...]


@dataclass(frozen=True)
class Taken:
    """The caller is done with an answer."""

    was_result: bool


@dataclass(frozen=True)
class Woken:
    """Look around: something was closed."""


@dataclass(frozen=True)
class _Asked:
    """A snapshot that is on its way; `is_ours`: it holds all that the caller knows."""

    state: "Future[bytes]"
    is_ours: bool


Event = Arrived | CallEnded | Fed | FedAll | Reopened | NotReopened | Taken | Woken


class Link:
    """Any thread may send; one at a time takes events."""

    def __init__(self, opener: Opener, resume_state: bytes, stopped: threading.Event | None = None) -> None:
        """Opens the stream; whoever gives it up meanwhile sets `stopped`, then cancels `opener`.

        Raises ServerFull, ServerUnavailable or another StreamError.
        """
        self.opener, self.options = opener, opener.options
        self.inbox: SimpleQueue[Event] = SimpleQueue()
        self.room = threading.Condition()  # guards the journal, the call and what is closed
        keeps, latest = self.options.snapshot_every is not None, self.options.delivery == "latest"
        self.journal = Journal(latest=latest, keeps=keeps, state=resume_state)
        self.is_closed = False  # by the caller
        self.is_reopening = False
        self.is_mended = False  # when it breaks, somebody opens it anew
        self._asked: dict[int, _Asked] = {}
        self._waited_seconds = 0.0  # for the server, since it was last heard
        self.call: RemoteCall
        self._use(opener.open(resume_state, stopped or threading.Event()))

    @property
    def max_in_flight(self) -> int:
        """As granted by the server."""
        return self.call.opened.max_in_flight

    # ---- calls -----------------------------------------------------------------------------------------------------

    def use(self, call: RemoteCall) -> None:
        """Go on with this call: what a new server needs to know is in the journal's `unsent`."""
        with self.room:
            self.journal.begin_again(introduce=not call.opened.resumed)
            self.is_reopening = False
            self._use(call)

    def _use(self, call: RemoteCall) -> None:
        self.call = call
        self._credit = self.options.results_ahead
        self._makes_snapshots = call.opened.limits.max_snapshot_bytes > 0
        self._snapshot_due = time.monotonic() + (self.options.snapshot_every or 0.0)
        self._waited_seconds = 0.0
        call.listen(self._deliver)

    def close(self, timeout_seconds: float) -> None:
        """Let the server answer what it has, then end."""
        with self.room:
            self.is_closed = True
            if self.options.results_ahead and not self.call.leaving:
                self._grant(_ALL_RESULTS)
            self.call.half_close()
        self.wake()
        if not self.call.ended.wait(timeout_seconds):
            self.call.cancel()

    def cancel(self) -> None:
        """End at once."""
        with self.room:
            self.is_closed = True
        self.call.cancel()
        self.wake()

    def wake(self) -> None:
        """Whoever waits for an event looks around."""
        self.inbox.put(Woken())

    # ---- out -------------------------------------------------------------------------------------------------------

    def wait_for_room(self) -> None:
        """Until another frame may be sent. Raises StreamError when the stream has ended, or gives no answers."""
        limit = self.options.answer_timeout_seconds
        with self.room:
            if not self.room.wait_for(lambda: self._has_room() or self._is_over, limit):
                if self._is_starved():
                    raise StreamError("NO_CREDIT: results wait; take `answers` on another thread", "NO_CREDIT")
                self.call.cancel(no_answer(limit or 0.0))
            if self._is_over:
                raise ended()

    def offer(self, sent: Sent) -> bool:
        """Send it if there is room, after what is unsent; whether it was sent."""
        with self.room:
            self._send_unsent()
            if self.journal.unsent or not self._has_room():
                return False
            self._send(sent)
            return True

    def send_unsent(self) -> None:
        """Send of the journal's `unsent` what there is room for."""
        with self.room:
            self._send_unsent()

    def send(self, sent: Sent) -> None:
        """Now, or after what is unsent when the stream is open again. Raises StreamError when it has ended for good."""
        with self.room:
            if self.is_closed or (self._is_over and not self.is_mended):
                raise ended()
            if self.journal.unsent or self._is_over:
                self.journal.unsent.append(sent)
            else:
                self._send(sent)

    @property
    def _is_over(self) -> bool:
        """Whether this call takes no requests, or none yet."""
        return self.call.leaving or self.call.ended.is_set() or self.is_reopening

    def _has_room(self) -> bool:
        return not self._is_over and self.journal.num_unanswered < self.max_in_flight

    def _send_unsent(self) -> None:
        while self.journal.unsent and self._has_room():
            self._send(self.journal.unsent.popleft())

    def _send(self, sent: Sent) -> None:
        self.journal.record(self.call.send(sent.request), sent)

    def grant(self) -> None:
        """The caller is done with a result: the server may send another one."""
        if self.options.results_ahead:
            with self.room:
                if not self.call.leaving:
                    self._grant(1)

    def _grant(self, results: int) -> None:
        self._credit += results
        self.call.send(pb.PropagateRequest(credit=pb.Credit(results=results)))

    # ---- snapshots -------------------------------------------------------------------------------------------------

    def ask_for_snapshot(self) -> "Future[bytes]":
        """The server's memory after all that was sent. Raises StreamError when the stream has ended."""
        with self.room:
            if self._is_over:
                raise ended()
            state: Future[bytes] = Future()
            seq = self.call.send(pb.PropagateRequest(snapshot=pb.Snapshot()))
            self._asked[seq] = _Asked(state, is_ours=not self.journal.is_replaying)
            return state

    def keep_snapshot(self) -> None:
        """Ask for a snapshot if it is time, or if what is kept since the last one grows too large."""
        every = self.options.snapshot_every
        with self.room:
            if every is None or self._asked or not self._may_ask() or not self.journal.has_grown:
                return
            now = time.monotonic()
            heavy_due = self._snapshot_due - every + _HEAVY_PAUSE_SECONDS
            if now >= self._snapshot_due or (now >= heavy_due and self.journal.is_heavy):
                self._snapshot_due = now + every
                self.ask_for_snapshot()

    def leave(self) -> None:
        """The server goes away: fetch what it knows, send nothing more."""
        with self.room:
            if self.options.snapshot_every is not None and self._may_ask():
                self.ask_for_snapshot()
            self.call.half_close()

    def _may_ask(self) -> bool:
        return self._makes_snapshots and not self._is_over and not self.journal.is_replaying

    # ---- in --------------------------------------------------------------------------------------------------------

    def next_event(self) -> Event:
        """Waits. A server that owes answers and is silent for too long is cut off."""
        limit = self.options.answer_timeout_seconds
        while True:
            if not self._is_owed():
                self._waited_seconds = 0.0
            elif limit is not None and self._waited_seconds >= limit:
                self._waited_seconds = 0.0
                self.call.cancel(no_answer(limit))
            since = time.monotonic()
            try:
                event = self.inbox.get(timeout=None if limit is None else limit - self._waited_seconds)
            except Empty:
                event = None
            self._waited_seconds += time.monotonic() - since
            if isinstance(event, Arrived):
                self._waited_seconds = 0.0
            if event is not None:
                return event

    def _is_owed(self) -> bool:
        """Whether the server could answer something now."""
        return self.journal.num_unanswered > 0 and not self._is_starved() and not self.call.ended.is_set()

    def _is_starved(self) -> bool:
        return self.options.results_ahead > 0 and self._credit <= 0

    def _deliver(self, call: RemoteCall, event: pb.PropagateResponse | CallEnded) -> None:
        """On the reading thread of a call."""
        with self.room:
            if isinstance(event, CallEnded):
                self._fail_asked(event.error or ended())
                self.inbox.put(event)
            elif not self._is_snapshot(event):
                self._credit -= event.HasField("result")
                self.inbox.put(Arrived(event, self.journal.settle(event, answer_seqs(event))))
            self.room.notify_all()

    def _is_snapshot(self, response: pb.PropagateResponse) -> bool:
        """Whether this was one, or the refusal of one."""
        if response.HasField("snapshot") and (asked := self._asked.pop(response.snapshot.seq, None)):
            if asked.is_ours and self.options.snapshot_every is not None:
                self.journal.take_state(response.snapshot.state)
            asked.state.set_result(response.snapshot.state)
            return True
        if response.HasField("error") and (asked := self._asked.pop(response.error.seq, None)):
            if response.error.reason != "NO_OBJECTS":  # which the next frame mends
                self._makes_snapshots = False
                self.journal.drop_state()
            asked.state.set_exception(RequestRefused(response.error.message, response.error.reason))
            return True
        return False

    def _fail_asked(self, error: Exception) -> None:
        for asked in self._asked.values():
            asked.state.set_exception(error)
        self._asked = {}


def ended() -> StreamError:
    """For what comes too late."""
    return StreamError("ENDED: the stream has ended; `answers` says why, open another one", "ENDED")


def no_answer(seconds: float) -> ServerUnavailable:
    """For a server that takes frames and gives nothing back."""
    return ServerUnavailable(f"NO_ANSWER: the server owes answers and was silent for {seconds:g} s", "NO_ANSWER")
