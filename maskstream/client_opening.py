"""Where streams are opened: one server, or several that are tried in turn, so that a client without a balancer moves to
another replica when one is full, leaves or dies.

Pauses come only after every target was tried. They are random between 0 and a bound that doubles, on top of what the
servers ask for: clients that lost one server together do not come back together.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import grpc

from maskstream.client_messages import StreamOptions, open_request
from maskstream.client_security import Access, secure_channel
from maskstream.errors import ServerFull, ServerUnavailable, StreamError
from maskstream.remote_call import RemoteCall
from maskstream.v1 import maskstream_pb2_grpc as pb_grpc

CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),  # the server's limit is checked per frame, with a better message
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.use_local_subchannel_pool", 1),  # a connection of its own, so that balancers spread clients
)
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 5.0
_OPEN_SECONDS, _STATE_BYTES_PER_SECOND = 10.0, 2**20  # a snapshot may take a slow line
_STATE_REFUSED = frozenset({"SNAPSHOT_INVALID", "RESOURCE_EXHAUSTED"})  # the second: a message larger than it takes
_ENGINE_REASONS = frozenset({"ENGINE_FAILED", "ENGINE_STUCK"})
_NEVER = threading.Event()


class Targets:
    """One channel for each server; `preferred` is the one that worked last."""

    def __init__(self, targets: str | Sequence[str], access: Access, channel: grpc.Channel | None = None) -> None:
        """`channel` is used as it is, and stays its owner's. Raises what `secure_channel` raises."""
        names = _names(targets)
        self._owned = [] if channel else [secure_channel(name, CHANNEL_OPTIONS, access) for name in names]
        channels = [channel] if channel else self._owned
        self.stubs = [pb_grpc.MaskStreamServiceStub(each) for each in channels]  # type: ignore[no-untyped-call]
        self.preferred = 0
        self.is_closed = False

    def close(self) -> None:
        """Close the channels that are ours."""
        self.is_closed = True
        for channel in self._owned:
            channel.close()


def _names(targets: str | Sequence[str]) -> list[str]:
    """HOST:PORT each. A name that gRPC itself resolves to several addresses (ipv4:A,B) is one target."""
    if isinstance(targets, str):
        targets = [targets] if targets.startswith(("ipv4:", "ipv6:")) else targets.split(",")
    names = [name.strip() for name in targets]
    if not names or not all(names):
        raise ValueError(f"expected HOST:PORT, or several with commas between them, got {targets!r}")
    return names


class Opener:
    """Opens one stream, again and again if need be."""

    def __init__(self, targets: Targets, options: StreamOptions) -> None:
        self._targets, self.options = targets, options
        self._at = targets.preferred
        self._opening: RemoteCall | None = None

    @property
    def num_targets(self) -> int:
        """Servers to choose from."""
        return len(self._targets.stubs)

    def move_on(self) -> None:
        """Begin with the next target."""
        self._at = (self._at + 1) % self.num_targets

    def may_try_again(self, error: Exception) -> bool:
        """Whether the same may succeed in a moment or elsewhere; a broken engine only where there is another one."""
        if isinstance(error, ServerFull | ServerUnavailable):
            return True
        return is_engine_failure(error) and self.num_targets > 1

    def open(self, resume_state: bytes = b"", stopped: threading.Event = _NEVER) -> RemoteCall:
        """By the first target that takes the stream; `stopped` is asked when `cancel` may have come too early.

        Raises the last target's error, with the longest pause that any asked for, or at once a StreamError that no
        other target would mend.
        """
        hint_seconds, failure = 0.0, StreamError("ENDED: there is no server", "ENDED")
        for _ in range(self.num_targets):
            try:
                return self._open(resume_state, stopped)
            except StreamError as error:
                if not self.may_try_again(error):
                    raise
                hint_seconds, failure = max(hint_seconds, error.retry_after_seconds), error
                self.move_on()
        failure.retry_after_seconds = hint_seconds
        raise failure

    def cancel(self) -> None:
        """Give up what is being opened, from another thread."""
        if self._opening is not None:
            self._opening.cancel()

    def _open(self, resume_state: bytes, stopped: threading.Event) -> RemoteCall:
        if self._targets.is_closed or stopped.is_set():
            raise _closed()
        try:
            call = RemoteCall(self._targets.stubs[self._at], open_request(self.options, resume_state))
        except ValueError as error:  # gRPC's for a closed channel
            raise StreamError(f"CLOSED: {error}", "CLOSED") from error
        self._opening = call
        if stopped.is_set():
            call.cancel()
        call.wait_until_open(_OPEN_SECONDS + len(resume_state) / _STATE_BYTES_PER_SECOND)
        self._targets.preferred = self._at
        if not self.options.session_id:
            self.options = replace(self.options, session_id=call.opened.session_id)
        return call


