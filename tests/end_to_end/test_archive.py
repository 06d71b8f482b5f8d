"""`maskstream track-many` under fire: a worker killed in mid-video, Ctrl-C, the command itself killed."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tiny_archive import FRAMES, LONG, masks_under, start, ten_videos, until, words, workers_at, write_video

from maskstream.archive.jobs import ArchiveError
from maskstream.archive.out_lock import held

GOOD = {*(f"good{number}" for number in range(6)), "deep/down/good6"}
BAD = {"corrupt", "empty"}


def run(root: Path, out: str, *more: str) -> tuple[int, dict[str, Any], str]:
    """Exit status, report and stderr of the command."""
    return ended(start(words(root, out, "--sinks", "masks,jsonl", "--json", "-", *more)))


def ended(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    printed, told = process.communicate(timeout=120)
    return process.returncode, json.loads(printed) if printed else {}, told


def records(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()[1:]]


def in_the_long_video(out: Path) -> dict[int, Path]:
    return workers_at(out, FRAMES + 2)


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_and_the_result_is_that_of_one_worker(tmp_path: Path) -> None:
    ten_videos(tmp_path)
    out = tmp_path / "killed"
    process = start(words(tmp_path, "killed", "--sinks", "masks,jsonl", "--json", "-", "--workers", "2"))
    until(lambda: in_the_long_video(out))
    (worker,) = in_the_long_video(out)
    os.kill(worker, signal.SIGKILL)
    status, report, told = ended(process)
    assert status == 1  # two videos cannot be read
    assert "good0: the worker was killed by SIGKILL (out of memory?); it is tried once more" in told
    assert report["videos"] == {"done": 7, "done before": 0, "failed": 2, "no prompt": 1, "not reached": 0}
    assert report["frames"] == LONG + 6 * FRAMES
    assert {one["video"] for one in report["failures"]} == BAD
    assert {record["video"]: record["attempts"] for record in records(out) if record["state"] == "done"} == {
        **dict.fromkeys(GOOD, 1),
        "good0": 2,
    }
    assert len(masks_under(out)) == LONG + 6 * FRAMES

    before = {name: (out / name / "record.json").stat().st_mtime_ns for name in GOOD}
    status, report, _ = run(tmp_path, "killed")
    assert status == 1
    assert report["videos"] == {"done": 0, "done before": 7, "failed": 2, "no prompt": 1, "not reached": 0}
    assert {name: (out / name / "record.json").stat().st_mtime_ns for name in GOOD} == before

    status, report, _ = run(tmp_path, "alone", "--workers", "1")
    assert (status, report["videos"]["done"], report["workers"]) == (1, 7, 1)
    assert masks_under(tmp_path / "alone") == masks_under(out)


@pytest.mark.slow
def test_a_worker_that_hangs_is_killed_and_its_video_tried_again(tmp_path: Path) -> None:
    write_video(tmp_path, "a", LONG)
    process = start(words(tmp_path, "out", "--sinks", "masks,jsonl", "--json", "-", "--stall-seconds", "4"))
    until(lambda: in_the_long_video(tmp_path / "out"))
    (worker,) = in_the_long_video(tmp_path / "out")
    os.kill(worker, signal.SIGSTOP)
    status, report, told = ended(process)
    assert (status, report["videos"]["done"], records(tmp_path / "out")[0]["attempts"]) == (0, 1, 2)
    assert "a: no frame for 4 seconds, after " in told
    assert not alive(worker)


@pytest.mark.slow
@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_is_gone_on_with(tmp_path: Path, blow: signal.Signals) -> None:
    for name, frames in (("a", FRAMES), ("b", LONG), ("c", FRAMES)):
        write_video(tmp_path, name, frames)
    out = tmp_path / "out"
    process = start(words(tmp_path, "out", "--sinks", "masks,jsonl", "--json", "-", "--workers", "1"))
    until(lambda: in_the_long_video(out))
    (worker,) = in_the_long_video(out)
    if blow == signal.SIGKILL:
        with pytest.raises(ArchiveError, match=f"another run .process {process.pid} on "), held(out):
            pass
    os.killpg(process.pid, blow)  # as a terminal does it, to all of the group
    status, report, told = ended(process)
    until(lambda: not alive(worker), 10.0)
    assert [record["video"] for record in records(out)] == ["a"]
    assert not (out / "b").exists()
    if blow == signal.SIGINT:
        assert (status, report["interrupted"]) == (130, True)
        assert report["videos"] == {"done": 1, "done before": 0, "failed": 0, "no prompt": 0, "not reached": 2}
        assert not (out / ".scratch").exists()
        assert "Traceback" not in told
    else:
        with (out / "manifest.jsonl").open("a") as manifest:
            manifest.write('{"video": "b", "state": "do')  # as if it had been killed in mid-line
    status, report, _ = run(tmp_path, "out")
    assert (status, report["videos"]["done before"], report["videos"]["done"]) == (0, 1, 2)
    assert not (out / ".scratch").exists()
    assert next(record["video"] for record in records(out)) == "a"
    assert len(masks_under(out)) == LONG + 2 * FRAMES
