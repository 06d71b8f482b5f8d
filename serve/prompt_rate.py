"""A token bucket: how many objects a stream may prompt or remove a second, on average.

A request is whole or not at all, so one larger than the bucket would never pass, however long its client waits; it
passes a full bucket, and what it took too much is waited for afterwards.
"""

BURST_SECONDS = 3.0


class PromptRate:
    """`limit` objects a second, 0 for no limit; a few seconds' worth, or one request of any size, may come at once."""

    def __init__(self, limit: float) -> None:
        self._limit, self._burst, self._since = limit, BURST_SECONDS * limit, 0.0
        self._left = self._burst

    def allows(self, count: int, now: float) -> bool:
        """Whether `count` more are within the rate at `now`, seconds of a monotonic clock; takes them if so."""
        if not self._limit:
            return True
        self._left = min(self._burst, self._left + self._limit * (now - self._since))
        self._since = now
        if self._left < min(count, self._burst):
            return False
        self._left -= count
        return True
