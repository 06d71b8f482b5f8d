"""A whole video through one stream: frames in, answers out, and a new server when the old one is lost.

A thread of its own pumps, so that a live camera is read and its newest frame is at the server while the caller works
on an answer or no server is there. All that happens reaches it in one inbox: it waits for nothing else and can be
stopped at any time. What the caller has not taken yet is bounded: then no more is sent, or what is newer wins.
"""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from queue import SimpleQueue

from maskstream import wire
from maskstream.client_journal import Sent
from maskstream.client_link import Arrived, Event, Link, Taken, ended
from maskstream.client_messages import FrameAnswer, frame_answer, frame_message
from maskstream.client_opening import NotReopened, Reopened, Reopening, is_engine_failure
from maskstream.errors import StreamError
from maskstream.feeder import AnyFrame, Fed, FedAll, Feeding
from maskstream.frame_input import FrameLike, as_frame
from maskstream.prompt_kinds import AnyPrompt
from maskstream.remote_call import CallEnded
from maskstream.v1 import maskstream_pb2 as pb

Prompts = Mapping[int, Sequence[AnyPrompt]]
Told = FrameAnswer | BaseException | None  # an answer; why there are no more; at last None
FeederOf = Callable[[Callable[[Fed | FedAll], None]], Feeding]  # makes the reader of the frames, which delivers them

_MOST_NOTICES = 4096  # of frames dropped here that the caller has not looked at: then the camera is not read either
STOP_SECONDS = 5.0  # nothing that is stopped takes as long