@dataclass(frozen=True)
class Reopened:
    """The stream is open again; `call.opened.resumed` tells whether the snapshot was taken."""

    by: "Reopening"
    call: RemoteCall


@dataclass(frozen=True)
class NotReopened:
    """No server can be had."""

    by: "Reopening"
    error: Exception


class Reopening:
    """Opens a stream anew on a thread of its own, so that a camera is read and Ctrl-C is heard meanwhile."""

    def __init__(
        self,
        opener: Opener,
        resume_state: bytes,
        deliver: Callable[[Reopened | NotReopened], None],
        failed_before: int,
        deadline: float,
    ) -> None:
        """`failed_before`: breaks since the last answer, which make pauses longer; `deadline`: a monotonic time."""
        self._opener, self._resume_state, self._deliver = opener, resume_state, deliver
        self._failures, self._deadline = failed_before, deadline
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._call: RemoteCall | None = None
        threading.Thread(target=self._run, name="maskstream-reopening", daemon=True).start()

    def stop(self) -> None:
        """The stream is not wanted any more; one that is open already ends."""
        with self._lock:
            self._stopped.set()
        self._opener.cancel()
        if self._call is not None:
            self._call.cancel()

    def _run(self) -> None:
        try:
            call = self._persist()
        except Exception as error:  # noqa: BLE001 - raised again where the answers are read
            self._deliver(NotReopened(self, error))
            return
        with self._lock:
            self._call = call
            if not self._stopped.is_set():
                self._deliver(Reopened(self, call))
                return
        call.cancel()

    def _persist(self) -> RemoteCall:
        tries, hint_seconds = self._opener.options.resumes, 0.0
        while True:
            if self._failures:
                left_seconds = self._deadline - time.monotonic()
                self._stopped.wait(min(pause_seconds(self._failures, hint_seconds), max(left_seconds, 0.0)))
            try:
                return self._attempt()
            except StreamError as error:
                tries, hint_seconds = tries - 1, error.retry_after_seconds
                self._failures += 1
                late = time.monotonic() + hint_seconds > self._deadline
                if tries <= 0 or late or not self._opener.may_try_again(error):
                    raise

    def _attempt(self) -> RemoteCall:
        """A server that does not take the snapshot is asked to open the stream without it."""
        try:
            return self._opener.open(self._resume_state, self._stopped)
        except StreamError as error:
            if not self._resume_state or error.reason not in _STATE_REFUSED:
                raise
        self._resume_state = b""
        return self._opener.open(stopped=self._stopped)


def is_engine_failure(error: Exception) -> bool:
    """Whether the server is to blame, and another one may do better."""
    return isinstance(error, StreamError) and error.reason in _ENGINE_REASONS


def _closed() -> StreamError:
    return StreamError("CLOSED: the client was closed", "CLOSED")


def pause_seconds(failures: int, hint_seconds: float) -> float:
    """Before the next attempt, after so many failures; random, but never shorter than the server asks for."""
    longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** min(failures, 16))
    return hint_seconds + random.uniform(0.0, longest)
