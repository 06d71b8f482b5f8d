"""Ctrl-C and SIGTERM, taken between two steps of learning and never within one.

A step that is broken off would leave the statistics of the norms ahead of the weights, and the run would no longer
continue exactly as if it had not been stopped. Everywhere else (clustering, scoring, saving) a signal acts at once.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ECHO_SECONDS = 3.0  # torchrun passes on the Ctrl-C that the terminal has sent us already


class Stopped(KeyboardInterrupt):
    """The run was asked to stop by `signal_number`."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number


class Interruption:
    """Whether somebody asked the run to stop."""

    def __init__(self) -> None:
        self.asked = 0  # number of the signal
        self._asked_at = 0.0
        self._deferring = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals from here on; what handled them before is put back. Main thread only."""
        before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within, a signal only sets `asked`; whoever defers looks at it. One more, later, does not wait."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.asked:
            self.asked, self._asked_at = number, now
        if not self._deferring or now - self._asked_at > ECHO_SECONDS:
            raise Stopped(number)
