"""`maskstream track-many` with its own workers over a few tiny videos: outputs, flags, exit statuses, errors."""

import argparse
import json
from pathlib import Path

import pytest
from tiny_archive import ENGINE, FRAMES, masks_under, words, write_video

from maskstream.archive.jobs import ArchiveError, WorkersFailed
from maskstream.commands import track_many
from maskstream.errors import EngineUnavailable


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    track_many.add_arguments(parser)
    return track_many.run(parser.parse_args(arguments))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_video(tmp_path, "a", seed=1)
    write_video(tmp_path, "b/c", seed=2)
    return tmp_path


def test_videos_are_followed_once_and_again_when_told(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words(root, "out", "--sinks", "masks", "--json", str(root / "first.json"))) == 0
    assert f"{2 * FRAMES} frames in " in capsys.readouterr().out
    assert sorted(path.name for path in (root / "out").iterdir()) == [".lock", "a", "b", "manifest.jsonl"]
    assert sorted(path.name for path in (root / "out/b/c").iterdir()) == ["masks", "record.json"]
    first = masks_under(root / "out")
    assert len(first) == 2 * FRAMES
    report = json.loads((root / "first.json").read_text())
    assert report["videos"] == {"done": 2, "done before": 0, "failed": 0, "no prompt": 0, "not reached": 0}
    assert (report["frames"], report["threads"], report["engine"]) == (2 * FRAMES, 1, ENGINE)
    assert {"versions", "hardware", "git_revision"} <= set(report)

    assert run(*words(root, "out", "--sinks", "masks", "--json", "-")) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["videos"]["done before"] == 2
    assert "done before" in printed.err

    with pytest.raises(ArchiveError, match=r"sinks was \['masks'\] and is \['masks', 'jsonl'\]"):
        run(*words(root, "out", "--sinks", "masks,jsonl"))
    assert run(*words(root, "out", "--sinks", "masks,jsonl", "--restart", "--quiet", "--workers", "1")) == 0
    assert capsys.readouterr() == ("", "")
    assert (root / "out/a/objects.jsonl").exists()
    assert masks_under(root / "out") == first


def test_a_failure_is_the_exit_status_and_a_missing_prompt_is_not(root: Path) -> None:
    (root / "prompts/a.png").unlink()
    (root / "videos/b/c.mp4").write_bytes(b"not a video at all")
    assert run(*words(root, "out", "--json", str(root / "report.json"), "--workers", "1")) == 1
    report = json.loads((root / "report.json").read_text())
    assert report["videos"] == {"done": 0, "done before": 0, "failed": 1, "no prompt": 1, "not reached": 0}
    assert report["without_prompt"] == ["a"]
    assert [(one["video"], one["reason"], one["attempts"]) for one in report["failures"]] == [
        ("b/c", "VIDEO_UNREADABLE", 1)
    ]
    write_video(root, "a", seed=1)
    (root / "videos/b/c.mp4").unlink()
    assert run(*words(root), "--workers", "1") == 0


def test_nothing_to_follow_and_nowhere_to_look_are_said(root: Path) -> None:
    with pytest.raises(ArchiveError, match=r"give --prompts, --auto N, or both"):
        run(str(root / "videos"), "--out", str(root / "out"))
    with pytest.raises(ArchiveError, match=r"none of the 2 videos has a prompt"):
        run(str(root / "videos"), "--prompts", str(root / "videos"), "--out", str(root / "out"))
    with pytest.raises(ArchiveError, match=r"--out is the folder of the videos"):
        run(str(root / "videos"), "--auto", "1", "--out", str(root / "prompts/../videos"))
    (root / "empty").mkdir()
    with pytest.raises(ArchiveError, match=r"no video in it"):
        run(str(root / "empty"), "--auto", "1", "--out", str(root / "out"))


def test_an_engine_that_is_unknown_is_refused_before_any_worker(root: Path) -> None:
    with pytest.raises(EngineUnavailable, match="no engine is called 'steam'"):
        run(*words(root), "--engine", "steam")
    assert not (root / "out/.scratch").exists()


def test_an_engine_that_no_worker_can_open_ends_the_run(root: Path) -> None:
    with pytest.raises(WorkersFailed, match=r"no worker could be started: .*fp16"):
        run(*words(root), "--engine", "onnxruntime:fp16", "--workers", "1")


@pytest.mark.parametrize(
    "flags",
    [
        ("--workers", "0"),
        ("--workers", "many"),
        ("--threads", "-1"),
        ("--stall-seconds", "0"),
        ("--stall-seconds", "nan"),
        ("--auto", "256"),
        ("--sinks", "film"),
    ],
)
def test_flags_that_mean_nothing_are_refused(root: Path, flags: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as refused:
        run(*words(root), *flags)
    assert refused.value.code == 2


def test_prompts_in_the_archive_itself_are_not_videos(root: Path) -> None:
    (root / "prompts").rename(root / "videos/prompts")
    assert run(str(root / "videos"), "--prompts", str(root / "videos/prompts"), *words(root)[3:], "--workers", "1") == 0
    assert len(masks_under(root / "out")) == 2 * FRAMES
