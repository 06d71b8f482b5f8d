"""A camera or network stream that goes on for days: read on a thread of its own, opened again when it is lost.

Every picture is decoded, since later ones build on it, and only the newest is kept: what the taker has no time for is
dropped and counted. A stream that ends, fails or stalls is lost; it is tried again with growing pauses and given up
after a while. What comes back at another size is scaled to the first one, so that the memory of the objects lives on
and files keep one size; another shape is an error. Times go on where they were, whatever the camera's clock does.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import av

from maskstream.containers import EXPECTED, Frame, OpenContainer, reason, upright
from maskstream.errors import VideoError
from maskstream.masks import resize_frame

Say = Callable[[str], None]
Connect = Callable[[], OpenContainer]

_SAME_SHAPE = 0.02  # relative difference of width/height: 854x480 is 1920x1080, but for rounding
_NEW_CLOCK_SECONDS = 2.0  # a stream whose times are further off after a break, or run back by more, has a new clock
_LEAP_SECONDS = 60.0  # the same within one connection, where a burst may bring what is ahead of our own clock
_STEADY_SECONDS = 5.0  # a connection that lasted so long is worth a quick attempt when it breaks
_JOIN_SECONDS = 1.0


@dataclass(frozen=True)
class LiveSettings:
    """How long a live source may be silent. Seconds all."""

    open_seconds: float = 10.0  # for one attempt to open it
    stall_seconds: float = 10.0  # without a picture: as good as lost
    give_up_seconds: float = 60.0  # from the last picture on; 0: a loss is an error at once
    first_pause_seconds: float = 0.5  # between attempts, doubled each time
    longest_pause_seconds: float = 10.0


def say_nothing(text: str) -> None:
    """For who does not want to hear of losses."""


class LiveReader:
    """The newest frame of a source, and how many were dropped. One taker; `close` when done."""

    def __init__(self, first: OpenContainer, connect: Connect, settings: LiveSettings, say: Say) -> None:
        """Starts to read `first` at once; `connect` opens the source again."""
        self.name, self._connect, self._settings, self._say = first.name, connect, settings, say
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._picture: tuple[Any, float, float] | None = None  # with its time in the stream, and of its arrival
        self._error: BaseException | None = None
        self._clock = _StreamClock()
        self._lost_at: float | None = None
        self._sign_of_life = time.perf_counter()
        self._wanted_size: tuple[int, int] | None = None
        self._told_size: tuple[int, int] | None = None
        self.dropped = 0  # frames that a newer one replaced
        self.losses = 0
        self.arrived = time.perf_counter()  # when the frame last taken was decoded
        self._thread = threading.Thread(target=self._run, args=(first,), name="maskstream-live", daemon=True)
        self._thread.start()

    def frames(self) -> Iterator[tuple[Frame, float]]:
        """Frames uint8 [H, W, 3] and their times in seconds, until closed; each is the newest when it is asked for.

        Raises VideoError when the source is lost for good, or comes back in another shape.
        """
        self.dropped = 0  # what came before anybody asked is no loss
        while (newest := self._take()) is not None:
            picture, pts_seconds, self.arrived = newest
            yield self._at_first_size(upright(picture)), pts_seconds

    def first_size(self) -> tuple[int, int]:
        """Height and width, as soon as there is a picture. Raises VideoError when none comes."""
        with self._changed:
            picture = self._await_picture()
        if picture is None:
            raise VideoError(f"{self.name}: closed before its first picture")
        frame = upright(picture[0])
        self._wanted_size = (frame.shape[0], frame.shape[1])
        return self._wanted_size

    def close(self) -> None:
        """Stop reading. A read that waits for the network ends by itself, after `stall_seconds` at most."""
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join(_JOIN_SECONDS)

    # ---- the taker -------------------------------------------------------------------------------------------------

    def _take(self) -> tuple[Any, float, float] | None:
        with self._changed:
            newest = self._await_picture()
            self._picture = None
            return newest

    def _await_picture(self) -> tuple[Any, float, float] | None:
        while self._picture is None and not self._stopped.is_set():
            if self._error is not None:
                raise self._error
            self._changed.wait(0.5)
            self._check_thread()
        return self._picture

    def _check_thread(self) -> None:
        """A driver may hang for ever, whatever it was told of time."""
        settings = self._settings
        longest = settings.open_seconds + 2 * settings.stall_seconds + 2 * settings.longest_pause_seconds
        if time.perf_counter() - self._sign_of_life > longest:
            raise VideoError(f"{self.name}: it hangs; nothing came for {longest:.0f} s, not even an error")

    def _at_first_size(self, frame: Frame) -> Frame:
        size = (frame.shape[0], frame.shape[1])
        self._wanted_size = wanted = self._wanted_size or size
        if size == wanted:
            return frame
        found, was = (f"{width}x{height}" for height, width in (size, wanted))
        if abs(size[1] * wanted[0] / (size[0] * wanted[1]) - 1) > _SAME_SHAPE:
            raise VideoError(
                f"{self.name}: it is {found} now and was {was}, another shape; start anew with new prompts"
            )
        if self._told_size != size:
            self._told_size = size
            self._say(f"{self.name}: it is {found} now and was {was}; frames are scaled to {was}")
        return resize_frame(frame, wanted)

    # ---- the reading thread ----------------------------------------------------------------------------------------

    def _run(self, first: OpenContainer) -> None:
        connection: OpenContainer | None = first
        pauses = 0
        try:
            while connection is not None:
                opened = time.perf_counter()
                why = self._read(connection)
                if not self._clock.is_running and not self._stopped.is_set():
                    raise VideoError(f"{self.name}: no picture in it ({why}); {EXPECTED}")
                pauses = 0 if time.perf_counter() - opened > _STEADY_SECONDS else pauses
                connection, pauses = self._open_again(why, pauses)
        except BaseException as error:  # noqa: BLE001 - raised where the frames are taken
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _read(self, connection: OpenContainer) -> str:
        """Read until there is no more; why."""
        newest = self._sign_of_life = time.perf_counter()
        try:
            for packet in connection.container.demux():
                pictures = _decoded(packet) if packet.stream.index == connection.stream.index else []
                now = self._sign_of_life = time.perf_counter()
                for picture in pictures:
                    newest = now
                    self._put(picture, picture.time if connection.is_timed else None, now)
                if self._stopped.is_set():
                    return "closed"
                if now - newest > self._settings.stall_seconds:
                    return _stall(self._settings)
        except av.error.ExitError:  # its own clock ran out, which is how it ends a read that waits
            return _stall(self._settings)
        except (av.FFmpegError, OSError) as error:
            return reason(error)
        finally:
            connection.close()
        return "the stream ended"

    def _put(self, picture: Any, pts_seconds: float | None, now: float) -> None:
        timed = (picture, self._clock.at(pts_seconds, now), now)
        with self._changed:
            self.dropped += self._picture is not None
            self._picture = timed
            lost_at, self._lost_at = self._lost_at, None
            self._changed.notify_all()
        if lost_at is not None:
            self._say(f"{self.name}: back after {now - lost_at:.1f} s")

    def _open_again(self, why: str, pauses: int) -> tuple[OpenContainer | None, int]:
        """The source opened anew, None when nobody wants it; and how many pauses it took since it was steady."""
        if self._lost_at is None and not self._stopped.is_set():
            self._lost_at, self.losses = time.perf_counter(), self.losses + 1
            if self._settings.give_up_seconds:
                self._say(f"{self.name}: lost ({why}); trying again for {self._settings.give_up_seconds:g} s")
        while not self._stopped.is_set():
            assert self._lost_at is not None
            left = self._lost_at + self._settings.give_up_seconds - time.perf_counter()
            if left <= 0:
                seconds = time.perf_counter() - self._lost_at
                raise VideoError(f"{self.name}: lost for {seconds:.0f} s ({why}); is the camera on, is it reachable?")
            self._stopped.wait(min(left, self._pause(pauses)))
            pauses += 1
            self._sign_of_life = time.perf_counter()
            try:
                connection = self._connect()
            except VideoError as error:
                why = str(error).removeprefix(f"{self.name}: ").partition(";")[0]
                continue
            self._clock.restart()
            return connection, pauses
        return None, pauses

    def _pause(self, pauses: int) -> float:
        """Jittered, or all clients of a camera that restarts would come at once."""
        settings = self._settings
        longest = min(settings.longest_pause_seconds, settings.first_pause_seconds * 2.0 ** min(pauses, 30))
        return longest * random.uniform(0.5, 1.0)


class _StreamClock:
    """Times of one stream over all its connections: they never run back, and a break takes as long as it took."""

    def __init__(self) -> None:
        self._offset = 0.0
        self._is_new = False  # a connection whose times may start anywhere
        self._last = 0.0
        self._last_at: float | None = None  # by our own clock

    @property
    def is_running(self) -> bool:
        """Whether it has timed a picture yet."""
        return self._last_at is not None

    def restart(self) -> None:
        """Another connection."""
        self._is_new = True

    def at(self, pts_seconds: float | None, now: float) -> float:
        """Time of a picture that arrived `now`; `pts_seconds` as its connection says, None when it says nothing."""
        expected = self._last if self._last_at is None else self._last + now - self._last_at
        found = expected if pts_seconds is None else self._moved(pts_seconds, expected)
        self._last, self._last_at = max(self._last, found), now
        return self._last

    def _moved(self, pts_seconds: float, expected: float) -> float:
        found = pts_seconds + self._offset
        if self._is_new:
            is_set_anew = abs(found - expected) > _NEW_CLOCK_SECONDS
        else:  # a slow line brings pictures late, and then in a burst
            is_set_anew = not self._last - _NEW_CLOCK_SECONDS <= found <= expected + _LEAP_SECONDS
        if self.is_running and is_set_anew:
            self._offset = expected - pts_seconds
        self._is_new = False
        return pts_seconds + self._offset


def _decoded(packet: Any) -> list[Any]:
    """Pictures of a packet; none when it was damaged on its way, which the next key frame mends."""
    try:
        return list(packet.decode())
    except av.error.InvalidDataError:
        return []


def _stall(settings: LiveSettings) -> str:
    return f"no picture for {settings.stall_seconds:g} s"