class Propagation:
    """One `propagate`. Frames answered are those it was fed, each once; answers to earlier frames are left out."""

    def __init__(self, link: Link, feeder_of: FeederOf, prompts: Prompts, tell: Callable[[Told], None]) -> None:
        """`tell` is called on the pump's thread and does not wait. Raises StreamError for a stream that is closed."""
        if link.is_closed:
            raise ended()
        self._link, self._prompts, self._tell_caller = link, prompts, tell
        self._live = link.options.delivery == "latest"
        self._feeder = feeder_of(link.inbox.put)
        self._thread = threading.Thread(target=self._run, name="maskstream-propagation", daemon=True)
        self._stopped = threading.Event()
        self._feeding = True
        self._indices = itertools.count()
        self._owed: dict[int, None] = {}  # indices, in order
        self._waiting: deque[Sent] = deque()
        self._untaken_results = self._untaken_notices = 0
        self._is_broken = False
        self._reopening: Reopening | None = None
        self._breaks = self._engine_failures = 0  # since the last result
        self._broken_since = 0.0
        self._has_seen_end = False  # of the call; what arrived before it has been looked at

    @property
    def is_running(self) -> bool:
        """Whether it has begun and not ended."""
        return self._thread.is_alive()

    @property
    def is_complete(self) -> bool:
        """Whether every frame has its answer."""
        return not (self._feeding or self._owed)

    def start(self) -> None:
        """Begin to read, send and tell."""
        self._link.is_mended = True
        self._thread.start()

    def taken(self, answer: FrameAnswer) -> None:
        """The caller is done with this one."""
        self._link.inbox.put(Taken(answer.id_map is not None))

    def stop(self) -> None:
        """No more answers are wanted; None is told when nothing is left behind. Waits for nothing."""
        self._stopped.set()
        self._link.wake()

    def join(self) -> None:
        """Wait until it has stopped."""
        if threading.current_thread() is not self._thread:  # where the garbage collector may call us
            self._thread.join(STOP_SECONDS)

    # ---- the pump --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._pump()
        except BaseException as error:  # noqa: BLE001 - raised where the answers are taken
            self._tell_caller(error)
        finally:
            self._link.is_mended = False
            self._feeder.stop()
            self._stop_reopening()
            self._tell_caller(None)

    def _pump(self) -> None:
        while (self._feeding or self._owed) and not self._stopped.is_set():
            if self._may_feed():
                self._feeder.ask()
            for answer in self._on(self._link.next_event()):
                self._tell(answer)
            if self._is_broken and self._has_takers():
                self._reopen()
            self._send_waiting()
            self._link.keep_snapshot()

    def _on(self, event: Event) -> list[FrameAnswer]:
        match event:
            case Fed(feeder, frame) if feeder is self._feeder:
                return self._fed(frame)
            case FedAll(feeder, error) if feeder is self._feeder:
                self._feeding = False
                if error is not None:
                    raise error
            case Arrived():
                return self._arrived(event)
            case Taken(was_result):
                self._taken(was_result)
            case CallEnded(error):
                self._has_seen_end = True
                self._lost(error)
            case Reopened(by, call) if by is self._reopening:
                self._reopening, self._has_seen_end = None, False
                self._link.use(call)
            case NotReopened(by, failure) if by is self._reopening:
                raise failure
        return self._left_over() if self._link.is_closed and self._has_seen_end else []

    # ---- the caller ------------------------------------------------------------------------------------------------

    def _tell(self, answer: FrameAnswer) -> None:
        if answer.index is not None:
            del self._owed[answer.index]
        if answer.id_map is not None:
            self._untaken_results += 1
        else:
            self._untaken_notices += 1
        self._tell_caller(answer)

    def _taken(self, was_result: bool) -> None:
        if was_result:
            self._untaken_results -= 1
            self._link.grant()
        else:
            self._untaken_notices -= 1

    def _has_takers(self) -> bool:
        """Whether the caller keeps up. Where the server keeps credit, it sees to that, with frames as new as can be."""
        return self._untaken_results < (self._link.options.results_ahead or self._link.max_in_flight)

    # ---- frames ----------------------------------------------------------------------------------------------------

    def _may_feed(self) -> bool:
        if self._link.is_closed or not self._feeding:
            return False
        return self._untaken_notices < _MOST_NOTICES if self._live else not self._waiting

    def _fed(self, fed: AnyFrame) -> list[FrameAnswer]:
        self._feeder.taken()
        frame, pts = fed if isinstance(fed, tuple) else (fed, None)
        index = next(self._indices)
        dropped = self._supersede() if self._live else []
        sent = as_request(self._link, frame, self._prompts.get(index, ()), pts)
        sent.index, sent.run = index, self
        self._owed[index] = None
        self._waiting.append(sent)
        return dropped

    def _supersede(self) -> list[FrameAnswer]:
        """Take the frames without prompts out of those that wait: a newer one is there."""
        dropped = [sent for sent in self._waiting if not sent.prompts]
        for sent in dropped:
            self._waiting.remove(sent)
        return [FrameAnswer(sent.index, 0, dropped="SUPERSEDED") for sent in dropped]

    def _send_waiting(self) -> None:
        self._link.send_unsent()
        keeps_credit = self._link.options.results_ahead > 0
        while self._waiting and (keeps_credit or self._has_takers()) and self._link.offer(self._waiting[0]):
            self._waiting.popleft()

    # ---- answers ---------------------------------------------------------------------------------------------------

    def _arrived(self, arrived: Arrived) -> list[FrameAnswer]:
        if arrived.response.HasField("draining"):
            self._link.leave()  # it answers what it has, then CallEnded comes
        answers = [answer for sent, answer in answers_of(self._link, arrived) if self._is_ours(sent, answer)]
        if arrived.response.HasField("result"):
            self._breaks = self._engine_failures = 0
            if not answers:
                self._link.grant()  # nobody takes it
        return answers

    def _is_ours(self, sent: Sent | None, answer: FrameAnswer) -> bool:
        if answer.index is None:
            return True
        return sent is not None and sent.run is self and answer.index in self._owed

    # ---- breaks ----------------------------------------------------------------------------------------------------

    def _lost(self, error: Exception | None) -> None:
        """The call is over: open another one, unless that is of no use."""
        link = self._link
        idle = isinstance(error, StreamError) and error.reason == "IDLE_TIMEOUT"
        self._breaks += 1
        self._engine_failures += error is not None and is_engine_failure(error)
        gives_up = error is not None and not idle and not link.opener.may_try_again(error)
        too_often = self._breaks > link.options.resumes or self._engine_failures > link.opener.num_targets - 1
        if link.is_closed or gives_up or too_often:
            link.inbox.put(CallEnded(error))  # for whoever asks again
        if not link.is_closed and (gives_up or too_often):
            raise error or StreamError("ENDED: the server ends every stream before it answers", "ENDED")
        if not idle:
            link.opener.move_on()
        self._is_broken = not link.is_closed

    def _reopen(self) -> None:
        link = self._link
        if self._breaks == 1:
            self._broken_since = time.monotonic()
        deadline = self._broken_since + link.options.resume_seconds
        self._is_broken, link.is_reopening = False, True
        self._reopening = Reopening(link.opener, link.journal.state, link.inbox.put, self._breaks - 1, deadline)

    def _stop_reopening(self) -> None:
        if self._reopening is not None:
            self._reopening.stop()
        if self._reopening is not None or self._is_broken:
            self._link.is_reopening = False
            self._link.inbox.put(CallEnded(ended()))  # for whoever asks again

    def _left_over(self) -> list[FrameAnswer]:
        """The caller closed the stream: what has not been answered will not be."""
        self._feeding = False
        self._waiting.clear()
        return [FrameAnswer(index, 0, dropped="CLOSED") for index in self._owed]


