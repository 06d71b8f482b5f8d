"""A worker of this machine as a program: loads the networks once, then follows what comes down its pipe, until it ends.

It is started by maskstream.archive.local_crew in a session of its own, so that Ctrl-C reaches the command alone. When
the command is gone, so is the other end of the pipe, and the worker ends by itself at the next frame.
"""

import contextlib
import faulthandler
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

from maskstream.archive.following import Follower
from maskstream.archive.jobs import Beat, Job, Ready, Refused, WorkSettings
from maskstream.errors import MaskstreamError

_BEAT_SECONDS = 0.2  # between two; the command has more workers to listen to


def main(argv: Sequence[str]) -> int:
    """Work for the other end of the pipe whose descriptor is `argv[0]`; the exit status."""
    faulthandler.enable()  # a crash in a library leaves its place in the log
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError), Connection(int(argv[0])) as link:
        settings: WorkSettings = link.recv()
        try:
            follower = Follower.load(settings)
        except MaskstreamError as error:
            link.send(Refused(str(error)))
            return 2
        link.send(Ready(follower.what))
        _work(follower, link)
    return 0


def _work(follower: Follower, link: "Connection") -> None:
    """Until the pipe is closed, which raises EOFError."""
    while True:
        job: Job = link.recv()
        link.send(follower.follow(job, _Beats(link)))


class _Beats:
    def __init__(self, link: "Connection") -> None:
        self._link, self._last = link, 0.0

    def __call__(self, beat: Beat) -> None:
        if time.monotonic() - self._last >= _BEAT_SECONDS:
            self._last = time.monotonic()
            self._link.send(beat)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
