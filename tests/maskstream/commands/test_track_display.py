"""What a run shows: numbers and states that are right, a live table on a real terminal, plain lines elsewhere."""

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from maskstream.commands import track_display
from maskstream.commands.track_display import Progress, display
from maskstream.followed import FollowedFrame
from maskstream.tracker import ObjectState


def followed(*lost: bool, age_seconds: float | None = None, dropped: int = 0) -> FollowedFrame:
    """A frame whose objects 1, 2, ... are lost or not."""
    seen = tuple(ObjectState(i, 0.25 * i, 1.0, 100 * i, None, is_lost) for i, is_lost in enumerate(lost, start=1))
    frame = np.zeros((4, 4, 3), np.uint8)
    return FollowedFrame(0, 0.0, frame, frame[..., 0], seen, {}, age_seconds, dropped)


def states_after(frames: Sequence[FollowedFrame]) -> list[str]:
    progress = Progress(None)
    for one in frames:
        progress.add(one)
    return [progress.state_of(seen) for seen in progress.objects]


def test_lost_is_counted_in_frames_since_it_was_seen() -> None:
    assert states_after([followed(False, False)]) == ["followed", "followed"]
    assert states_after([followed(False), followed(True)]) == ["lost since 1 frame"]
    assert states_after([followed(False), *[followed(True)] * 7]) == ["lost since 7 frames"]
    assert states_after([followed(False), *[followed(True)] * 7, followed(False), followed(True)])[0].endswith(
        "1 frame"
    )
    assert states_after([followed(True), followed(True)]) == ["lost since 2 frames"]  # from its first frame on


def test_headline_of_a_recording_and_of_a_camera() -> None:
    recording, camera = Progress(12), Progress(None)
    recording.add(followed(False))
    assert recording.headline().startswith("1/12 frames, ")
    assert "age" not in recording.headline()
    camera.add(followed(False, age_seconds=0.5, dropped=2))
    camera.add(followed(False, age_seconds=0.25, dropped=3))
    assert camera.headline().startswith("2 frames, ")
    assert camera.headline().endswith("age 0.25 s, 5 dropped")


def test_rate_is_that_of_the_last_frames() -> None:
    progress = Progress(None)
    time.sleep(0.3)
    for _ in range(track_display._RATE_FRAMES + 1):
        progress.add(followed())
        time.sleep(0.001)
    assert progress.frames_per_second > 250  # not 60 in 0.4 s


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track_display, "_LINE_SECONDS", 0.0)
    with display(3) as shown:
        shown.show(followed(False, True))
        shown.say("camera 0: lost")
    printed = capsys.readouterr()
    assert printed.out == ""
    first, second = printed.err.splitlines()
    assert first.startswith("track: 1/3 frames, ")
    assert first.endswith("; 1 followed 0.25; 2 lost since 1 frame 0.50")
    assert second == "camera 0: lost"


def test_a_short_run_still_has_its_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    with display(3) as shown:
        shown.show(followed())
        shown.show(followed())
    assert capsys.readouterr().err.startswith("track: 2/3 frames, ")


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with display(3, quiet=True) as shown:
        shown.show(followed(False))
        shown.say("camera 0: lost")
    assert tuple(capsys.readouterr()) == ("", "")


def test_table_has_a_row_for_each_object_and_ends() -> None:
    table = track_display._Table(100)
    table.show(followed(False, True, age_seconds=0.5))
    console = Console(file=io.StringIO(), width=80)
    console.print(table._drawn())
    text = console.file.getvalue()
    assert "1/100 frames" in text
    assert "age 0.50 s, 0 dropped" in text
    assert [line.split() for line in text.splitlines()][2] == ["object", "state", "score", "area"]  # below the bar
    rows = [line.split() for line in text.splitlines() if "px" in line]
    assert [row[1:] for row in rows] == [
        ["1", "followed", "0.25", "100", "px"],
        ["2", "lost", "since", "1", "frame", "0.50", "200", "px"],
    ]
    table.show(followed(*[False] * 30))
    console.print(table._drawn())
    assert "and 10 more" in console.file.getvalue()


ON_A_TERMINAL = """
import sys
from fakes import FakeNetworks
from maskstream import cli
from maskstream.commands import track
track.networks_from = lambda arguments: FakeNetworks(delay_seconds=0.1)
sys.exit(cli.main(sys.argv[1:]))
"""


def test_command_on_a_real_terminal(tmp_path: Path) -> None:
    from maskstream.video import VideoWriter

    with VideoWriter(tmp_path / "clip.mp4") as video:
        for number in range(8):
            video.write(np.full((64, 96, 3), 20 * number, np.uint8))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    words = [sys.executable, "-c", ON_A_TERMINAL, "track", str(tmp_path / "clip.mp4"), "--prompt", "8,8,48,32"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm"}
    out = subprocess.PIPE
    with subprocess.Popen([*words, "--out", str(tmp_path)], stdout=out, stderr=theirs, env=environment) as program:
        os.close(theirs)
        shown = read_all(ours)
    assert program.returncode == 0, shown
    assert "followed" in shown
    assert "8/8 frames" in shown
    assert "\x1b[" in shown  # drawn over, not scrolled


def read_all(terminal: int) -> str:
    data = b""
    try:
        while piece := os.read(terminal, 65536):
            data += piece
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(terminal)
    return data.decode()
