"""Logging of the server: one line a record, as text or as JSON, that no reader and no disk can hold up.

A log goes to a pipe that its reader may have stopped reading, or to a disk that may be full, and a client can make a
server write a lot. So a record becomes a line where it is made, waits in a bounded queue, and a thread of its own
writes it; what finds no room or cannot be written is counted and gone. What a client sends stays within its line and
its length. The standard library's loggers do all of it: gRPC and asyncio log there too, so another library would only
be a second way to the same place.
"""

import contextlib
import json
import logging
import math
import os
import queue
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

log = logging.getLogger(__name__)

FORMS = ("text", "json")
QUEUE_RECORDS = 2000
LONGEST = 4096  # characters of a message or a field; a client chooses some of them
PER_SECOND = 20  # records of one message template
MOST_TEMPLATES = 256
FLUSH_SECONDS = 1.0  # at the end of the process, for what is queued
STANDARD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def configure_logging(level: str, form: str = "text", descriptor: int = 2) -> "LineHandler":
    """Send all records from `level` on to a file descriptor, standard error if not told otherwise. A handler that an
    earlier call has installed is closed; others stay.
    """
    logging.raiseExceptions = False  # a record that cannot be made a line must not become a traceback on a blocked pipe
    root = logging.getLogger()
    for earlier in _line_handlers():
        root.removeHandler(earlier)
        earlier.close()
    limit = RateLimited()
    handler = LineHandler(descriptor, limit)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    handler.addFilter(limit)
    root.addHandler(handler)
    root.setLevel(level)
    return handler


def lost_records() -> Counter[str]:
    """Records so far that were `dropped` (no room, or not writable) and `suppressed` (repeated too fast)."""
    return sum((handler.lost for handler in _line_handlers()), Counter())


