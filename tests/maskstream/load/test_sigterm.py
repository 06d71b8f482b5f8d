"""SIGTERM in mid load: a server that drains is found clean, and one that does not is found out."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from process_server import PROGRAM

from maskstream.commands import own_program
from maskstream.load.encoded_clip import encoded_clip
from maskstream.load.frame_record import ANSWERED, LOST, FrameRecord, StreamRecord
from maskstream.load.own_server import ServerWishes, own_server
from maskstream.load.plan import Load
from maskstream.load.sigterm import run_sigterm, sigterm_report

TESTS = Path(__file__).resolve().parents[2]
LOAD = Load(streams=3, size=(64, 96), delivery="lossless", duration_seconds=0.5, warm_up_seconds=0.2)
FAKE = PROGRAM.format(delay_seconds=0.01, seconds_per_object=0.0)
# Ends at once, as a program does that has no handler for the signal.
RUDE = "import os, signal, asyncio\n" + FAKE.replace(
    "program.load_server, program.serve = ",
    "asyncio.unix_events._UnixSelectorEventLoop.add_signal_handler = lambda *_: None\n"
    "program.load_server, program.serve = ",
)

Install = Callable[[str], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Lets the load tool start this program for a server."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))

    def put(program: str) -> None:
        monkeypatch.setattr(own_program, "command", lambda _, *flags: [sys.executable, "-c", program, *flags])

    return put


def report_of(folder: Path) -> dict[str, object]:
    with own_server(folder, ServerWishes(LOAD.size, LOAD.streams)) as server:
        return run_sigterm(server, LOAD, encoded_clip(LOAD.size, 1))


def test_a_server_that_drains_loses_nothing(install: Install, tmp_path: Path) -> None:
    install(FAKE)
    report = report_of(tmp_path)
    assert report["clean"], report
    assert report["frames"]["sent"] == report["frames"]["answered"] > 30
    assert report["frames"]["lost"] == 0
    assert report["in_flight_at_signal"] > 0
    assert (report["told_to_leave"], report["closed_well"], report["exit_status"]) == (3, 3, 0)
    assert report["new_stream_refused"] in ("DRAINING", "CONNECTION_BROKEN", "UNAVAILABLE")


def test_a_server_that_just_dies_is_found_out(install: Install, tmp_path: Path) -> None:
    install(RUDE)
    report = report_of(tmp_path)
    assert not report["clean"]
    assert report["frames"]["lost"] > 0
    assert report["exit_status"] == -15
    assert report["told_to_leave"] == 0


def record(outcome: str, ended: float | None) -> StreamRecord:
    frame = FrameRecord(due=1.0, sent=1.0, ended=ended, outcome=outcome)
    return StreamRecord([frame], draining=True)


@pytest.mark.parametrize(
    ("records", "refusal", "status", "clean"),
    [
        ([record(ANSWERED, 2.5)], "DRAINING", 0, True),
        ([record(LOST, None)], "DRAINING", 0, False),
        ([record(ANSWERED, 2.5)], "", 0, False),
        ([record(ANSWERED, 2.5)], "DRAINING", None, False),
        ([record(ANSWERED, 2.5), StreamRecord()], "DRAINING", 0, False),
    ],
)
def test_the_verdict(records: list[StreamRecord], refusal: str, status: int | None, clean: bool) -> None:
    report = sigterm_report(records, 2.0, refusal, status, 3.0)
    assert report["clean"] is clean
    assert report["in_flight_at_signal"] == sum(each.frames != [] and each.frames[0].sent == 1.0 for each in records)


def test_answers_after_the_signal_are_timed() -> None:
    report = sigterm_report([record(ANSWERED, 2.5), record(ANSWERED, 1.5)], 2.0, "DRAINING", 0, 3.0)
    assert (report["answered_after_signal"], report["last_answer_seconds"]) == (1, 0.5)
