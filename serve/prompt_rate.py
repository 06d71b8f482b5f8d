"""A token bucket: how many objects a stream may prompt or remove a second, on average."""

BURST_SECONDS = 3.0


class PromptRate:
    """`limit` objects a second, 0 for no limit; a few seconds' worth may come at once."""

    def __init__(self, limit: float) -> None:
        self._limit, self._left, self._since = limit, BURST_SECONDS * limit, 0.0

    def allows(self, count: int, now: float) -> bool:
        """Whether `count` more are within the rate at `now`, seconds of a monotonic clock; takes them if so."""
        if not self._limit:
            return True
        self._left = min(BURST_SECONDS * self._limit, self._left + self._limit * (now - self._since))
        self._since = now
        if count > self._left:
            return False
        self._left -= count
        return True