@contextlib.contextmanager
def native_output_logged(descriptor: int = 2) -> Iterator[None]:
    """While it lasts, what C libraries print on standard error becomes records of this log.

    libpng and libjpeg print a line for each damaged picture. On a pipe that nobody reads such a write never returns,
    and the thread that decodes stays in it; ours loses the line instead.
    """
    real = os.dup(descriptor)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    os.dup2(writing, descriptor)
    os.close(writing)
    thread = threading.Thread(target=_log_lines, args=(reading,), name="native-log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.dup2(real, descriptor)  # closes the last end that writes, which ends the thread
        os.close(real)
        thread.join(FLUSH_SECONDS)


def _log_lines(descriptor: int) -> None:
    with os.fdopen(descriptor, encoding="utf-8", errors="backslashreplace") as lines:
        while line := lines.readline(LONGEST):
            log.warning("a library printed: %s", line.rstrip())


class TextFormatter(logging.Formatter):
    """`time LEVEL logger: message field=value`, and a traceback below it, indented."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, but for a traceback."""
        fields = "".join(f" {name}={_plain(value)}" for name, value in _extra_fields(record).items())
        line = f"{_time(record.created)} {record.levelname} {record.name}: {_plain(record.getMessage())}{fields}"
        return "\n    ".join([line, *map(_plain, _traceback(self, record).splitlines())])


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, what was given as `extra`, and `traceback` if there is one.

    Only ASCII comes out, control characters escaped.
    """

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        fields: dict[str, object] = {
            "time": _time(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": _cut(record.getMessage()),
        }
        fields = {**_extra_fields(record), **fields}
        traceback = _traceback(self, record)
        return json.dumps({**fields, "traceback": traceback} if traceback else fields)


@dataclass
class _Window:
    """A second of one message template."""

    began: float
    passed: int = 0
    suppressed: int = 0


class RateLimited(logging.Filter):
    """Lets a number of records a second pass for each message template, counts the others and tells of them later."""

    def __init__(self, per_second: int = PER_SECOND) -> None:
        super().__init__()
        self._per_second, self._lock = per_second, threading.Lock()
        self._windows: OrderedDict[tuple[str, int, str], _Window] = OrderedDict()
        self.suppressed = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this one passes."""
        now = time.monotonic()
        with self._lock:
            window = self._window((record.name, record.levelno, str(record.msg)[:LONGEST]), now)
            if window.passed < self._per_second:
                window.passed += 1
                return True
            window.suppressed += 1
            self.suppressed += 1
            return False

    def take_summaries(self) -> list[logging.LogRecord]:
        """One record for each template whose second is over and had suppressed records."""
        now = time.monotonic()
        with self._lock:
            over = {key: window for key, window in self._windows.items() if now - window.began >= 1}
            for key in over:
                del self._windows[key]
        return [_summary(*key, window.suppressed) for key, window in over.items() if window.suppressed]

    def _window(self, key: tuple[str, int, str], now: float) -> _Window:
        """Its present second. One with suppressed records waits for its summary; the oldest of too many are let go."""
        window = self._windows.get(key)
        if window is None or (now - window.began >= 1 and not window.suppressed):
            window = self._windows[key] = _Window(now)
            self._windows.move_to_end(key)
        while len(self._windows) > MOST_TEMPLATES:
            self._windows.popitem(last=False)
        return window


class LineHandler(logging.Handler):
    """Writes lines to a descriptor from a thread of its own, with no lock of Python's around the write."""

    def __init__(self, descriptor: int, limit: RateLimited | None = None) -> None:
        super().__init__()
        self._descriptor, self._limit = os.dup(descriptor), limit
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUE_RECORDS)
        self._no_room = self._not_written = 0
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> Counter[str]:
        """Records that were `dropped` and `suppressed` so far."""
        suppressed = self._limit.suppressed if self._limit else 0
        return Counter(dropped=self._no_room + self._not_written, suppressed=suppressed)

    def emit(self, record: logging.LogRecord) -> None:
        """Never waits, never raises."""
        try:
            self._lines.put_nowait(self.format(record))
        except Exception:  # noqa: BLE001 - no room, or arguments that do not fit their message
            self._no_room += 1

    def close(self) -> None:
        """Write what is queued, within FLUSH_SECONDS."""
        super().close()
        try:
            self._lines.put(None, timeout=FLUSH_SECONDS)
        except queue.Full:
            return
        self._thread.join(FLUSH_SECONDS)

    def _write_all(self) -> None:
        while True:
            try:
                line = self._lines.get(timeout=1.0)
            except queue.Empty:
                line = ""
            if line:
                self._write(line)
            for summary in self._limit.take_summaries() if self._limit else ():
                self._write(self.format(summary))
            if line is None:
                os.close(self._descriptor)
                return

    def _write(self, line: str) -> None:
        """All of it, or it counts as dropped."""
        rest = f"{line}\n".encode(errors="backslashreplace")
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            self._not_written += 1


def _line_handlers() -> list[LineHandler]:
    return [handler for handler in logging.getLogger().handlers if isinstance(handler, LineHandler)]


def _summary(name: str, level: int, template: str, suppressed: int) -> logging.LogRecord:
    fields = {"name": name, "levelno": level, "levelname": logging.getLevelName(level), "suppressed": suppressed}
    return logging.makeLogRecord({**fields, "msg": "suppressed %d more of: %s", "args": (suppressed, template)})


def _time(created: float) -> str:
    """RFC 3339 in UTC."""
    return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extra_fields(record: logging.LogRecord) -> dict[str, object]:
    extra = {name: value for name, value in record.__dict__.items() if name not in STANDARD_FIELDS}
    return {name: value if _is_json(value) else _cut(str(value)) for name, value in extra.items()}


def _is_json(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and math.isfinite(value))


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info else ""


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text) - LONGEST} characters more)"


def _plain(value: object) -> str:
    """Cut to length, on one line: what does not print is escaped, so that no client can forge a line."""
    text = _cut(str(value))
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
