"""A long stream through a real server with the shipped weights: memory stays where it was after warm-up.

`pytest -s tests/end_to_end/test_long_stream.py` prints the figures that stand in the README.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from maskstream.client import MaskStreamClient
from maskstream.moving_shapes import render
from maskstream.tracker import Frame, Prompt

FRAMES, SIZE, OBJECTS = 2000, (144, 256), (1, 2, 3)
WARM_UP_FRAMES = 500
ALLOWED_GROWTH_MIB = 8  # over 1,500 frames; one record of the bank kept a frame would be over 300

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """Process id and gRPC address."""
    announce = tmp_path / "server.json"
    command = [sys.executable, "-m", "serve", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    command += ["--short-side", str(SIZE[0]), "--announce", str(announce)]
    with (tmp_path / "server.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        while not announce.exists():
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            time.sleep(0.1)
        yield process.pid, json.loads(announce.read_text())["listen"]
        process.terminate()
        assert process.wait(30) == 0, "the server drains and leaves with status 0"


def resident_mib(process_id: int) -> float:
    lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def back_and_forth(clip: list[Frame], count: int) -> Iterator[Frame]:
    period = [*clip, *clip[-2:0:-1]]
    return (period[index % len(period)] for index in range(count))


def test_memory_and_speed_of_2000_frames_stay_level(server: tuple[int, str]) -> None:
    process_id, target = server
    clip = render(60, SIZE)
    prompts = {0: [Prompt(i, clip.id_maps[0] == i) for i in OBJECTS]}
    memory, answered_at = {}, []
    with MaskStreamClient(target) as client, client.open(delivery="lossless") as stream:
        for answer in stream.propagate(back_and_forth(list(clip.frames), FRAMES), prompts):
            assert answer.error is None
            answered_at.append(time.perf_counter())
            if answer.index % WARM_UP_FRAMES == 0 or answer.index == FRAMES - 1:
                memory[answer.index] = resident_mib(process_id)
    milliseconds = 1000 * np.diff(answered_at)
    early, late = (statistics.median(part) for part in (milliseconds[100:600], milliseconds[-500:]))
    print("\nresident MiB by frame:", {index: round(mib, 1) for index, mib in memory.items()})
    print(f"median ms a frame: {early:.1f} over frames 100 to 600, {late:.1f} over the last 500")
    assert len(answered_at) == FRAMES
    assert memory[FRAMES - 1] - memory[WARM_UP_FRAMES] < ALLOWED_GROWTH_MIB