def propagated(link: Link, feeder_of: FeederOf, prompts: Prompts) -> Iterator[FrameAnswer]:
    """Until each frame has its answer. Raises what the source of the frames raised, and StreamError."""
    outbox: SimpleQueue[Told] = SimpleQueue()
    propagation = Propagation(link, feeder_of, prompts, outbox.put)
    propagation.start()
    try:
        while (answer := outbox.get()) is not None:
            if isinstance(answer, BaseException):
                raise answer
            yield answer
            propagation.taken(answer)
    finally:
        propagation.stop()
        propagation.join()


def as_request(link: Link, picture: FrameLike, prompts: Sequence[AnyPrompt], pts: float | None) -> Sent:
    """A frame as this stream sends it. Raises InvalidFrame for what is none, or too large."""
    frame = as_frame(picture)
    message = frame_message(frame, prompts, link.options, link.call.opened.limits.max_message_bytes)
    if pts is not None:
        message.pts.CopyFrom(wire.duration(pts))
    return Sent(pb.PropagateRequest(frame=message), size=(frame.shape[0], frame.shape[1]))


def arriving_answers(link: Link, given_up: threading.Event) -> Iterator[FrameAnswer]:
    """Answers to what was sent frame by frame, until the stream ends, or `given_up` and the link was woken.

    Raises StreamError when the stream ends badly.
    """
    while not given_up.is_set():
        event = link.next_event()
        if isinstance(event, CallEnded):
            link.inbox.put(event)  # for whoever asks again
            if event.error:
                raise event.error
            return
        if isinstance(event, Arrived):
            for _, answer in answers_of(link, event):
                yield answer
                if answer.id_map is not None:
                    link.grant()


def answers_of(link: Link, arrived: Arrived) -> Iterator[tuple[Sent | None, FrameAnswer]]:
    """What a response tells the caller of each request; what is seen is remembered, for another server.

    A request that was sent again for a server's sake is silent, unless a frame of it fails: then memory is missing.
    """
    response = arrived.response
    for settled in arrived.settled:
        sent = settled.sent
        is_news = not settled.was_told
        if sent is not None and is_news and response.HasField("result"):
            link.journal.remember(sent, response.result)
        elif sent is not None and is_news and response.HasField("ack"):
            link.journal.forget(sent.request)
        answer = frame_answer(response, settled.seq, sent.index if sent and is_news else None)
        if answer is not None and (is_news or (answer.error and sent and sent.is_frame)):
            yield sent, answer
